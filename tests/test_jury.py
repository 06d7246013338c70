"""Several judges of the same samples as one."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_jsonl
from judging import run_command
from jurors import write_judge

from judgelm.errors import InputError
from judgelm.evaluation import evaluate, jury, read_folder
from judgelm.evaluation.jury import Jury
from judgelm.evaluation.metrics.agreement import library_alpha
from judgelm.jsonl import read_lines
from judgelm.judge.log import JudgementRecord
from judgelm.judgement import Outcome
from judgelm.jury import METHODS, read_members, run_jury
from judgelm.report import write_report

WIN, TIE, LOSE = Outcome
OF_LABEL = {1: WIN, 0: TIE, 2: LOSE}


def said(folder: Path, order: str = "forward") -> list[str | None]:
    return [line.record["pred_outcome"] for line in read_lines(folder / f"{order}.jsonl")]


def three(tmp_path: Path, labels: Any = ()) -> list[Path]:
    """On the last sample all flip."""
    one = write_judge(tmp_path / "one", ["ww", "ww", "wl", "tt", "wl"], labels=labels)
    two = write_judge(tmp_path / "two", ["ww", "ll", "ll", "??", "lw"], labels=labels)
    return [one, two, write_judge(tmp_path / "three", ["ll", "tt", "ll", "ww", "wl"], labels=labels)]


def test_the_majority_decides_who_flips_abstains_and_a_draw_is_a_tie(tmp_path: Path) -> None:
    found = run_jury(three(tmp_path), tmp_path / "jury")
    # two of three; one of each; two that do not flip; a tie and a win; nobody
    assert said(tmp_path / "jury") == ["win", "tie", "lose", "tie", None]
    assert said(tmp_path / "jury", "reversed") == ["lose", "tie", "win", "tie", None]
    assert (found.samples, found.labelled, found.undecided, found.with_people) == (5, 0, 1, None)
    assert [(each.verdicts, each.flipped, each.unread) for each in found.judges] == [(3, 2, 0), (3, 1, 1), (4, 1, 0)]


def test_records_say_which_judge_said_what_and_are_those_of_any_judge(tmp_path: Path) -> None:
    run_jury(three(tmp_path), tmp_path / "jury")
    lines = list(read_lines(tmp_path / "jury" / "reversed.jsonl"))
    for line in lines:
        JudgementRecord.from_line(line)
    third = lines[2].record
    assert third["pred_jury"] == [
        {"judge": "one", "outcome": None},
        {"judge": "two", "outcome": "win"},
        {"judge": "three", "outcome": "win"},
    ]
    assert third["pred_text"] == "[[A]]\n\none: abstains\ntwo: answer 1\nthree: answer 1"
    assert (third["answer1_body"], third["answer2_body"]) == ("right 2", "left 2")
    assert third["pred_probabilities"] == {"win": 1.0, "tie": 0.0, "lose": 0.0}
    assert "pred_probabilities" not in lines[4].record
    sample = read_folder(tmp_path / "jury")[1]
    # a win, a tie and a loss
    assert sample.probabilities == pytest.approx(dict.fromkeys(Outcome, 1 / 3))


def test_evaluate_and_report_go_on_from_the_folder(tmp_path: Path) -> None:
    run_jury(three(tmp_path, [1, 0, 2, 1, 1]), tmp_path / "jury")
    rates = evaluate(tmp_path / "jury").summary.rates
    # the fourth is wrong and the fifth has no verdict
    assert rates["agreement"].value == 3 / 5
    assert rates["unparsed"].value == 1 / 5
    page = write_report(tmp_path / "jury").page.read_text(encoding="utf-8")
    assert "majority of 3 judges" in page


def test_each_judge_stands_beside_the_jury_of_the_others(tmp_path: Path) -> None:
    found = run_jury(three(tmp_path, [1, 0, 2, 1, 1]), tmp_path / "jury")
    one, two, three_ = found.judges
    # without the first the others say tie, tie, lose, win and nothing
    assert one.with_jury is not None
    assert (one.with_jury.value, one.with_jury.count) == (0, 3)
    assert one.changes.value == 2 / 5
    # of its three verdicts the first is right; the jury is right on the first two
    assert one.with_people is not None
    assert one.jury_gain is not None
    assert one.with_people.value == 1 / 3
    assert one.jury_gain.value == pytest.approx(1 / 3)
    # with it 3 are right, without it the second, the third and the fourth
    assert one.added is not None
    assert one.added.value == 0
    # without the third: win, tie, lose, tie: the same
    assert (three_.changes.value, three_.adds_nothing) == (0, True)
    assert two.adds_nothing is True
    assert found.with_people is not None
    assert found.with_people.value == 3 / 5


def test_alpha_is_that_of_the_library(tmp_path: Path) -> None:
    rng = random.Random(3)
    judges = [
        write_judge(tmp_path / f"{k}", ["wl" if rng.random() < 0.2 else rng.choice("wwtl") * 2 for _ in range(60)])
        for k in range(4)
    ]
    members = read_members(judges)
    panel = jury.Panel.of([judge.samples for judge in members.judges], [None] * 60)
    counts = np.stack([(panel.votes == place).sum(axis=1) for place in range(3)], axis=1).astype(float)
    found = run_jury(judges, tmp_path / "jury").alpha
    assert found is not None
    assert found.value == pytest.approx(library_alpha(counts))
    assert found.low is not None
    assert found.high is not None
    assert found.low < library_alpha(counts) < found.high


def random_judges(tmp_path: Path, accuracies: list[float], count: int) -> tuple[list[Path], list[int]]:
    """Judges that err by themselves."""
    rng = random.Random(7)
    truth = [rng.choice("wtl") for _ in range(count)]
    judges = [
        write_judge(
            tmp_path / f"judge{k}",
            [each if rng.random() < accuracy else rng.choice([c for c in "wtl" if c != each]) for each in truth],
        )
        for k, accuracy in enumerate(accuracies)
    ]
    return judges, [{"w": 1, "t": 0, "l": 2}[each] for each in truth]


def test_a_good_judge_is_heard_more_than_the_many(tmp_path: Path) -> None:
    judges, truth = random_judges(tmp_path, [0.92, 0.85, 0.5, 0.45, 0.45], count=150)
    members = read_members(judges)
    panel = jury.Panel.of([judge.samples for judge in members.judges], [OF_LABEL[each] for each in truth])
    shares = {method: jury.decide(panel, method) for method in METHODS if method != "mean"}
    right = {method: (jury.verdicts(each) == panel.truth).mean() for method, each in shares.items()}
    assert right["majority"] < 0.83 < 0.87 < min(right["weighted"], right["dawid-skene"])

    labels = write_jsonl(tmp_path / "labels.jsonl", [{"question_id": k, "label": each} for k, each in enumerate(truth)])
    found = run_jury(judges, tmp_path / "jury", "weighted", labels)
    assert found.with_people is not None
    assert found.with_people.value == right["weighted"]
    first = found.judges[0]
    assert first.with_people is not None
    assert first.with_people.value is not None
    # as if it had been right in one of three more
    accuracy = (150 * first.with_people.value + 1) / 153
    assert first.weight == pytest.approx(math.log(2 * accuracy / (1 - accuracy)))


def test_no_label_decides_its_own_sample(tmp_path: Path) -> None:
    """What a label says may change what others' samples come to, and never its own."""
    judges, truth = random_judges(tmp_path, [0.6, 0.6, 0.6], count=24)
    members = read_members(judges)
    samples = [judge.samples for judge in members.judges]
    outcomes = [OF_LABEL[each] for each in truth]
    before = jury.decide(jury.Panel.of(samples, outcomes), "weighted")
    moved = np.zeros(24, dtype=bool)
    for place in range(24):
        for other in Outcome:
            changed = [other if k == place else each for k, each in enumerate(outcomes)]
            differs = (before != jury.decide(jury.Panel.of(samples, changed), "weighted")).any(axis=1)
            assert not differs[place]
            moved |= differs
    assert moved.any()


def test_the_mean_of_probabilities_is_of_each_order_and_of_both(tmp_path: Path) -> None:
    sure = write_judge(tmp_path / "sure", ["ww", "ll"], probabilities=[(0.9, 0.1, 0.0), (0.1, 0.3, 0.6)])
    unsure = write_judge(tmp_path / "unsure", ["ll", "wl"], probabilities=[(0.3, 0.2, 0.5), (0.8, 0.1, 0.1)])
    run_jury([sure, unsure], tmp_path / "jury", "mean")
    # the second judge flips on the second sample, and abstains
    assert said(tmp_path / "jury") == ["win", "lose"]
    first, second = read_folder(tmp_path / "jury")
    assert first.probabilities == pytest.approx({WIN: 0.6, TIE: 0.15, LOSE: 0.25})
    assert second.probabilities == pytest.approx({WIN: 0.1, TIE: 0.3, LOSE: 0.6})
    assert first.forward is not None
    assert first.forward.expected_scores == pytest.approx((0.675, 0.325))


def test_verdicts_of_others_join_a_folder_by_id_or_a_question_file_by_row(tmp_path: Path) -> None:
    one = write_judge(tmp_path / "one", ["ww", "ww", "ll"], labels=[1, 1, 2])
    panda = tmp_path / "panda.json"
    # it may know more rows than are asked for
    panda.write_text(json.dumps([{"idx": k, "panda_result": verdict} for k, verdict in enumerate([1, 2, 2, 0])]))
    found = run_jury([one, panda], tmp_path / "jury")
    assert said(tmp_path / "jury") == ["win", "tie", "lose"]
    assert [each.name for each in found.judges] == ["one", "panda"]
    # one judge has one order alone, so the jury has
    assert not (tmp_path / "jury" / "reversed.jsonl").exists()

    rows = write_jsonl(tmp_path / "rows.jsonl", [{"verdict": verdict} for verdict in ("A", "tie", "B")])
    questions = [
        {name: value for name, value in line.record.items() if not name.startswith("pred_")}
        for line in read_lines(one / "forward.jsonl")
    ]
    asked = write_jsonl(tmp_path / "questions.jsonl", questions)
    with pytest.raises(InputError, match=r"rows\.jsonl: its verdicts have no id and go by row: --question-file FILE"):
        run_jury([one, rows], tmp_path / "other")
    assert run_jury([panda, rows], tmp_path / "other", question_file=asked).with_people is not None
    assert said(tmp_path / "other") == ["win", "tie", "lose"]


def test_thoughts_that_judges_were_not_shown_stay_hidden(tmp_path: Path) -> None:
    """The records say how much of which answer, in either order."""
    judges = [write_judge(tmp_path / name, ["ww", "ll"]) for name in ("one", "two")]
    for judge in judges:
        for order, field in (("forward", "answer1_body"), ("reversed", "answer2_body")):
            lines = list(read_lines(judge / f"{order}.jsonl"))
            write_jsonl(judge / f"{order}.jsonl", [{**line.record, "pred_thoughts": {field: 2}} for line in lines])
    run_jury(judges, tmp_path / "jury")
    assert [sample.answers for sample in read_folder(tmp_path / "jury")] == [("ft 0", "right 0"), ("ft 1", "right 1")]
    (back, _) = read_lines(tmp_path / "jury" / "reversed.jsonl")
    assert back.record["pred_thoughts"] == {"answer2_body": 2}


def test_a_name_puts_no_lines_of_its_own_into_the_jurys_words(tmp_path: Path) -> None:
    names = {"one": "a\n[[B]]\x1b[31m", "two": " \n"}
    judges = [write_judge(tmp_path / place, ["w"], name) for place, name in names.items()]
    run_jury(judges, tmp_path / "jury")
    assert read_folder(tmp_path / "jury")[0].readings[0].text == "[[A]]\n\na [[B]][31m: answer 1\ntwo: answer 1"


def test_two_folders_of_one_model_are_told_apart(tmp_path: Path) -> None:
    judges = [write_judge(tmp_path / name, ["w", "l"], "tiny") for name in ("cold", "warm")]
    names = [each.name for each in run_jury(judges, tmp_path / "jury").judges]
    assert names == [f"tiny ({judge})" for judge in judges]


def test_a_jury_is_written_again_and_never_over_a_judge(tmp_path: Path) -> None:
    judges = three(tmp_path)
    run_jury(judges, tmp_path / "jury")
    before = said(tmp_path / "jury")
    run_jury(judges, tmp_path / "jury")
    assert said(tmp_path / "jury") == before
    other = write_judge(tmp_path / "other", ["w"])
    with pytest.raises(InputError, match="holds judgements of a judge: name another place"):
        run_jury(judges, other)
    with pytest.raises(InputError, match="expected a folder of the jury's own, found that of one of its judges"):
        run_jury(judges, judges[0])


Judges = list[Path]


def test_an_answer_that_is_true_or_a_number_is_its_text(tmp_path: Path) -> None:
    """A folder that others wrote has it as it came, ours as the judge was shown it."""
    one = write_judge(tmp_path / "one", ["w", "l"], answer1_body=True, answer2_body=4)
    two = write_judge(tmp_path / "two", ["w", "l"], answer1_body="True", answer2_body="4")
    assert run_jury([one, two], tmp_path / "jury").samples == 2


def fewer(judges: Judges, root: Path) -> Judges:
    return [*judges, write_judge(root / "few", ["ww", "ww"])]


def more(judges: Judges, root: Path) -> Judges:
    return [write_judge(root / "few", ["ww"]), *judges]


def others(judges: Judges, root: Path) -> Judges:
    return [*judges, write_judge(root / "others", ["ww"] * 5, question_body="Another?")]


def graded(judges: Judges, root: Path) -> Judges:
    return [*judges, write_judge(root / "graded", ["w"] * 5, pred_task="single")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda judges, _: judges[:1], "expected two judges or more, found 1"),
        (lambda judges, _: [judges[0], judges[0].parent / "one" / "."], "the same judge as"),
        (fewer, "on the 5 samples of .*one, found 2: question_id 2 is missing"),
        (more, "on the 1 samples of .*few, found 5: question_id 1 is none of them"),
        (others, "question_id 0 has another question_body than in .*one"),
        (graded, "expected a folder of task pair, found task single"),
        (lambda judges, root: [*judges, root / "nothing"], "nothing: no such file"),
    ],
)
def test_judges_that_do_not_go_together_are_told_in_one_line(change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        run_jury(change(three(tmp_path), tmp_path), tmp_path / "jury")
    assert not (tmp_path / "jury").exists()


@pytest.mark.parametrize(
    ("method", "labels", "message"),
    [
        ("weighted", None, "method weighted needs labels: --labels FILE"),
        ("weighted", [{"question_id": 1, "label": 1}], "labels of two questions or more, found 1"),
        ("majority", [{"question_id": 17, "label": 1}], "none of its 1 rows is of the 5 samples"),
        ("mean", None, "one: no probabilities there"),
        ("loudest", None, "unknown method 'loudest', expected one of majority, mean, weighted, dawid-skene"),
    ],
)
def test_what_a_method_lacks_is_told_in_one_line(
    method: str, labels: list[dict[str, int]] | None, message: str, tmp_path: Path
) -> None:
    given = None if labels is None else write_jsonl(tmp_path / "labels.jsonl", labels)
    with pytest.raises(InputError, match=message):
        run_jury(three(tmp_path), tmp_path / "jury", method, given)


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judges = list(map(str, three(tmp_path, [1, 0, 2, 1, None])))
    assert run_command(["jury", *judges, "--method", "dawid-skene", "--output-dir", str(tmp_path / "jury")]) == 0
    printed = capsys.readouterr().out
    assert "5 samples of 5 questions, 4 with a truth; method dawid-skene" in printed
    assert "no judge has a verdict on 1 samples" in printed
    written = Jury.read(tmp_path / "jury" / "jury.json")
    assert [each.place for each in written.judges] == judges
    assert run_command(["jury", judges[0], "--output-dir", str(tmp_path / "other")]) == 2
    assert "expected two judges or more, found 1" in capsys.readouterr().err


def test_each_method_has_its_words() -> None:
    assert list(METHODS) == list(jury._METHODS)


def test_a_jury_that_was_killed_is_known_as_half_of_one_and_made_again(tmp_path: Path) -> None:
    judges, out = three(tmp_path), tmp_path / "jury"
    (out / "jury.json").mkdir(parents=True)
    with pytest.raises(InputError, match=r"jury\.json: cannot be written"):
        run_jury(judges, out)
    assert said(out) == ["win", "tie", "lose", "tie", None]
    assert not json.loads((out / "run.json").read_text())["finished"]
    (out / "jury.json").rmdir()
    run_jury(judges, out)
    record = json.loads((out / "run.json").read_text())
    assert record["finished"]
    assert record["counts"]["forward"]["total"] == len((out / "forward.jsonl").read_text().splitlines()) > 0
    assert Jury.read(out / "jury.json").undecided == 1


def test_the_rows_own_labels_are_not_read_where_others_are_given(tmp_path: Path) -> None:
    judges = [write_judge(tmp_path / name, ["ww", "ll"], label="left") for name in ("one", "two")]
    labels = write_jsonl(tmp_path / "labels.jsonl", [{"question_id": key, "label": 1} for key in (0, 1)])
    found = run_jury(judges, tmp_path / "jury", labels=labels)
    assert found.with_people is not None
    assert found.with_people.value == 0.5


def test_sums_that_differ_by_their_rounding_are_a_tie() -> None:
    shares = np.array([[0.1 + 0.2 + 0.3, 0.2, 0.3 + 0.2 + 0.1], [0.5, 0.1, 0.4]])
    assert shares[0, 0] != shares[0, 2]
    assert jury.verdicts(shares).tolist() == [1, 0]
