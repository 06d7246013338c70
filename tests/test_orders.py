"""Every one of many answers in every place: orders `all`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import write_jsonl
from hypothesis import given
from hypothesis import strategies as st
from judging import FakeEngine, lasting, run_command

from judgelm import Judge, Sample
from judgelm.audit import AuditSettings, run_audit
from judgelm.engine.interface import Generation
from judgelm.errors import InputError, SettingError
from judgelm.evaluation.many import read_many
from judgelm.evaluation.places import ManySummary, summarize_many
from judgelm.judge import JudgeChoice, JudgeSettings, judge_folder
from judgelm.sample import rotate_fields, unshow_fields
from judgelm.samples import read_samples

QUALITY = {"bad": 2, "fair": 5, "good": 8, "best": 9}


class ByQuality(FakeEngine):
    """Scores each answer by its first word, and the one shown first two better."""

    def __init__(self, most: int = 10**9) -> None:
        self.most = most
        self.prompts: list[str] = []

    def generate(self, requests: Any, sampling: Any, *, done: Any = (), on_text: Any = None) -> Any:
        for request in requests:
            if request.key in done:
                continue
            if len(self.prompts) >= self.most:
                raise InputError("the judge went home")
            self.prompts.append(request.prompt)
            answers = [part.split("\n")[0] for part in request.prompt.split("'s Answer]\n") if part[:1].islower()]
            scores = [QUALITY[answer.split()[0]] + (1 if place == 0 else 0) for place, answer in enumerate(answers)]
            yield Generation(request.key, " ".join(map(str, scores)) + "\nreasons", 50, 9, "stop")


def rows() -> list[dict[str, Any]]:
    named = [["bad", "good"], ["fair", "best", "bad"], ["good", "fair", "bad", "best"]]
    return [
        {
            "question_id": k,
            "question_body": f"Question {k}?",
            **{f"answer{j}_body": f"{word} {j}" for j, word in enumerate(words, start=1)},
            **{f"answer{j}_model_id": f"m-{word}" for j, word in enumerate(words, start=1)},
        }
        for k, words in enumerate(named)
    ]


def choice(engine: ByQuality) -> JudgeChoice:
    return JudgeChoice("told", lambda: Judge(engine), {"engine": "told"})


def test_every_answer_stands_once_in_every_place(tmp_path: Path) -> None:
    samples = read_samples(write_jsonl(tmp_path / "q.jsonl", rows()), "multi")
    engine = ByQuality()
    found = judge_folder(samples, tmp_path / "out", choice(engine), JudgeSettings("multi"), orders="all")
    assert list(found) == ["forward", "rotated1", "rotated2", "rotated3"]
    records = {order: lasting(tmp_path / "out" / f"{order}.jsonl") for order in found}
    # a sample is rotated by less than its answers
    assert {order: [record["question_id"] for record in each] for order, each in records.items()} == {
        "forward": [0, 1, 2],
        "rotated1": [0, 1, 2],
        "rotated2": [1, 2],
        "rotated3": [2],
    }
    shown = [
        [record[f"answer{place}_body"] for place in range(1, 5)] for each in records.values() for record in each[-1:]
    ]
    assert [sorted(column) for column in zip(*shown, strict=True)] == [sorted(shown[0])] * 4
    for each in records.values():
        for record in each:
            words = [record[f"answer{k}_body"].split()[0] for k in range(1, len(record["pred_scores"]) + 1)]
            # what is said of an answer goes with it
            assert [record[f"answer{k}_model_id"] for k in range(1, len(words) + 1)] == [f"m-{w}" for w in words]
            assert record["pred_scores"] == [QUALITY[w] + (k == 0) for k, w in enumerate(words)]
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert {order: counts["total"] for order, counts in run["counts"].items()} == {
        "forward": 3, "rotated1": 3, "rotated2": 2, "rotated3": 1
    }  # fmt: skip


def test_a_run_of_all_orders_goes_on_where_it_ended(tmp_path: Path) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", rows())
    samples = read_samples(questions, "multi")
    judge_folder(samples, tmp_path / "whole", choice(ByQuality()), JudgeSettings("multi"), orders="all")
    with pytest.raises(InputError, match="went home"):
        judge_folder(samples, tmp_path / "out", choice(ByQuality(4)), JudgeSettings("multi"), orders="all")
    rest = ByQuality()
    judge_folder(samples, tmp_path / "out", choice(rest), JudgeSettings("multi"), orders="all")
    assert len(rest.prompts) == 9 - 4
    for order in ("forward", "rotated1", "rotated2", "rotated3"):
        assert lasting(tmp_path / "out" / f"{order}.jsonl") == lasting(tmp_path / "whole" / f"{order}.jsonl")
    # a row was edited: the others' judgements in all orders are kept
    edited = rows()
    edited[1]["answer3_body"] = "best now"
    again = ByQuality()
    samples = read_samples(write_jsonl(questions, edited), "multi")
    judge_folder(samples, tmp_path / "out", choice(again), JudgeSettings("multi"), orders="all", keep_judged=True)
    assert len(again.prompts) == 3


def test_the_mean_of_all_orders_has_no_bias_of_place() -> None:
    samples = [Sample(row["question_id"], "Q?", [v for n, v in row.items() if n.endswith("_body") and n[0] == "a"])
               for row in rows()]  # fmt: skip
    verdicts = Judge(ByQuality()).judge(samples, task="multi", orders="all")
    for sample, verdict in zip(samples, verdicts, strict=True):
        assert len(verdict.readings) == len(sample.answers)
        qualities = [QUALITY[answer.split()[0]] for answer in sample.answers]
        # each answer stood first once
        assert verdict.scores == pytest.approx([quality + 1 / len(qualities) for quality in qualities])
        for reading in verdict.rotations:
            assert reading.scores is not None
            extra = [score - quality for score, quality in zip(reading.scores, qualities, strict=True)]
            assert sorted(extra) == [0.0] * (len(qualities) - 1) + [1.0]
    # good and best differ by what the first place is worth: shown first, good is as good
    assert [verdict.consistent for verdict in verdicts] == [True, True, False]


def test_only_task_multi_has_all_orders(pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["judge", "--question-file", str(pairs_file), "--output-dir", str(tmp_path / "o"), "--orders", "all"]
    assert run_command(argv) == 2
    assert "orders all are those of task multi: task pair has forward, reversed, both" in capsys.readouterr().err


@given(st.integers(2, 10), st.data())
def test_what_a_rotation_does_to_a_record_can_be_undone(count: int, data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, count - 1))
    record = {
        "question_id": 1,
        **{f"answer{k}_body": f"a{k}" for k in range(1, 11)},
        "answer3_model_id": "m",
        "score": list(range(12)),
    }
    rotated = rotate_fields(record, steps, count)
    assert rotated["answer1_body"] == f"a{steps + 1}"
    assert unshow_fields(rotated, f"rotated{steps}", count) == record


def judged(folder: Path, orders: str = "all") -> Path:
    samples = read_samples(write_jsonl(folder / "q.jsonl", rows()), "multi")
    judge_folder(samples, folder / orders, choice(ByQuality()), JudgeSettings("multi"), orders=orders)
    return folder / orders


def test_what_a_place_is_worth_is_measured(tmp_path: Path) -> None:
    summary = summarize_many(read_many(judged(tmp_path)))
    assert (summary.samples, summary.orders) == (3, {"forward": 3, "rotated1": 3, "rotated2": 2, "rotated3": 1})
    assert summary.consistency is not None
    assert summary.consistency.value == pytest.approx(2 / 3)
    assert summary.unparsed.value == 0
    assert summary.places is not None
    # the first place is worth a point; of 2, 3 and 4 places the mean of all is above by a half, a third, a quarter
    means = [1 / 2, 1 / 3, 1 / 4]
    assert [each.bias.value for each in summary.places] == pytest.approx(
        [1 - sum(means) / 3, -sum(means) / 3, -sum(means[1:]) / 2, -means[2]]
    )
    first = summary.places[0].bias
    assert first.low is not None
    assert first.low > 0
    scores = {each.name: each.score.value for each in summary.answers}
    assert scores == pytest.approx(
        {
            "m-best": 9 + (1 / 3 + 1 / 4) / 2,
            "m-good": 8 + (1 / 2 + 1 / 4) / 2,
            "m-fair": 5 + (1 / 3 + 1 / 4) / 2,
            "m-bad": 2 + sum(means) / 3,
        }
    )
    assert list(scores) == ["m-best", "m-good", "m-fair", "m-bad"]


def test_without_rotations_places_say_nothing(tmp_path: Path) -> None:
    summary = summarize_many(read_many(judged(tmp_path, "forward")))
    assert (summary.places, summary.consistency) == (None, None)
    both = summarize_many(read_many(judged(tmp_path, "both")))
    assert both.places is None
    assert both.consistency is not None


def test_the_command_evaluates_many_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = judged(tmp_path)
    assert run_command(["evaluate", str(folder), "--output", str(tmp_path / "summary.json")]) == 0
    said = capsys.readouterr().out
    assert "m-best" in said
    assert "place 1" in said
    last = json.loads(said.splitlines()[-1])
    assert (last["total"], last["consistency"]) == (3, pytest.approx(2 / 3))
    written = ManySummary.read(tmp_path / "summary.json")
    assert written == summarize_many(read_many(folder))
    assert run_command(["evaluate", str(folder), "--against", str(folder)]) == 2
    assert "task multi" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pred_scores": [1, 2, 3, 4]}, "expected scores of as many answers in each order"),
        ({"pred_scores": [1, 11]}, "field 'pred_scores' must hold numbers from 0 to 10, found 11"),
        ({"pred_order": "forward"}, "expected a rotated1 judgement, found a forward one"),
        ({"pred_task": "pair"}, "expected a judgement of task multi"),
    ],
)
def test_a_damaged_judgement_of_many_answers_is_named(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = judged(tmp_path) / "rotated1.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    write_jsonl(path, [records[0] | change, *records[1:]])
    with pytest.raises(InputError, match=said):
        read_many(path.parent)


def test_an_audit_of_many_answers_measures_places_and_rotations(tmp_path: Path) -> None:
    samples = read_samples(write_jsonl(tmp_path / "q.jsonl", rows()), "multi")
    engine = ByQuality()
    found = run_audit(samples, tmp_path / "audit", choice(engine), AuditSettings(task="multi", scoring="greedy"))
    first, last, rotation = found.checks
    assert [check.name for check in found.checks] == ["first_place", "last_place", "rotation"]
    # the place shown first is worth a point, of 2, 3 and 4 answers; a scale has ten
    effects = [(1 - 1 / count) / 10 for count in (2, 3, 4)]
    assert first.effect.value == pytest.approx(sum(effects) / 3)
    assert last.effect.value == pytest.approx(-sum(1 / count / 10 for count in (2, 3, 4)) / 3)
    # "good" shown first is as good as "best"
    assert rotation.effect.value == pytest.approx(1 / 3)
    assert rotation.examples == [2]
    assert (first.verdict, first.note) == ("unclear", "3 different questions, 10 are needed for a verdict")
    assert len(engine.prompts) == 2 + 3 + 4
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["settings"]["task"] == "multi"
    again = run_audit(samples, tmp_path / "audit", choice(ByQuality(0)), AuditSettings(task="multi", scoring="greedy"))
    assert again.checks == found.checks


def test_an_audit_of_many_has_checks_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions = str(write_jsonl(tmp_path / "q.jsonl", rows()))
    argv = ["audit", "--task", "multi", "--question-file", questions, "--output-dir", str(tmp_path / "out")]
    for more, said in (
        (["--only", "length"], "unknown check 'length', expected some of first_place, last_place, rotation"),
        (["--skip", "first_place", "last_place", "rotation"], "leave no check"),
        (["--teacher", questions], "no check of task multi needs a teacher"),
    ):
        assert run_command([*argv, *more]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(SettingError, match="an audit is of pair or multi"):
        AuditSettings(task="grade")
