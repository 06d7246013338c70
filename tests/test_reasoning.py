"""Judges that think first: thoughts are bounded and closed, kept apart, and the score line follows them."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CHATML, make_samples, train_byte_tokenizer, train_sentencepiece_tokenizer, write_jsonl
from judging import judge_args, run_command
from played import QUICK, Played, Reply, wrote
from test_bases import KINDS, build
from test_prompt_format import MESSAGE, SAMPLE, THINKING, with_template

from judgelm import Judge
from judgelm.criteria import Aspect, Criteria
from judgelm.encoding import decode_after, encode_prompt
from judgelm.engine.hf.engine import HFEngine
from judgelm.engine.interface import Request, Sampling
from judgelm.engine.openai.engine import OpenAIEngine
from judgelm.engine.openai.server import Server
from judgelm.engine.reasoning import Reasoning
from judgelm.engine.row import Row
from judgelm.errors import InputError
from judgelm.judge import JudgeSettings
from judgelm.prompt_form import PromptForm

THINKS = PromptForm(chat=True, reasoning=True)
CLOSED = "\n</think>\n\n"
TURN = "<|assistant|>\n"
KNOWS_TAG = CHATML.replace(TURN, TURN + "{% if tools %}[THINK]{% endif %}")
KNOWS_SETTING = CHATML.replace(TURN, TURN + "{% if not enable_thinking %}<think>\n\n</think>{% endif %}")
PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "8 7"}]


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHATML, "<think>\n"),
        (THINKING, "<think>\n"),
        (KNOWS_TAG, "[THINK]\n"),
        (KNOWS_SETTING, "<think>\n"),
    ],
)
def test_the_assistants_turn_begins_with_the_tag_that_opens_thoughts(template: str, end: str) -> None:
    made = with_template(train_byte_tokenizer(), template)
    prompt = encode_prompt(SAMPLE, "pair", made, 4000, form=THINKS)
    assert prompt.text == f"<s><|user|>\n{MESSAGE}</s>\n<|assistant|>\n{end}"


def row_of(tokenizer: Any, most: int, **sampling: Any) -> Row:
    prompt = encode_prompt(SAMPLE, "pair", tokenizer, 4000, form=THINKS)
    request = Request("1", prompt.text, prompt.input_ids, reasoning="<think>")
    made = Sampling(max_new_tokens=8, reasoning=True, most_thoughts=most, **sampling)
    return Row(request, made, 8, random.Random(1), reasoning=Reasoning("<think>", most))


@pytest.mark.parametrize("train", [train_byte_tokenizer, train_sentencepiece_tokenizer])
def test_thoughts_that_end_by_themselves_are_no_part_of_the_text(train: Any) -> None:
    tokenizer = with_template(train())
    row = row_of(tokenizer, 100, stop=("\n",))
    thought = tokenizer("Hm. 4 is right.\n</think>", add_special_tokens=False).input_ids
    for token in thought:
        assert row.generation is None
        assert row.text == ""
        row.add(token, [tokenizer.eos_token_id], tokenizer)
    # a blank line, whatever the model would write
    while (allowed := row.allowed(dict)) is not None:
        assert len(allowed) == 1
        row.add(allowed[0], [tokenizer.eos_token_id], tokenizer)
    for token in tokenizer("8 7\nGood.", add_special_tokens=False).input_ids:
        if row.generation is None:
            row.add(token, [tokenizer.eos_token_id], tokenizer)
    assert row.generation is not None
    assert row.generation.text.strip() == "8 7"
    assert row.generation.reasoning == "Hm. 4 is right."
    assert row.generation.finish_reason == "stop"
    assert tokenizer.decode(row.tokens).split() == ["Hm.", "4", "is", "right.", "</think>", "8", "7"]


@pytest.mark.parametrize("end", ["bound", "eos"])
def test_thoughts_are_closed_at_their_bound_and_where_the_model_would_stop(end: str, chat_tokenizer: Any) -> None:
    eos = chat_tokenizer.eos_token_id
    row = row_of(chat_tokenizer, 5 if end == "bound" else 100)
    word = chat_tokenizer("so", add_special_tokens=False).input_ids[0]
    for _ in range(5):
        row.add(word, [eos], chat_tokenizer)
    if end == "eos":
        row.add(eos, [eos], chat_tokenizer)
    while (allowed := row.allowed(dict)) is not None:
        row.add(allowed[0], [eos], chat_tokenizer)
    assert eos not in row.tokens
    assert row.generation is None
    assert chat_tokenizer.decode(row.tokens) == chat_tokenizer.decode([word] * 5) + CLOSED
    # the text has all of its own room
    assert row.num_left == 8
    for token in chat_tokenizer("8 7", add_special_tokens=False).input_ids:
        row.add(token, [eos], chat_tokenizer)
    row.add(eos, [eos], chat_tokenizer)
    assert row.generation is not None
    assert (row.generation.text, row.generation.reasoning) == ("8 7", chat_tokenizer.decode([word] * 5).strip())


@pytest.mark.parametrize("kind", ["qwen3", "gemma3_text"])
@pytest.mark.parametrize("constrained", [False, True])
def test_a_model_thinks_up_to_the_bound_and_then_writes_as_transformers_does(
    kind: str, constrained: bool, chat_tokenizer: Any
) -> None:
    theirs = build(kind, chat_tokenizer, **KINDS[kind][1])
    engine = HFEngine(copy.deepcopy(theirs), chat_tokenizer)
    asked = []
    for sample in make_samples(3):
        prompt = engine.fit(sample, "pair", 64, form=THINKS)
        asked.append(Request(sample.key, prompt.text, prompt.input_ids, reasoning="<think>"))
    sampling = Sampling(max_new_tokens=6, most_thoughts=7, reasoning=True, constrained=constrained)
    found = {one.key: one for one in engine.generate(asked, sampling)}
    closing = chat_tokenizer(CLOSED, add_special_tokens=False).input_ids
    for request in asked:
        ids = request.input_ids
        thoughts = write(theirs, ids, 7)
        if 1 in thoughts:
            thoughts = thoughts[: thoughts.index(1)]
        made = found[request.key]
        assert made.reasoning == chat_tokenizer.decode(thoughts).strip()
        ids = [*ids, *thoughts, *closing]
        if constrained:
            first, second = made.text.rstrip("\n").partition("\n")[0].split(" ")
            assert 1 <= int(first) <= 10
            assert 1 <= int(second) <= 10
            continue
        text = [token for token in write(theirs, ids, 6) if token != 1]
        assert made.text == decode_after(ids[-4:], text, chat_tokenizer)


def write(model: Any, ids: list[int], count: int) -> list[int]:
    given = torch.tensor([ids])
    output = model.generate(given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=count)
    tokens: list[int] = output[0, len(ids) :].tolist()
    return tokens


def test_a_long_prompt_leaves_room_for_thoughts_and_for_the_score_line(chat_tokenizer: Any) -> None:
    engine = HFEngine(build("qwen3", chat_tokenizer, head_dim=16), chat_tokenizer)
    request = Request("1", "", [5] * 1900, reasoning="<think>")
    row = engine.start(request, Sampling(max_new_tokens=2048, most_thoughts=4096, reasoning=True))
    assert row.reasoning is not None
    assert (row.reasoning.most, row.max_new_tokens) == (74, 58)


def test_the_record_keeps_both_texts(chat_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", [sample.to_record() for sample in make_samples(3)])
    more = ("--reasoning", "--max-reasoning-token", "9", "--constrained", "--scores-only", "--dtype", "float32")
    args = judge_args(chat_folder, questions, tmp_path / "out", *more)
    assert run_command(args) == 0
    records = [json.loads(line) for line in (tmp_path / "out" / "forward.jsonl").read_text().splitlines()]
    assert len(records) == 3
    for record in records:
        assert record["pred_parse"] == "ok"
        assert record["pred_reasoning"]
        assert "think>" not in record["pred_text"] + record["pred_reasoning"]
        assert record["pred_tokens"] > 9
    settings = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    assert (settings["reasoning"], settings["max_reasoning_tokens"]) == (True, 9)
    assert run_command(args) == 0
    args[args.index("9")] = "10"
    assert run_command(args) == 2
    assert "max_reasoning_tokens was 9, now 10" in capsys.readouterr().err
    # by each aspect
    judge = Judge.load(str(chat_folder), dtype="float32", device="cpu", constrained=True)
    criteria = Criteria("c", (Aspect("Truth", "true"), Aspect("Length", "short")))
    settings_ = JudgeSettings(
        criteria=criteria, constrained=True, prompt_format="chat", reasoning=True, max_reasoning_tokens=4
    )
    (judged,) = judge.run([SAMPLE], ["forward"], settings_)
    reasoning = judged.to_record()["pred_reasoning"]
    assert reasoning.startswith("[Truth]\n")
    assert "\n\n[Length]\n" in reasoning


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--prompt-format", "plain"], "--reasoning is for models asked in their chat template (--prompt-format chat)"),
        (["--task", "single"], "--reasoning is not for task single, whose judgement is begun for the judge"),
        (["--scoring", "expected"], "--reasoning writes thoughts: --scoring expected writes nothing"),
        (["--max-reasoning-token", "0"], "expected a whole number from 1 on"),
    ],
)
def test_where_thoughts_cannot_be_it_is_one_line(
    flags: list[str], problem: str, chat_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", [SAMPLE.to_record()])
    assert run_command(judge_args(chat_folder, questions, tmp_path / "out", "--reasoning", *flags)) == 2
    assert problem in capsys.readouterr().err


def test_from_python_a_plain_judge_does_not_think(model_folder: Path) -> None:
    judge = Judge.load(str(model_folder), dtype="float32", device="cpu")
    with pytest.raises(InputError, match=r"^reasoning is for models asked in their chat template"):
        judge.judge([SAMPLE], reasoning=True)


def thought(field: str, thoughts: Any, text: str = "8 7") -> Reply:
    reply = wrote(text)
    reply.body["choices"][0]["message"][field] = thoughts
    return reply


@pytest.mark.parametrize(
    ("reply", "text", "thoughts"),
    [
        (thought("reasoning_content", "Hm."), "8 7", "Hm."),
        (thought("reasoning", "Hm."), "8 7", "Hm."),
        (thought("content", PARTS), "8 7", "Hm."),
        # in tags of its own, the first of them the template's
        (wrote("<think>Hm.</think>\n\n8 7"), "8 7", "Hm."),
        (wrote("Hm.\n</think>\n\n8 7"), "8 7", "Hm."),
        (wrote("8 7\nGood."), "8 7\nGood.", ""),
        (wrote("<think>Hm. I go on", "length"), "", "Hm. I go on"),
    ],
)
def test_a_servers_thoughts_are_kept_and_room_for_them_is_asked_for(reply: Reply, text: str, thoughts: str) -> None:
    with Played(lambda number, before: reply) as server:
        judge = Judge(OpenAIEngine(Server(server.url, "m", "chat"), QUICK))
        settings = JudgeSettings(reasoning=True, max_reasoning_tokens=300, max_new_tokens=50)
        (judged,) = judge.run(make_samples(1), ["forward"], settings)
        assert [body["max_tokens"] for body in server.bodies] == [350]
    record = judged.to_record()
    assert (record["pred_text"], record["pred_reasoning"]) == (text, thoughts)
    assert judge.description["thoughts_left_out"] == 0


def test_without_reasoning_a_servers_thoughts_are_counted_as_before() -> None:
    with Played(lambda number, before: thought("reasoning_content", "Hm.")) as server:
        judge = Judge(OpenAIEngine(Server(server.url, "m", "chat"), QUICK))
        (judged,) = judge.run(make_samples(1), ["forward"], JudgeSettings())
    assert "pred_reasoning" not in judged.to_record()
    assert judge.description["thoughts_left_out"] == 1
