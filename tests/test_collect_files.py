"""The questions and models of a collection: every form of them, and what is wrong with them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from collecting import Talking, arguments, echo, models_file, questions_file, rows, said
from conftest import write_jsonl
from judging import run_command
from played import QUICK

from judgelm.collection import read_questions
from judgelm.collection import servers as collected_servers
from judgelm.errors import InputError
from judgelm.forms import Columns
from judgelm.ranking import make_pairs

pytestmark = pytest.mark.usefixtures("without_a_key")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collected_servers, "PATIENT", QUICK)


DIGEST = hashlib.sha256(b"Q\n?").hexdigest()[:12]
FORMS: dict[str, tuple[str, list[dict[str, Any]], Any]] = {
    "ours": ("q.jsonl", [{"question_id": 7, "question_body": "Q?", "answer1_body": "a", "answer2_body": "b"}], 7),
    "MT-bench": ("q.jsonl", [{"question_id": 81, "category": "writing", "turns": ["Q?", "And?"]}], 81),
    "Arena-Hard": ("q.jsonl", [{"uid": "u1", "category": "hard", "prompt": "Q?"}], "u1"),
    "Arena-Hard before": ("q.jsonl", [{"question_id": "u1", "turns": [{"content": "Q?"}]}], "u1"),
    "AlpacaEval": ("q.json", [{"instruction": "Q", "input": "?", "output": "a", "dataset": "d"}], DIGEST),
    "preferences": ("q.jsonl", [{"prompt": "Q?", "chosen": "a", "rejected": "b"}], 1),
    "prompts alone": ("q.jsonl", [{"prompt": "Q?"}], 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_questions_are_read_in_every_form(form: str, tmp_path: Path) -> None:
    name, records, question_id = FORMS[form]
    path = tmp_path / name
    path.write_text(json.dumps(records) if name.endswith("json") else json.dumps(records[0]) + "\n")
    (found,) = read_questions(path)
    assert found.question_id == question_id
    asked = "Q\n?" if form == "AlpacaEval" else "Q?"
    assert [turn.to_message() for turn in found.turns] == [{"role": "user", "content": asked}]


def test_dialogues_are_asked_as_chats_and_tables_by_their_columns(tmp_path: Path) -> None:
    talk = [
        {"role": "system", "content": "Rhyme."},
        {"role": "user", "content": "Question 1: what?"},
        {"role": "assistant", "content": "That."},
        {"role": "user", "content": "Question 2: why?"},
    ]
    write_jsonl(tmp_path / "questions.jsonl", [{"question_id": 5, "messages": talk}])
    with Talking(lambda _, __, body: said(echo(body))) as server:
        shared = {"base_url": server.url}
        models_file(tmp_path, {"model": "a", **shared}, {"model": "b", **shared, "system": "Be brief."})
        assert run_command(arguments(tmp_path)) == 0
    seen = {body["model"]: body["messages"] for body in server.bodies}
    assert seen == {"a": talk, "b": [{"role": "system", "content": "Be brief.\n\nRhyme."}, *talk[1:]]}
    (row,) = rows(tmp_path / "out/answers/b.jsonl")
    assert (row["question_body"], row["messages"]) == ("Question 2: why?", talk)
    files = [tmp_path / "out" / "answers" / f"{name}.jsonl" for name in "ab"]
    (pair,) = make_pairs(files)
    assert (pair["messages"], pair["question_body"]) == (talk, "Question 2: why?")
    write_jsonl(files[1], [row | {"messages": talk[1:]}])
    with pytest.raises(InputError, match=r"b\.jsonl:1: messages differ from those of .*a\.jsonl:1"):
        make_pairs(files)
    table = tmp_path / "t.csv"
    table.write_text('number,ask\n8,"What, then?"\n9,7\n')
    found = read_questions(table, Columns.parse("question_id=number,question=ask"))
    assert [(each.question_id, each.turns[-1].text) for each in found] == [(8, "What, then?"), (9, "7")]


def test_images_of_a_question_go_to_servers_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
    asked = [{"type": "text", "text": "Question 1: what is it?"}, picture]
    talk = [{"role": "user", "content": [picture]}, {"role": "assistant", "content": "A cat."}]
    rows_ = [
        {"question_id": 1, "question_body": asked},
        {"question_id": 2, "messages": [*talk, {"role": "user", "content": "Question 2: why?"}]},
    ]
    write_jsonl(tmp_path / "questions.jsonl", rows_)
    with Talking() as server:
        models_file(tmp_path, *({"model": name, "base_url": server.url, "max_concurrency": 1} for name in "ab"))
        assert run_command(arguments(tmp_path)) == 0
        models_file(tmp_path, {"model": "tiny-base"}, {"model": "b", "base_url": server.url})
        assert run_command(arguments(tmp_path, output="other")) == 2
        assert "model tiny-base: question_id 1 has images, which go to servers alone" in capsys.readouterr().err
    sent = [body["messages"] for body in server.bodies if body["model"] == "a"]
    assert sent == [[{"role": "user", "content": asked}], rows_[1]["messages"]]
    pairs = make_pairs([tmp_path / "out" / "answers" / f"{name}.jsonl" for name in "ab"])
    assert pairs[0]["question_body"] == asked
    assert pairs[1]["messages"] == rows_[1]["messages"]


BAD_MODELS: list[tuple[str, str]] = [
    ("models:\n- model: a\n  api_key: sk-secret\n", "models.yaml:3: api_key: is no setting of a model (they are"),
    ("models:\n- model: a\n\n  base_url: 127.0.0.1:8000\n", "models.yaml:4: base_url: "),
    ("models:\n- base_url: http://h/v1\n", "models.yaml:2: field 'model' is missing (found: base_url)"),
    ("models:\n- model: x/a\n- model: b\n- name: A\n  model: c\n", "models.yaml:4: name: A is that of model 1 already"),
    (
        "models:\n- model: a\n  temperature: hot\n",
        "models.yaml:3: temperature: expected a number from 0",
    ),
    ("models:\n- {model: a, top_p: 0}\n", "models.yaml:2: top_p: expected a number above 0, 1 at most, found 0"),
    ("models:\n- {model: a, price: 3}\n", "price: expected two numbers, of a million prompt tokens"),
    ("models:\n- {model: a, base_url: 'http://h/v1', device: cpu}\n", "device: is not for engine openai"),
    ("models:\n- {model: a, api_key_env: K}\n", "api_key_env: is not for engine hf"),
    (
        "models:\n- {model: a, base_url: 'http://h/v1', api_key_env: sk-secret}\n",
        "api_key_env: expected the name",
    ),
    ("models:\n- {model: a, engine: gpt}\n", "engine: expected one of openai, hf, vllm, found 'gpt'"),
    ("models:\n- {model: a, quantization: int3}\n", "quantization: 'int3': expected one of int8"),
    ("models:\n- {model: a, max_tokens: 1.5}\n", "max_tokens: expected a whole number from 1 on, found 1.5"),
    (
        "models:\n- {model: a, base_url: 'http://h/v1', request_fields: {a: 2020-01-01}}\n",
        "request_fields: expected what JSON can say",
    ),
    ('models:\n- {model: a, system: "\\ud83d"}\n', "system: has half a surrogate pair"),
    (f"models:\n- {{model: a, name: {'猫' * 90}}}\n", "models.yaml:2: name: expected 200 bytes at most, found 270"),
    ("models:\n- just a name\n", "models.yaml:2: expected a model with its settings, found str"),
    ("models: []\n", "expected `models:` and below it a list of models"),
    ("- model: a\n", "expected `models:` and below it a list of models"),
    ("models:\n- model: [\n", "models.yaml:3: not YAML"),
    ("models:\n- &a {model: a}\n- *a\n", "aliases (*NAME) are not read in models"),
]


@pytest.mark.parametrize(("text", "message"), BAD_MODELS)
def test_models_that_cannot_be_are_told_with_their_line(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions_file(tmp_path, 2)
    (tmp_path / "models.yaml").write_text(text)
    assert run_command(arguments(tmp_path)) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert "sk-secret" not in err
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_is_told_before_anything_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(message: str, *more: str) -> None:
        assert run_command(arguments(tmp_path, *more)) == 2
        assert message in capsys.readouterr().err

    questions = questions_file(tmp_path, 3)
    with Talking() as server:
        good = {"model": "a", "base_url": server.url}
        models_file(tmp_path, good, {"model": "b", "base_url": server.url, "api_key_env": "NOT_THERE"})
        refused("model b: api_key_env: the environment has no NOT_THERE")
        monkeypatch.setenv("NOT_THERE", "a b")
        refused("the environment's NOT_THERE holds characters that no API key has")
        for field, value in (("stream", True), ("messages", []), ("prompt", None)):
            models_file(tmp_path, good, good | {"name": "b", "request_fields": {field: value}})
            refused(f"a: request field {field}: ")
        models_file(tmp_path, good, {"model": str(tmp_path / "nowhere")})
        refused("nowhere: no such folder")
        models_file(tmp_path, good | {"price": [1, 2]}, {"model": "b", "base_url": server.url})
        refused("model b: max_cost needs its price", "--max-cost", "1")
        models_file(tmp_path, good | {"temperature": 0})
        refused("model a: several samples need a temperature above 0", "--samples", "2")
        models_file(tmp_path, good)
        for content, message in (
            ("", "the file is empty"),
            ('{"question_id": 1}\n', "questions.jsonl:1: field 'question_body' is missing"),
            ('{"question_id": 1, "question_body": " "}\n', "questions.jsonl:1: the question is empty"),
            ('{"question_id": 1, "question_body": "q"}\n' * 2, "question_id 1 stands already in line 1"),
            ('{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n', "the user's"),
        ):
            questions.write_text(content)
            refused(message)
        questions.unlink()
        refused("questions.jsonl: no such file")
        write_jsonl(questions, [{"question_id": each, "question_body": "q"} for each in ("1", "1#2")])
        refused("question_id 1#2 is that of answer 2 to 1", "--samples", "2")
        assert server.asked == []
        assert not (tmp_path / "out" / "log.jsonl").exists()
