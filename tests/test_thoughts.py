"""What models thought before they answered: left out of the prompt, kept in the records, and counted."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from conftest import write_jsonl
from hypothesis import given
from hypothesis import strategies as st
from judging import Scripted, run_command

from judgelm import Judge
from judgelm.audit import AuditSettings, run_audit
from judgelm.errors import InputError
from judgelm.evaluation import evaluate
from judgelm.evaluation.results import read_folder
from judgelm.judge import JudgeChoice, JudgeSettings, judge_folder
from judgelm.ranking import run_arena
from judgelm.report.terminal import counts_line
from judgelm.sample import Sample
from judgelm.samples import read_samples
from judgelm.score_lines import leading_thoughts

THOUGHT = "<think>\nHm, <b>two</b>?\n</think>\n\n"
ROWS = [
    {"question_id": 1, "question_body": "2 + 2?", "answer1_body": f"{THOUGHT}4", "answer2_body": "5", "label": 1},
    {"question_id": 2, "question_body": "3 + 3?", "answer1_body": "6", "answer2_body": f" {THOUGHT}", "label": 1},
    {"question_id": 3, "question_body": "4 + 4?", "answer1_body": "8", "answer2_body": "9", "label": 1},
]
PLAIN = [{**row, "answer1_body": f"a{k}", "answer2_body": f"b{k}"} for k, row in enumerate(ROWS)]


class Seen(Scripted):
    """Keeps the prompts it is given."""

    def __init__(self) -> None:
        super().__init__(defaultdict(lambda: "8 7"))
        self.prompts: list[str] = []

    def generate(self, requests: Any, sampling: Any, **how: Any) -> Any:
        self.prompts += [request.prompt for request in requests]
        return super().generate(requests, sampling, **how)


def judge(questions: Path, folder: Path, keep_thinking: bool = False, keep_judged: bool = False) -> tuple[Any, Seen]:
    engine = Seen()
    samples = read_samples(questions, keep_thinking=keep_thinking)
    choice = JudgeChoice("scripted", lambda: Judge(engine), {})
    return judge_folder(samples, folder, choice, JudgeSettings(), keep_judged=keep_judged), engine


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<think>a</think>b", "b"),
        ("\n <THINKING>\na\n</Thinking> \n b", "b"),
        ("[THINK]a[/THINK]b", "b"),
        ("<reasoning>a</reasoning><thought>c</thought>\nb", "b"),
        ("<think></think>", ""),
        ("<think>a</think>b <think>c</think> d", "b <think>c</think> d"),
        # nobody can tell what is thought here, and what is said
        ("<think>a", "<think>a"),
        ("a</think>b", "a</think>b"),
        ("a <think>b</think>", "a <think>b</think>"),
        ("<thinker>a</thinker>", "<thinker>a</thinker>"),
        ("  plain", "  plain"),
        ("", ""),
    ],
)
def test_whole_thoughts_at_the_beginning_are_found(text: str, left: str) -> None:
    assert text[leading_thoughts(text) :] == left


@given(st.lists(st.sampled_from(["<think>", "</think>", "[THINK]", "[/THINK]", " ", "\n", "a"])))
def test_what_is_left_has_no_thoughts_at_its_beginning(parts: list[str]) -> None:
    text = "".join(parts)
    end = leading_thoughts(text)
    assert leading_thoughts(text[end:]) == 0
    assert not end or not text[end : end + 1].isspace()


def test_thoughts_are_not_shown_and_stay_in_the_records(tmp_path: Path) -> None:
    found, engine = judge(write_jsonl(tmp_path / "q.jsonl", ROWS), tmp_path / "out")
    assert "Hm" not in "".join(engine.prompts)
    assert "[The Start of Assistant 1's Answer]\n4\n" in "".join(engine.prompts)
    forward, back = (lines(tmp_path / "out" / f"{order}.jsonl") for order in ("forward", "reversed"))
    assert [record | row for record, row in zip(forward, ROWS, strict=True)] == forward
    assert [record.get("pred_thoughts") for record in forward] == [
        {"answer1_body": len(THOUGHT)},
        {"answer2_body": len(THOUGHT) + 1},
        None,
    ]
    assert back[0]["pred_thoughts"] == {"answer2_body": len(THOUGHT)}
    assert "pred_thoughts" not in forward[2]
    for order, each in found.items():
        said = f"{order}: 3 judged, 0 unparsed, 1 empty answers, 2 thoughts left out"
        assert counts_line(order, each.counts) == said
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (run["settings"]["thoughts_left_out"], run["counts"]["forward"]["thoughts_left_out"]) == (True, 2)
    # what is compared, and shown in reports, is what was judged
    assert [each.answers for each in read_folder(tmp_path / "out")] == [("4", "5"), ("6", ""), ("8", "9")]
    assert evaluate(tmp_path / "out").summary.empty_answers == {"answer 2": 1}


def test_a_run_with_thoughts_goes_on_where_it_stopped(tmp_path: Path) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", ROWS)
    judge(questions, tmp_path / "out")
    whole = lines(tmp_path / "out" / "reversed.jsonl")
    (tmp_path / "out" / "reversed.jsonl").write_text(json.dumps(whole[1]) + "\n")
    _, engine = judge(questions, tmp_path / "out")
    assert engine.prompts
    again = lines(tmp_path / "out" / "reversed.jsonl")
    assert again[1] == whole[1]
    assert [record["pred_text"] for record in again] == ["8 7"] * 3


def test_a_run_begun_before_goes_on_where_no_answer_holds_thoughts(tmp_path: Path) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", PLAIN)
    judge(questions, tmp_path / "out")
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    del run["settings"]["thoughts_left_out"]
    (tmp_path / "out" / "run.json").write_text(json.dumps(run))
    (tmp_path / "out" / "reversed.jsonl").unlink()
    for keep_thinking in (False, True):
        found, _ = judge(questions, tmp_path / "out", keep_thinking)
        assert [each.counts["total"] for each in found.values()] == [3, 3]


def test_a_run_that_showed_thoughts_goes_on_as_it_was_or_judges_those_rows_anew(tmp_path: Path) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", ROWS)
    _, engine = judge(questions, tmp_path / "out", keep_thinking=True)
    assert "Hm" in "".join(engine.prompts)
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    # as a version wrote it that knew of no thoughts
    del run["settings"]["thoughts_left_out"]
    (tmp_path / "out" / "run.json").write_text(json.dumps(run))
    _, engine = judge(questions, tmp_path / "out", keep_thinking=True)
    assert engine.prompts == []
    with pytest.raises(
        InputError,
        match=r"thoughts_left_out was False, now True \(--keep-thinking shows .* --keep-judged keeps the 2 of 6 ",
    ):
        judge(questions, tmp_path / "out")
    _, engine = judge(questions, tmp_path / "out", keep_judged=True)
    assert "Hm" not in "".join(engine.prompts)
    assert [len(lines(tmp_path / "out" / f"forward.jsonl{end}")) for end in ("", ".left-out")] == [3, 2]


def test_thoughts_of_answers_of_all_tasks(tmp_path: Path) -> None:
    row = {"question_id": 1, "question_body": "Q", **{f"answer{k}_body": f"{THOUGHT}{k}" for k in range(1, 4)}}
    (sample,) = read_samples(write_jsonl(tmp_path / "q.jsonl", [row]), "multi", num_answers=2)
    assert (sample.answers, list(sample.thoughts)) == (("1", "2"), ["answer1_body", "answer2_body"])
    seen = {"question_id": 1, "question": "Q", "answer": "T", "answer1_body": f"{THOUGHT}a"}
    (sample,) = read_samples(write_jsonl(tmp_path / "m.jsonl", [seen]), "mmvet")
    assert (sample.answers, sample.thoughts) == (("T", "a"), {"answer1_body": len(THOUGHT)})
    made = Sample(1, "Q", [f"{THOUGHT}a", "b"])
    assert (made.without_thoughts().answers, made.thoughts) == (("a", "b"), {})
    assert made.without_thoughts().thoughts == {}


@pytest.mark.parametrize("keep_thinking", [False, True])
def test_an_arena_and_an_audit_show_no_thoughts_either(tmp_path: Path, keep_thinking: bool) -> None:
    engine = Seen()
    choice = JudgeChoice("scripted", lambda: Judge(engine), {})
    files = [
        write_jsonl(
            tmp_path / f"{name}.jsonl", [{"question_id": k, "question_body": f"Q{k}", "text": text} for k in range(4)]
        )
        for name, text in (("thinks", f"{THOUGHT}a"), ("plain", "b"))
    ]
    arena = run_arena(files, tmp_path / "arena", choice, keep_thinking=keep_thinking)
    assert arena.judged["forward"].counts["thoughts_left_out"] == (0 if keep_thinking else 4)
    assert ("Hm" in "".join(engine.prompts)) is keep_thinking
    engine.prompts.clear()
    settings = AuditSettings(only=["position"], scoring="greedy")
    questions = write_jsonl(tmp_path / "q.jsonl", ROWS)
    run_audit(questions, tmp_path / "audit", choice, settings, keep_thinking=keep_thinking)
    assert engine.prompts
    assert ("Hm" in "".join(engine.prompts)) is keep_thinking


def test_prompts_say_how_many_thoughts_they_leave_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", ROWS)
    arguments = ["prompt", "--question-file", str(questions)]
    assert run_command(arguments) == 0
    shown = capsys.readouterr()
    assert "Hm" not in shown.out
    assert "q.jsonl: thoughts at the beginning of 2 answers are not shown to the judge" in shown.err
    assert run_command([*arguments, "--keep-thinking"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("Hm") == 2
    assert shown.err == ""
