"""Answers collected from many models: what is asked, kept, paid for, and told of."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import taught
from collecting import Talking, arguments, echo, models_file, questions_file, rows, said
from conftest import PATIENCE_S, build_model, make_samples, train_byte_tokenizer, write_jsonl
from judging import run_command
from played import QUICK, Reply, failed
from serving import local_stack

from judgelm.collection import AnswerModel, CollectSettings, Question, collect, local, read_models, read_questions
from judgelm.collection import servers as collected_servers
from judgelm.collection.collected import Collection
from judgelm.dialogue import Turn
from judgelm.engine.loading import find_loader
from judgelm.engine.openai.requests import Retries, seed_of
from judgelm.errors import InputError
from judgelm.jsonl import read_json
from judgelm.ranking import make_pairs

pytestmark = pytest.mark.usefixtures("without_a_key")

KEY = "sk-secret-0123456789"
CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collected_servers, "PATIENT", QUICK)


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the log, whose lines stand as they came."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.name != "log.jsonl"}


def test_two_servers_are_asked_at_once_and_their_answers_make_an_arena(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def meet(number: int, text: str) -> Reply:
        """The first question to one server is answered once the other has it too."""
        if number == 0:
            both.wait(PATIENCE_S)
        return said(text)

    both = threading.Barrier(2)
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    questions_file(tmp_path, 5)
    with (
        Talking(lambda number, _, body: meet(number, f"a{echo(body)}")) as one,
        Talking(lambda number, *_: meet(number, "b" * number)) as other,
    ):
        first: dict[str, Any] = {
            "model": "org/a-7b",
            "base_url": one.url,
            "api_key_env": "MY_KEY",
            "system": "Be brief.",
        }
        first |= {"temperature": 0.5, "top_p": 0.9, "max_tokens": 77, "price": [2, 10], "max_concurrency": 2}
        second = {"model": "b", "name": "Model B", "base_url": other.url, "temperature": 0}
        models_file(tmp_path, first, second | {"request_fields": {"top_k": 3, "max_tokens": None}})
        assert run_command(arguments(tmp_path)) == 0
    assert one.most <= 2
    assert one.keys == {f"Bearer {KEY}"}
    assert other.keys == {None}
    body = next(body for body in one.bodies if body["messages"][-1]["content"].startswith("Question 3:"))
    question = {"role": "user", "content": "Question 3: what is 3 + 3?"}
    assert body == {
        **{"model": "org/a-7b", "messages": [{"role": "system", "content": "Be brief."}, question]},
        **{"max_tokens": 77, "temperature": 0.5, "top_p": 0.9, "seed": seed_of(0, "3")},
    }
    assert {frozenset(body) for body in other.bodies} == {
        frozenset({"model", "messages", "temperature", "seed", "top_k"})
    }
    files = [tmp_path / "out" / "answers" / name for name in ("a-7b.jsonl", "Model-B.jsonl")]
    assert rows(files[0])[3] == {
        **{"question_id": 3, "question_body": question["content"], "text": f"a{echo(body)}", "model": "a-7b"},
        **{"decoding_method": "temperature 0.5, top_p 0.9", "finish_reason": "stop"},
        **{"prompt_tokens": 100, "generated_tokens": 20},
    }
    pairs = make_pairs(files)
    assert [(r["question_id"], r["answer2_body"], r["answer2_model_id"]) for r in pairs] == [
        (f"{k}/1-2", "b" * k, "Model B") for k in range(5)
    ]
    found = read_json(tmp_path / "out" / "collect.json")
    # 5 x 100 tokens for 2 and 5 x 20 for 10 a million
    assert (found["finished"], found["questions"], found["cost"]) == (True, 5, 0.002)
    assert [(m["name"], m["answers"], m["cost"], m["empty"]) for m in found["models"]] == [
        ("a-7b", 5, 0.002, []),
        ("Model B", 5, None, ["0"]),
    ]
    assert found["models"][0]["settings"]["system"] == "Be brief."
    shown = capsys.readouterr()
    assert "a-7b: 5 answers; 500 prompt tokens, 100 generated tokens, cost 0.002\n" in shown.out
    assert "Model B: 5 answers, 1 empty; 500 prompt tokens, 100 generated tokens\n  empty answers to 0\n" in shown.out
    assert "cost 0.00" in shown.err
    everything = "".join(content.decode() for content in contents(tmp_path / "out").values())
    assert KEY not in everything + shown.out + shown.err + (tmp_path / "out" / "log.jsonl").read_text()


def test_models_of_one_server_share_its_places(tmp_path: Path) -> None:
    questions_file(tmp_path, 8)
    with Talking(pause_s=0.02) as server:
        shared = {"base_url": server.url, "max_concurrency": 2}
        models_file(tmp_path, {"model": "a", **shared}, {"model": "b", **shared, "max_concurrency": 9})
        assert run_command(arguments(tmp_path)) == 0
    assert server.most == 2
    assert len(server.asked) == 16


def kill_at(step: int, folder: Path) -> None:
    """Kill this process before the step-th time that it opens or renames a file of the folder, or writes a reply."""
    left = step

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if event in ("open", "os.rename", "os.truncate") and str(folder) in str(args[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def run_killed(folder: Path, output: str, step: int, pause_s: float) -> int:
    """The status of a run in a process of its own, killed at a step of its work on files, or after a while."""
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if step:
            kill_at(step, folder / output)
        os._exit(run_command(arguments(folder, "--samples", "2", output=output)))
    if not step:
        time.sleep(pause_s)
        os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def whole_lines(log: Path) -> list[bytes]:
    return log.read_bytes().split(b"\n")[:-1] if log.exists() else []


def asked_for(line: bytes) -> tuple[str, int, int]:
    """Model, question and seed of a reply in the log."""
    reply = json.loads(line)
    number, sample = reply["question_id"], reply.get("sample", 1)
    return reply["model"], number, seed_of(0, str(number) if sample == 1 else f"{number}#{sample}")


def test_killed_at_random_it_goes_on_to_the_same_bytes_and_pays_for_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server fails half of the time, answers by what it is asked, refuses one question and has nothing for one."""
    monkeypatch.setattr(collected_servers, "PATIENT", Retries(30, 0.001, 0.02))
    rng = random.Random(5)

    def talk(number: int, before: int, body: dict[str, Any]) -> Reply:
        with server.lock:
            if rng.random() < 0.5:
                return failed(503, "busy")
            asked = body["model"], number, body["seed"]
            answered[asked] += 1
            again.extend({asked} & there)
        if number == 3:
            return failed(400, "The prompt was flagged", "content_policy_violation")
        return said("" if number == 4 else echo(body))

    answered: Counter[tuple[str, int, int]] = Counter()
    there: set[tuple[str, int, int]] = set()
    again: list[tuple[str, int, int]] = []
    questions_file(tmp_path, 12)
    with Talking(talk) as server:
        shared = {"base_url": server.url, "price": [1, 2], "max_concurrency": 3}
        models_file(tmp_path, {"model": "a", **shared}, {"model": "b", **shared, "system": "Think."})
        assert run_command(arguments(tmp_path, "--samples", "2", output="undisturbed")) == 0
        assert set(answered.values()) == {1}
        assert len(answered) == 2 * 2 * 12
        killed = 0
        for trial in range(3):
            output, ended = f"out{trial}", False
            answered.clear()
            before = killed
            while not ended:
                there |= {asked_for(line) for line in whole_lines(tmp_path / output / "log.jsonl")}
                status = run_killed(tmp_path, output, rng.choice([0, rng.randint(1, 12)]), rng.uniform(0.05, 0.4))
                ended = not os.WIFSIGNALED(status)
                killed += not ended
                assert ended is False or os.WEXITSTATUS(status) == 0
            assert contents(tmp_path / output) == contents(tmp_path / "undisturbed")
            # of each run that was killed what was under way is lost: three places, and as many on their way to the log
            assert 48 <= answered.total() <= 48 + 6 * (killed - before)
            there.clear()
        assert again == []
        assert killed > 3
        asked = len(server.asked)
        assert run_command(arguments(tmp_path, "--samples", "2", output="out0")) == 0
        assert len(server.asked) == asked
    found = rows(tmp_path / "out0" / "answers" / "a.jsonl")
    assert [row["question_id"] for row in found[:4]] == [0, "0#2", 1, "1#2"]
    assert found[0]["text"] != found[1]["text"]
    counts = read_json(tmp_path / "out0" / "collect.json")["models"][1]
    assert [each["question_id"] for each in counts["failed"]] == ["3", "3#2"]
    assert counts["failed"][0]["reason"] == "400 The prompt was flagged"
    assert counts["empty"] == ["4", "4#2"]
    assert {row["question_id"]: row["text"] for row in found if "3" in str(row["question_id"])}["3#2"] == ""


def test_no_reply_that_was_kept_is_asked_for_again(tmp_path: Path) -> None:
    """Whatever a killed process left of its last line."""
    questions_file(tmp_path, 6)
    with Talking(lambda _, __, body: said(echo(body))) as server:
        models_file(tmp_path, {"model": "a", "base_url": server.url})
        assert run_command(arguments(tmp_path)) == 0
        log, whole = tmp_path / "out" / "log.jsonl", contents(tmp_path / "out")
        lines = log.read_bytes().splitlines(keepends=True)
        for left, again in (
            (lines[:3], 3),
            ([*lines[:3], lines[3][:20]], 3),
            ([*lines[:3], lines[3].rstrip()], 2),
            ([*lines[:3], b'{"model": "a", "question_id": 0, "te'], 3),
        ):
            log.write_bytes(b"".join(left))
            server.asked.clear()
            assert run_command(arguments(tmp_path)) == 0
            kept = {json.loads(line)["question_id"] for line in lines[: 6 - again]}
            assert server.numbers() == sorted(set(range(6)) - kept)
            assert contents(tmp_path / "out") == whole


THOUGHTS = {
    0: said("4", reasoning_content=" Two and two. "),
    1: said("<think>\nHm.\n</think>\n\n4"),
    2: said("Hm, four.</think>4"),
    3: said("<think>Hm, it goes on", "length"),
    4: said("The tag <think> opens, </think> closes."),
    5: said(None, "length", reasoning="on and on"),
    6: said([{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "4"}]),  # type: ignore[arg-type]
    7: said("and on and on", "length"),
}


def test_thoughts_are_left_out_of_answers_and_kept_beside_them(tmp_path: Path) -> None:
    questions_file(tmp_path, len(THOUGHTS))
    with Talking(lambda number, *_: THOUGHTS[number]) as server:
        thinks = {"model": "b", "base_url": server.url, "max_thinking_tokens": 1000, "max_tokens": 100}
        models_file(tmp_path, {"model": "a", "base_url": server.url}, thinks)
        assert run_command(arguments(tmp_path)) == 0
    assert {(body["model"], body["max_tokens"]) for body in server.bodies} == {("a", 2048), ("b", 1100)}
    plain, thinking = (
        {row["question_id"]: (row["text"], row.get("thoughts")) for row in rows(tmp_path / "out/answers" / name)}
        for name in ("a.jsonl", "b.jsonl")
    )
    shared = {
        0: ("4", "Two and two."),
        1: ("4", "Hm."),
        3: ("", "Hm, it goes on"),
        5: ("", "on and on"),
        6: ("4", "Hm."),
    }
    text = "The tag <think> opens, </think> closes."
    assert plain == {**shared, 2: ("Hm, four.</think>4", None), 4: (text, None), 7: ("and on and on", None)}
    assert thinking == {**shared, 2: ("4", "Hm, four."), 4: ("closes.", "The tag  opens,"), 7: ("", "and on and on")}
    assert [m["thoughts"] for m in read_json(tmp_path / "out/collect.json")["models"]] == [5, 8]
    assert [m["cut_off"] for m in read_json(tmp_path / "out/collect.json")["models"]] == [3, 3]


HOSTILE = {
    0: said(f"your key is {KEY}"),
    1: said("\x00\x1b[31m\u202e half \ud83d" + "x" * 10_000),
    2: Reply(200, {"choices": [{"message": {"content": {"a": [1]}}, "finish_reason": 7}], "usage": [3]}),
    3: Reply(
        200, {"choices": [{"message": {"content": "4"}}], "usage": {"prompt_tokens": -3, "completion_tokens": 1e99}}
    ),
    4: Reply(200, '{"choices": ' + "[" * 5000),
    5: said("4", finish_reason="whatever"),
    6: failed(500, f"\x1b[2J {KEY}"),
    7: said('"},\n{"model": "b", "question_id": 1, "text": "forged'),
}


def test_hostile_replies_stay_texts_or_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    questions_file(tmp_path, len(HOSTILE))
    with Talking(lambda number, *_: HOSTILE[number]) as server:
        models_file(tmp_path, {"model": "a", "base_url": server.url, "api_key_env": "MY_KEY", "price": [1, 1]})
        assert run_command(arguments(tmp_path)) == 0
        assert run_command(arguments(tmp_path)) == 0
    found = {row["question_id"]: row for row in rows(tmp_path / "out/answers/a.jsonl")}
    assert found[0]["text"] == "your key is ***"
    assert found[1]["text"] == "\x00\x1b[31m\u202e half \ufffd" + "x" * 10_000
    assert (found[3]["text"], found[3]["prompt_tokens"], found[3]["generated_tokens"]) == ("4", 0, 0)
    assert (found[5]["text"], found[5]["finish_reason"]) == ("4", "stop")
    assert found[7]["text"].startswith('"},\n{"model": "b"')
    assert [k for k, row in found.items() if row["finish_reason"] == "refused"] == [2, 4, 6]
    shown = capsys.readouterr()
    assert "  no answer to 2 (200, but there is no text in the answer, 3 times)" in shown.out
    log = (tmp_path / "out" / "log.jsonl").read_text()
    assert KEY not in log + shown.out + shown.err
    assert "\x1b" not in shown.out


def test_a_server_that_cannot_be_used_ends_for_itself_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    questions_file(tmp_path, 9)
    with Talking() as one, Talking(lambda *_: failed(401, f"no {KEY}")) as other:
        bad = {"model": "b", "base_url": other.url, "api_key_env": "MY_KEY"}
        models_file(tmp_path, {"model": "a", "base_url": one.url}, bad)
        assert run_command(arguments(tmp_path)) == 2
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert last == (
            f"judgelm: error: model b: {other.url} refuses the API key (401 Unauthorized); keys come from the"
            " environment, see api_key_env; 9 of 18 answers are there"
        )
        found = read_json(tmp_path / "out" / "collect.json")
        assert (found["finished"], [m["file"] for m in found["models"]]) == (False, ["answers/a.jsonl", None])
        other.talk = lambda *_: failed(400, "temperature is deprecated for this model")
        assert run_command(arguments(tmp_path)) == 2
        assert "try temperature: 1, or request_fields: '{\"temperature\": null}'" in capsys.readouterr().err
        other.talk = one.talk
        assert run_command(arguments(tmp_path)) == 0
    assert len(one.asked) == 9
    assert read_json(tmp_path / "out" / "collect.json")["finished"] is True


def test_what_was_refused_is_asked_again_where_that_is_wanted(tmp_path: Path) -> None:
    questions_file(tmp_path, 5)
    with Talking(lambda number, *_: failed(500, "oops") if number in (1, 3) else said("4")) as server:
        models_file(tmp_path, {"model": "a", "base_url": server.url, "price": [1, 0]})
        assert run_command(arguments(tmp_path)) == 0
        found = read_json(tmp_path / "out" / "collect.json")["models"][0]
        assert [(each["question_id"], each["finish_reason"]) for each in found["failed"]] == [
            ("1", "refused"),
            ("3", "refused"),
        ]
        server.talk = lambda number, *_: failed(500, "oops") if number == 3 else said("5")
        server.asked.clear()
        assert run_command(arguments(tmp_path, "--retry-failed")) == 0
        assert set(server.numbers()) == {1, 3}
    assert [row["text"] for row in rows(tmp_path / "out/answers/a.jsonl")] == ["4", "5", "4", "", "4"]
    found = read_json(tmp_path / "out" / "collect.json")["models"][0]
    assert ([each["question_id"] for each in found["failed"]], found["prompt_tokens"]) == (["3"], 400)


def test_a_collection_that_grows_and_is_ended_leaves_no_shorter_file(tmp_path: Path) -> None:
    questions_file(tmp_path, 6)
    file = tmp_path / "out" / "answers" / "a.jsonl"
    with Talking(lambda number, *_: failed(401, "no key") if number == 4 else said("4")) as server:
        models_file(tmp_path, {"model": "a", "base_url": server.url, "max_concurrency": 1})
        assert run_command(arguments(tmp_path, "--limit", "3")) == 0
        assert len(rows(file)) == 3
        assert run_command(arguments(tmp_path)) == 2
        assert not file.exists()
        # those of the first collection are there as they were
        asked = len(server.asked)
        assert run_command(arguments(tmp_path, "--limit", "3")) == 0
        assert (len(rows(file)), len(server.asked)) == (3, asked)


def test_how_a_server_is_asked_is_said_as_it_is() -> None:
    def said(**more: Any) -> str:
        return AnswerModel("m", base_url="http://h/v1", **more).decoding_method

    assert said() == "temperature 0.7"
    assert said(temperature=0, top_p=0.5) == "greedy"
    assert said(top_p=0.9) == "temperature 0.7, top_p 0.9"
    assert said(top_p=0.9, request_fields={"temperature": 0.25, "top_p": None}) == "temperature 0.25"
    assert said(request_fields={"temperature": None}) == "the server's sampling"


def test_a_further_answer_is_never_taken_for_that_of_another_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [{"question_id": each, "question_body": f"Question {each}"} for each in ("1", "1#2")]
    write_jsonl(tmp_path / "questions.jsonl", named)
    with Talking() as server:
        models_file(tmp_path, {"model": "a", "base_url": server.url})
        # a later run without a limit, and with one answer each, would find "1#2" answered
        assert run_command(arguments(tmp_path, "--samples", "2", "--limit", "1")) == 2
        assert "question_id 1#2 is that of answer 2 to 1" in capsys.readouterr().err
        assert server.asked == []


def test_files_of_others_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions_file(tmp_path, 2)
    mine = tmp_path / "out" / "answers" / "a.jsonl"
    write_jsonl(mine, [{"question_id": 0, "question_body": "q", "text": "mine"}])
    before = mine.read_bytes()
    with Talking() as server:
        models_file(tmp_path, {"model": "a", "base_url": server.url})
        assert run_command(arguments(tmp_path)) == 2
        assert "answers/a.jsonl exists already without collect.json" in capsys.readouterr().err
        assert server.asked == []
        assert mine.read_bytes() == before
        mine.rename(tmp_path / "mine.jsonl")
        assert run_command(arguments(tmp_path)) == 0
        # once it is a collection, its files are its own
        assert run_command(arguments(tmp_path)) == 0


def test_more_samples_questions_and_models_join_a_collection(tmp_path: Path) -> None:
    questions_file(tmp_path, 4)
    with Talking(lambda _, __, body: said(echo(body))) as server:
        first, second = ({"model": name, "base_url": server.url} for name in "ab")
        models_file(tmp_path, first)
        assert run_command(arguments(tmp_path, "--limit", "2")) == 0
        before = rows(tmp_path / "out/answers/a.jsonl")
        models_file(tmp_path, first, second)
        assert run_command(arguments(tmp_path, "--samples", "2")) == 0
    after = rows(tmp_path / "out/answers/a.jsonl")
    assert [row["question_id"] for row in after] == [0, "0#2", 1, "1#2", 2, "2#2", 3, "3#2"]
    assert [after[0], after[2]] == before
    assert len(server.asked) == 2 + 6 + 8


def test_a_folder_of_another_collection_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(message: str, *more: str) -> None:
        assert run_command(arguments(tmp_path, *more)) == 2
        assert message in capsys.readouterr().err

    questions_file(tmp_path, 2)
    with Talking() as server:
        good = {"model": "a", "base_url": server.url}
        models_file(tmp_path, good)
        assert run_command(arguments(tmp_path)) == 0
        before = contents(tmp_path / "out")
        refused("is a collection with seed 0, now 1", "--seed", "1")
        models_file(tmp_path, good | {"temperature": 0.1, "max_concurrency": 3})
        refused("is a collection with other settings: a: temperature was 0.7, now 0.1 (name another folder)")
        models_file(tmp_path, good | {"name": "b"})
        refused("has answers of a, which is none of the models")
        models_file(tmp_path, good)
        questions_file(tmp_path, 3)
        refused("is a collection of answers to other questions")
        questions_file(tmp_path, 2)
        log = tmp_path / "out" / "log.jsonl"
        whole = log.read_text()
        log.write_text(whole + '{"model": "a", "question_id": 9, "text": "x", "finish_reason": "stop"}\n')
        refused("holds an answer of a to question_id 9, which nobody asked")
        log.write_text('{"model": "a"}\n' + whole)
        refused("log.jsonl:1: not an answer that was collected (question_id")
        log.write_text(whole)
        (tmp_path / "out" / "collect.json").rename(tmp_path / "aside.json")
        refused("log.jsonl exists already without collect.json")
        (tmp_path / "aside.json").rename(tmp_path / "out" / "collect.json")
        assert contents(tmp_path / "out") == before
        assert run_command(arguments(tmp_path)) == 0
        assert len(server.asked) == 2


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = train_byte_tokenizer()
    tokenizer.chat_template = CHATML
    return build_model(tmp_path_factory.mktemp("model") / "talker", tokenizer, context=256)


def test_local_models_are_asked_one_after_the_other_and_go_on_bit_for_bit(
    tmp_path: Path,
    chat_folder: Path,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    questions = write_jsonl(
        tmp_path / "questions.jsonl",
        [
            *({"question_id": s.question_id, "question_body": s.question} for s in make_samples(5)),
            {"question_id": "long", "question_body": "why? " * 200},
        ],
    )
    shared = {"model": str(chat_folder), "device": "cpu", "dtype": "float32", "max_tokens": 12}
    thinks = shared | {"name": "thinker", "max_thinking_tokens": 8, "system": "Be brief."}
    models = models_file(tmp_path, shared, thinks)
    found = collect(read_questions(questions), read_models(models), tmp_path / "out", CollectSettings(samples=2))
    assert [(m.name, m.answers, [f.question_id for f in m.failed]) for m in found.models] == [
        ("talker", 12, ["long", "long#2"]),
        ("thinker", 12, ["long", "long#2"]),
    ]
    assert "tokens, the context of the model 256" in str(found.models[0].failed[0].reason)
    assert found.models[1].thoughts == 10
    plain, thinking = (rows(tmp_path / "out/answers" / f"{name}.jsonl") for name in ("talker", "thinker"))
    assert plain[0]["text"] != plain[1]["text"]
    assert all(0 < row["generated_tokens"] <= 12 for row in plain[:10])
    assert [row["text"] for row in thinking[:10]] != [row["text"] for row in plain[:10]]
    assert len(found.models[0].settings["model_fingerprint"]) == 64
    whole, log = contents(tmp_path / "out"), tmp_path / "out" / "log.jsonl"
    kept = random.Random(0).sample(log.read_bytes().splitlines(keepends=True), 9)
    log.write_bytes(b"".join(kept))
    assert run_command(arguments(tmp_path, "--samples", "2")) == 0
    assert "9 of 24 answers are there already" in capsys.readouterr().err
    assert contents(tmp_path / "out") == whole
    # a model that has answered all is not loaded
    log.write_bytes(b"".join(line for line in log.read_bytes().splitlines(keepends=True) if b'"thinker"' not in line))
    loaded: list[str] = []

    def find(engine: str) -> Any:
        loaded.append(engine)
        return find_loader(engine)

    monkeypatch.setattr(local, "find_loader", find)
    assert run_command(arguments(tmp_path, "--samples", "2")) == 0
    assert len(loaded) == 1
    assert contents(tmp_path / "out") == whole
    models_file(tmp_path, shared | {"model": str(model_folder)})
    assert run_command(arguments(tmp_path, output="other")) == 2
    assert "cannot be asked in chat: the tokenizer has no chat template" in capsys.readouterr().err
    models_file(tmp_path, shared | {"device": "cuda:7"})
    assert run_command(arguments(tmp_path, output="other")) == 2
    assert "model talker: device cuda:7: this machine has no such device" in capsys.readouterr().err


def test_our_own_server_gives_the_answers_of_its_model_in_this_process(tmp_path: Path, chat_folder: Path) -> None:
    asked = questions_file(tmp_path, 4)
    shared: dict[str, Any] = {"system": "Be brief.", "temperature": 0, "max_tokens": 12}
    here = AnswerModel(str(chat_folder), "here", device="cpu", dtype="float32", **shared)
    with local_stack(chat_folder) as (_, _, api):
        there = AnswerModel("talker", "there", base_url=f"{api.url}/v1", **shared)
        found = collect(read_questions(asked), [here, there], tmp_path / "out")
    texts = [[row["text"] for row in rows(tmp_path / f"out/answers/{name}.jsonl")] for name in ("here", "there")]
    assert texts[0] == texts[1]
    assert all(texts[0])
    assert (found.models[0].prompt_tokens, found.models[0].generated_tokens) == (
        found.models[1].prompt_tokens,
        found.models[1].generated_tokens,
    )


def test_a_teacher_takes_collected_answers_as_any_others(tmp_path: Path) -> None:
    categories = ("odd", "even")
    asked = [
        {"question_id": key, "question_body": taught.question(key), "category": categories[key % 2]}
        for key in taught.ASKED
    ]
    write_jsonl(tmp_path / "questions.jsonl", asked)
    with Talking(lambda key, _, body: said(taught.answer(body["model"][-1], key))) as server:
        models_file(tmp_path, *({"model": f"m-{each}", "base_url": server.url, "temperature": 0} for each in "abc"))
        assert run_command(arguments(tmp_path)) == 0
    collected = [tmp_path / "out" / "answers" / f"m-{each}.jsonl" for each in "abc"]
    with taught.Teacher() as teacher:
        for name, answers in (("collected", collected), ("written", taught.answer_files(tmp_path))):
            assert run_command(taught.arguments(teacher, tmp_path / name, answers)) == 0
    found = taught.written(tmp_path / "collected")
    assert found == taught.written(tmp_path / "written")
    assert b"is worth" in found["train.jsonl"]


def test_collect_json_is_read_back_by_its_type(tmp_path: Path) -> None:
    questions_file(tmp_path, 1)
    with Talking() as server:
        models = [AnswerModel("a", base_url=server.url)]
        found = collect(read_questions(tmp_path / "questions.jsonl"), models, tmp_path / "out")
    assert Collection.read(tmp_path / "out" / "collect.json") == found
    with pytest.raises(InputError, match=r"max_cost nan: expected a number above 0"):
        CollectSettings(max_cost=float("nan"))
    with pytest.raises(ValueError, match="question_id 7: expected turns that end in one of the user"):
        Question(7, (Turn("assistant", "4"),))
    with pytest.raises(InputError, match="two models have the name a"):
        collect(read_questions(tmp_path / "questions.jsonl"), models * 2, tmp_path / "other")
