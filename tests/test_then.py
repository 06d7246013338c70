"""A second judge for what the first is unsure of: one folder, nothing judged twice."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Runner, write_jsonl
from judging import lasting, run_command
from killed_cascades import EXPECTED, GREEDY, ORDERS, Cheap, Dear, run_cascade, write_questions
from played import Played, wrote

from judgelm import Judge
from judgelm.errors import InputError
from judgelm.evaluation import evaluate
from judgelm.evaluation.cascade import Cascade
from judgelm.judge import JudgeChoice, JudgeSettings, cached, judge_folder
from judgelm.judge.cascade import Then, judge_cascade
from judgelm.report import write_report
from judgelm.samples import read_samples


def names(folder: Path, order: str = "forward") -> list[str]:
    return [record["pred_model_id"] for record in lasting(folder / f"{order}.jsonl")]


def sessions(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "run.json").read_text())["sessions"]
    return found


def test_what_the_first_is_unsure_of_or_contradicts_itself_on_is_the_seconds(tmp_path: Path) -> None:
    cheap, dear, out = Cheap(), Dear(), tmp_path / "out"
    found = run_cascade(write_questions(tmp_path / "q.jsonl", 9), out, 0.9, cheap, dear)
    for order in ORDERS:
        assert names(out, order) == ["cheap", "dear", "dear"] * 3
    assert sorted(cheap.asked) == sorted(f"{order} {k}" for order in ORDERS for k in range(9))
    assert sorted(dear.asked) == sorted(f"{order} {k}" for order in ORDERS for k in range(9) if k % 3)
    assert (found.cascade.sent, found.cascade.contradicting, found.cascade.sure) == (6, 3, 0.9)
    assert found.cascade.point is None
    assert found.found["forward"].counts["win"] == 9
    described = json.loads((out / "run.json").read_text())
    assert described["settings"]["cascade"] == {"first": "cheap", "second": "dear", "sure": 0.9}
    assert (described["finished"], described["sessions"][0]["judged"]) == (True, 18 + 12)
    assert described["counts"]["reversed"]["lose"] == 9


def test_evaluate_and_report_go_on_from_the_folder(tmp_path: Path) -> None:
    run_cascade(write_questions(tmp_path / "q.jsonl", 9), tmp_path / "out", 0.9, Cheap(), Dear())
    rates = evaluate(tmp_path / "out").summary.rates
    assert (rates["agreement"].value, rates["consistency"].value) == (1.0, 1.0)
    page = write_report(tmp_path / "out").page.read_text(encoding="utf-8")
    assert "cheap, then dear" in page


def test_a_second_start_and_another_threshold_judge_nothing_twice(tmp_path: Path) -> None:
    questions, out = write_questions(tmp_path / "q.jsonl", 9), tmp_path / "out"
    run_cascade(questions, out, 0.9, Cheap(), Dear())
    before = {order: (out / f"{order}.jsonl").read_bytes() for order in ORDERS}
    cheap, dear = Cheap(), Dear()
    run_cascade(questions, out, 0.9, cheap, dear)
    assert {order: (out / f"{order}.jsonl").read_bytes() for order in ORDERS} == before
    # the unsure ones stay with the first now, and what the second said of them is kept
    run_cascade(questions, out, 0.5, cheap, dear)
    assert names(out) == ["cheap", "cheap", "dear"] * 3
    run_cascade(questions, out, 0.9, cheap, dear)
    assert {order: (out / f"{order}.jsonl").read_bytes() for order in ORDERS} == before
    assert cheap.asked == dear.asked == []
    run_cascade(questions, out, 1.0, cheap, dear)
    assert names(out) == ["dear"] * 9
    assert len(dear.asked) == 6
    assert cheap.asked == []


def test_a_limit_is_gone_on_from(tmp_path: Path) -> None:
    questions, out = write_questions(tmp_path / "q.jsonl", 9), tmp_path / "out"
    cheap, dear = Cheap(), Dear()
    run_cascade(questions, out, 0.9, cheap, dear, limit=4)
    assert names(out) == ["cheap", "dear", "dear", "cheap"]
    run_cascade(questions, out, 0.9, cheap, dear)
    assert names(out) == ["cheap", "dear", "dear"] * 3
    assert (len(cheap.asked), len(dear.asked)) == (18, 12)


def test_a_changed_row_is_judged_anew_where_it_is_asked_for(tmp_path: Path) -> None:
    questions, out = write_questions(tmp_path / "q.jsonl", 9), tmp_path / "out"
    run_cascade(questions, out, 0.9, Cheap(), Dear())
    rows = [json.loads(line) for line in questions.read_text().splitlines()]
    rows[1]["answer1_body"] = "a is right indeed"
    write_jsonl(questions, rows)
    with pytest.raises(InputError, match="is of a run with other settings: question_file_sha256"):
        run_cascade(questions, out, 0.9, Cheap(), Dear())
    dear = Dear()
    # nobody needs the second's judgements of unsure rows with this threshold: the changed one is not asked for, and the
    # others are not thrown away
    run_cascade(questions, out, 0.5, Cheap(), dear, keep_judged=True)
    assert (sessions(out)[-1]["judged"], dear.asked) == (2, [])
    run_cascade(questions, out, 0.9, Cheap(), dear, keep_judged=True)
    assert (sessions(out)[-1]["judged"], sorted(dear.asked)) == (2, ["forward 1", "reversed 1"])
    assert names(out) == ["cheap", "dear", "dear"] * 3
    assert lasting(out / "forward.jsonl")[1]["answer1_body"] == "a is right indeed"


def test_a_threshold_is_chosen_by_labels_and_each_label_costs_the_second_a_sample(tmp_path: Path) -> None:
    questions, out = write_questions(tmp_path / "q.jsonl", 24, labels=False), tmp_path / "out"
    labels = write_jsonl(tmp_path / "labels.jsonl", [{"question_id": k, "label": 1} for k in range(12)])
    dear = Dear()
    first = JudgeChoice("cheap", lambda: Judge(Cheap()), {"model": "cheap"})
    second = JudgeChoice("dear", lambda: Judge(dear), {"model": "dear"})
    then = Then(second, GREEDY, None, labels)
    found = judge_cascade(read_samples(questions), out, first, EXPECTED, then)
    # unsure or not, the first is right where it does not contradict itself: nothing more need be sent on
    assert (found.cascade.sure, found.cascade.sent, found.cascade.samples) == (0.5, 8, 24)
    assert (found.cascade.labelled, found.cascade.chosen_on, found.cascade.reported_on) == (12, 6, 6)
    assert found.cascade.point is not None
    assert found.cascade.point.agreement.value == 1.0
    assert names(out) == ["cheap", "cheap", "dear"] * 8
    # all twelve with a label, and of the others every third
    assert len(dear.asked) == 2 * (12 + 4)
    assert Cascade.read(out / "cascade.json") == found.cascade


def test_caches_do_not_mix_judges(tmp_path: Path) -> None:
    questions = write_questions(tmp_path / "q.jsonl", 6)
    asked = []
    for number in range(2):
        cheap, dear = Cheap(), Dear()
        judges = [
            cached(JudgeChoice(name, functools.partial(Judge, each), {"model": name}), tmp_path / "cache")
            for name, each in (("cheap", cheap), ("dear", dear))
        ]
        then = Then(judges[1], GREEDY, 0.9)
        judge_cascade(read_samples(questions), tmp_path / f"out{number}", judges[0], EXPECTED, then)
        asked.append((len(cheap.asked), len(dear.asked)))
    assert asked == [(12, 8), (0, 0)]
    assert lasting(tmp_path / "out0" / "forward.jsonl") == lasting(tmp_path / "out1" / "forward.jsonl")


def test_folders_of_one_judge_and_of_two_are_not_mixed(tmp_path: Path) -> None:
    questions = write_questions(tmp_path / "q.jsonl", 3)
    alone = JudgeChoice("dear", lambda: Judge(Dear()), {"model": "dear"})
    judge_folder(read_samples(questions), tmp_path / "one", alone, GREEDY)
    with pytest.raises(InputError, match="holds judgements of one judge alone: name another place for those of two"):
        run_cascade(questions, tmp_path / "one", 0.9, Cheap(), Dear())
    run_cascade(questions, tmp_path / "two", 0.9, Cheap(), Dear())
    with pytest.raises(InputError, match="is of a run with other settings"):
        judge_folder(read_samples(questions), tmp_path / "two", alone, GREEDY)


@pytest.mark.parametrize(
    ("second", "settings", "sure", "message"),
    [
        ("cheap", EXPECTED, 0.9, "the second judge, cheap, is the first one"),
        ("dear", GREEDY, 0.9, "greedy: how sure the first of two judges is, expected alone tells"),
        ("dear", JudgeSettings(task="single", scoring="expected"), 0.9, "single: a second judge is for task pair"),
        ("dear", EXPECTED, 0.3, r"sure 0\.3: expected a number from 0\.5 to 1"),
        ("dear", EXPECTED, None, "sure auto needs labels: --labels FILE, or a label in the judged rows; found none"),
    ],
)
def test_what_is_no_cascade_is_told_before_anything_is_judged(
    second: str, settings: JudgeSettings, sure: float | None, message: str, tmp_path: Path
) -> None:
    questions, cheap = write_questions(tmp_path / "q.jsonl", 3, labels=False), Cheap()
    first = JudgeChoice("cheap", lambda: Judge(cheap), {"model": "cheap"})
    then = Then(JudgeChoice(second, lambda: Judge(Dear()), {"model": second}), GREEDY, sure)
    with pytest.raises(InputError, match=message):
        judge_cascade(read_samples(questions), tmp_path / "out", first, settings, then)
    assert cheap.asked == []
    assert not (tmp_path / "out").exists()


def test_two_judges_of_one_name_are_told_apart_or_refused(tmp_path: Path) -> None:
    questions, out = write_questions(tmp_path / "q.jsonl", 3), tmp_path / "out"
    with pytest.raises(InputError, match="both judges would be dear in the records: --model-id names the first"):
        run_cascade(questions, out, 0.9, Cheap(), Dear(), model_id="dear")
    run_cascade(questions, out, 0.9, Cheap(), Dear(), model_id="first")
    assert names(out) == ["first", "dear", "dear"]


def test_killed_at_random_nothing_is_lost_or_judged_twice(run: Runner, tmp_path: Path) -> None:
    result = run("tests/killed_cascades.py", tmp_path, "6", "1")
    assert result.returncode == 0, result.stderr
    ended = json.loads(result.stdout.splitlines()[-1])
    assert ended["killed"] >= 4
    assert (ended["first"], ended["second"]) == (48, 32)
    run_cascade(write_questions(tmp_path / "q2.jsonl", 24), tmp_path / "undisturbed", 0.9, Cheap(), Dear())
    for order in ORDERS:
        assert lasting(tmp_path / "out" / f"{order}.jsonl") == lasting(tmp_path / "undisturbed" / f"{order}.jsonl")


@pytest.fixture
def server() -> Iterator[Played]:
    with Played(lambda *_: wrote("9 2\nreasons")) as played:
        yield played


def test_the_command_asks_a_model_of_this_process_then_a_server(
    tmp_path: Path, model_folder: Path, pairs_file: Path, server: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    argv = ["judge", "--model", str(model_folder), "--device", "cpu", "--question-file", str(pairs_file)]
    argv += ["--limit", "6", "--then", "gpt", "--then-engine", "openai", "--api", "chat", "--base-url", server.url]
    argv += ["--price-per-million-tokens", "1", "2", "--sure", "1", "--output-dir", str(out)]
    assert run_command(argv) == 0
    printed = capsys.readouterr().out
    assert f"{model_folder.name}, then gpt where the first is less sure than 1: 6 of 6 samples are sent on" in printed
    # a server's usage counts 100 prompt tokens and 20 more for each of 12 judgements
    assert "cost: 0.0017 (1200 prompt tokens, 240 generated tokens)" in printed
    assert names(out) == ["gpt"] * 6
    settings: list[dict[str, Any]] = [
        json.loads((out / name / "run.json").read_text())["settings"] for name in ("first", "second")
    ]
    assert [each["scoring"] for each in settings] == ["expected", "greedy"]
    asked = len(server.asked)
    assert asked == 12
    assert run_command(argv) == 0
    assert len(server.asked) == asked


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sure", "0.9"], "--sure is about a second judge: --then MODEL names it"),
        (["--then", "x"], "--then needs --sure S, from 0.5 to 1, or --sure auto with --labels FILE"),
        (["--then", "x", "--sure", "0.3"], "expected auto or a number from 0.5 to 1, found 0.3"),
        (["--then", "x", "--sure", "0.9", "--labels", "l"], "--labels are for --sure auto, found --sure 0.9"),
        (["--then", "x", "--sure", "0.9", "--orders", "forward"], "--then needs both orders"),
        (["--then", "tiny", "--sure", "0.9"], "the second judge, tiny, is the first one"),
        (
            ["--then", "x", "--then-engine", "openai", "--api", "chat", "--then-scoring", "expected", "--sure", "0.9"],
            "--scoring expected",
        ),
        (["--then", "x", "--sure", "0.9", "--base-url", "http://x/v1"], "--base-url is not for --engine hf"),
        (["--then", "tiny-base", "--sure", "0.9", "--scoring", "greedy"], "--scoring greedy: how sure the first"),
    ],
)
def test_flags_that_do_not_go_together_are_told_in_one_line(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = write_questions(tmp_path / "q.jsonl", 3)
    argv = ["judge", "--device", "cpu", "--question-file", str(questions), "--output-dir", str(tmp_path / "out")]
    assert run_command([*argv, *flags]) == 2
    assert message in capsys.readouterr().err


def test_dialogues_among_plain_rows_and_labels_of_any_kind_do_not_matter(tmp_path: Path) -> None:
    questions, out = write_questions(tmp_path / "q.jsonl", 6), tmp_path / "out"
    rows = [json.loads(line) | {"label": "left"} for line in questions.read_text().splitlines()]
    turns = ("Hello", "Yes?", rows[1].pop("question_body"))
    rows[1]["messages"] = [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(turns)]
    write_jsonl(questions, rows)
    dear = Dear()
    run_cascade(questions, out, 0.5, Cheap(), dear)
    # now a dialogue is the second's too, and with the first threshold it is none of its again
    for sure, count in ((0.9, 4), (0.5, 2)):
        run_cascade(questions, out, sure, Cheap(), dear)
        assert names(out).count("dear") == count
    assert len(dear.asked) == 8


def test_another_second_judge_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    questions, out = write_questions(tmp_path / "q.jsonl", 3), tmp_path / "out"
    run_cascade(questions, out, 0.9, Cheap(), Dear())
    before = {path: path.read_bytes() for path in out.glob("*.json*")}
    first = JudgeChoice("cheap", lambda: Judge(Cheap()), {"model": "cheap"})
    other = JudgeChoice("other", lambda: Judge(Dear()), {"model": "other"})
    with pytest.raises(InputError, match=r"second/run\.json is of a run with other settings: model was 'dear'"):
        judge_cascade(read_samples(questions), out, first, EXPECTED, Then(other, GREEDY, 0.5))
    assert {path: path.read_bytes() for path in out.glob("*.json*")} == before


def test_one_judge_does_not_take_the_folder_of_a_cascade_that_has_just_begun(tmp_path: Path) -> None:
    questions, out = write_questions(tmp_path / "q.jsonl", 3), tmp_path / "out"

    def ends() -> Judge:
        raise InputError("no memory")

    first = JudgeChoice("cheap", ends, {"model": "cheap"})
    then = Then(JudgeChoice("dear", ends, {"model": "dear"}), GREEDY, 0.9)
    with pytest.raises(InputError, match="no memory"):
        judge_cascade(read_samples(questions), out, first, EXPECTED, then)
    alone = JudgeChoice("cheap", lambda: Judge(Cheap()), {"model": "cheap"})
    with pytest.raises(InputError, match="is of a run with other settings"):
        judge_folder(read_samples(questions), out, alone, EXPECTED)
    run_cascade(questions, out, 0.9, Cheap(), Dear())
    assert names(out) == ["cheap", "dear", "dear"]
