"""`--human` of evaluate, rank and report: what people's labels of a part make of a judged folder."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from conftest import write_jsonl
from criteria_folders import grade_folder, graded
from judging import run_command

from judgelm.errors import InputError
from judgelm.evaluation import evaluate, evaluate_grades, read_folder
from judgelm.evaluation.corrections import CorrectedRate, Corrections
from judgelm.evaluation.grade_corrections import correct_grades
from judgelm.evaluation.grade_summary import GradeSummary
from judgelm.evaluation.pair_corrections import LabelledPairs, correct_pairs
from judgelm.evaluation.results import JudgedSample
from judgelm.evaluation.summary import SummaryFile
from judgelm.forms import Columns
from judgelm.judgement import LABELS, Outcome, ParseState
from judgelm.ranking import RankSettings, rank
from judgelm.ranking.ranking import Ranking
from judgelm.report import write_report
from judgelm.verdict import Reading

SCORES = {1: "9 5", 0: "7 7", 2: "4 8"}
COUNT = 240


def rows(models: str = "abc", right: float = 0.8) -> tuple[list[dict[str, Any]], list[int]]:
    """Judged pairs of which earlier models win more, two of each question, and what people would say of each."""
    luck, records, labels = random.Random(1), [], []
    for key in range(COUNT):
        first, second = luck.sample(models, 2)
        chances = (0.6, 0.1, 0.3) if first < second else (0.3, 0.1, 0.6)
        label = luck.choices((1, 0, 2), chances)[0]
        said = label if luck.random() < right else luck.choice((1, 0, 2))
        records.append(
            {
                "question_id": key,
                "question_body": f"Question {key // 2}?",
                "answer1_body": "word " * luck.randint(5, 200),
                "answer2_body": "word " * 50,
                "answer1_model_id": first,
                "answer2_model_id": second,
                "category": luck.choice(("code", "prose")),
                "pred_task": "pair",
                "pred_order": "forward",
                "pred_text": SCORES[said],
            }
        )
        labels.append(label)
    return records, labels


def some(labels: list[int], count: int = 80, seed: int = 2) -> list[dict[str, Any]]:
    """Of a random part."""
    return [{"question_id": key, "label": labels[key]} for key in random.Random(seed).sample(range(COUNT), count)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of three models, and labels.jsonl of a third of it."""
    records, labels = rows()
    write_jsonl(tmp_path / "judged" / "forward.jsonl", records)
    write_jsonl(tmp_path / "labels.jsonl", some(labels))
    return tmp_path / "judged"


def by_name(found: Corrections) -> dict[str, CorrectedRate]:
    return {rate.name: rate for rate in (*found.rates, *found.pairs)}


def test_evaluate_says_rates_of_judge_and_people_and_corrected(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "summary.json"
    arguments = ["evaluate", str(folder), "--human", str(tmp_path / "labels.jsonl"), "--output", str(output)]
    assert run_command(arguments) == 0
    printed = capsys.readouterr().out
    found = SummaryFile.read(output).corrected
    assert found is not None
    assert (found.samples, found.labels, found.untold) == (COUNT, 80, 0)
    records, labels = rows()
    labelled = [each["question_id"] for each in some(labels)]
    assert found.labelled_questions == len({key // 2 for key in labelled})
    rates = by_name(found)
    assert list(rates) == [
        "agreement with people",
        *(f"win rate of {name}" for name in ("a", "b", "c")),
        *(f"win rate of {pair}" for pair in ("a against b", "a against c", "b against c")),
    ]
    said = {text: label for label, text in SCORES.items()}
    agreed = [said[records[key]["pred_text"]] == labels[key] for key in labelled]
    people = rates["agreement with people"].people
    assert people is not None
    assert people.value == pytest.approx(sum(agreed) / 80)
    assert people.count == 80
    points = []
    for key in range(COUNT):
        names = [records[key][f"answer{side}_model_id"] for side in (1, 2)]
        if "a" in names:
            gained = {1: 1.0, 0: 0.5, 2: 0.0}
            judged, label = (gained[each] for each in (said[records[key]["pred_text"]], labels[key]))
            points.append((key in labelled, *((judged, label) if names[0] == "a" else (1 - judged, 1 - label))))
    of_a = rates["win rate of a"]
    assert of_a.judge is not None
    assert of_a.people is not None
    assert of_a.corrected is not None
    assert of_a.judge.value == pytest.approx(sum(judged for _, judged, _ in points) / len(points))
    given = [(judged, label) for known, judged, label in points if known]
    others = [judged for known, judged, _ in points if not known]
    assert of_a.people.value == pytest.approx(sum(label for _, label in given) / len(given))
    assert (of_a.labels, of_a.people.count, of_a.corrected.count) == (len(given), len(given), len(points))
    assert of_a.weight is not None
    moved = sum(others) / len(others) - sum(judged for judged, _ in given) / len(given)
    assert of_a.corrected.value == pytest.approx((of_a.people.value or 0) + of_a.weight * moved)
    for expected in ("judge only", "people only", "Rogan-Gladen", "people's labels of 80 of 240 samples"):
        assert expected in printed
    assert f"win rate of a: your judge is worth {of_a.worth} more labels" in printed
    assert json.loads(printed.splitlines()[-1])["total"] == COUNT


def test_corrected_is_left_out_of_the_file_where_no_labels_are_given(folder: Path, tmp_path: Path) -> None:
    assert run_command(["evaluate", str(folder), "--output", str(tmp_path / "s.json")]) == 0
    assert "corrected" not in json.loads((tmp_path / "s.json").read_text())
    assert "corrected" not in rank(folder).to_record()


def test_labels_of_any_format_and_of_other_columns_are_read(folder: Path, tmp_path: Path) -> None:
    _, labels = rows()
    words = {1: "A", 2: "B", 0: "tie"}
    lines = [f"{each['question_id']},{words[each['label']]}" for each in some(labels)]
    (tmp_path / "labels.csv").write_text("\n".join(["id,winner", *lines]) + "\n")
    columns = ["--columns", "question_id=id,label=winner"]
    for command in (["evaluate", str(folder)], ["rank", "--judgements", str(folder)]):
        assert run_command([*command, "--human", str(tmp_path / "labels.csv"), *columns]) == 0
    named = Columns.parse("question_id=id,label=winner")
    found = evaluate(folder, human=tmp_path / "labels.csv", columns=named).corrected
    assert found == evaluate(folder, human=tmp_path / "labels.jsonl").corrected


def test_two_named_models_are_one_pair_and_nameless_answers_are_one_too(tmp_path: Path) -> None:
    records, labels = rows("ab")
    named = write_jsonl(tmp_path / "named" / "forward.jsonl", records).parent
    nameless = [{name: value for name, value in each.items() if "model" not in name} for each in records]
    write_jsonl(tmp_path / "nameless" / "forward.jsonl", nameless)
    human = write_jsonl(tmp_path / "labels.jsonl", some(labels))
    found = evaluate(named, human=human).corrected
    assert found is not None
    assert [rate.name for rate in found.rates] == ["agreement with people"]
    (pair,) = found.pairs
    assert (pair.first, pair.second, pair.labels) == ("a", "b", 80)
    other = evaluate(tmp_path / "nameless", human=human).corrected
    assert other is not None
    assert [(one.first, one.second) for one in other.pairs] == [("answer 1", "answer 2")]
    assert other.pairs[0].people != pair.people
    alike = [each | {f"answer{side}_model_id": "a" for side in (1, 2)} for each in records]
    write_jsonl(tmp_path / "alike" / "forward.jsonl", alike)
    of_one = evaluate(tmp_path / "alike", human=human).corrected
    assert of_one is not None
    assert (of_one.rates, of_one.pairs) == (other.rates, other.pairs)


def test_rank_has_corrected_rates_and_ratings(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    human, output = tmp_path / "labels.jsonl", tmp_path / "ranked"
    arguments = ["rank", "--judgements", str(folder), "--human", str(human), "--output-dir", str(output)]
    assert run_command(arguments) == 0
    printed = capsys.readouterr().out
    ranking = Ranking.read(output / "ranking.json")
    found = ranking.corrected
    assert found is not None
    assert [one.name for one in found.ratings] == ["a", "b", "c"]
    ratings = [one.corrected for one in found.ratings]
    assert all(rate is not None and rate.value is not None and rate.low is not None for rate in ratings)
    assert sum(rate.value for rate in ratings if rate and rate.value) == pytest.approx(3000, abs=0.01)
    for one in found.ratings:
        assert one.people is not None
        assert one.corrected is not None
        widths = [rate.high - rate.low for rate in (one.people, one.corrected) if rate.high and rate.low]
        assert widths[1] < widths[0]
    # what the judge alone says is the ranking's own
    ranked = {frozenset((pair.first, pair.second)): pair.win_rate for pair in ranking.pairs}
    for pair in found.pairs:
        theirs = ranked[frozenset((pair.first, pair.second))]
        assert pair.judge is not None
        assert pair.judge.value in (pytest.approx(theirs.value), pytest.approx(1 - theirs.value))
    assert "Bradley-Terry  judge only" in printed
    from_python = rank(folder, RankSettings(), human).corrected
    assert from_python is not None
    assert from_python.to_record() == found.to_record()


def test_report_has_a_section_and_the_rankings_ratings(folder: Path, tmp_path: Path) -> None:
    rank(folder, human=tmp_path / "labels.jsonl").write(folder / "ranking.json")
    assert run_command(["report", str(folder), "--human", str(tmp_path / "labels.jsonl")]) == 0
    page, markdown = ((folder / f"report.{kind}").read_text() for kind in ("html", "md"))
    section = page[page.index('<section id="corrected">') :]
    section = section[: section.index("</section>")]
    for expected in ("judge only", "Rogan-Gladen", "win rate of a against b", "more label", "<svg", "Holm"):
        assert expected in section
    assert "## Corrected rates" in markdown
    assert "win rate of a against b" in markdown
    for text in (page, markdown):
        assert "Bradley-Terry" in text
    assert "Corrected by people's labels" in page
    without = write_report(folder, output=tmp_path / "plain.html").page.read_text()
    assert '<section id="corrected">' not in without


def test_a_ranking_whose_corrections_are_damaged_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    record = rank(folder, human=tmp_path / "labels.jsonl").to_record()
    record["corrected"]["ratings"] = "<script>"
    (folder / "ranking.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"ranking\.json: not a ranking \(corrected\.ratings: "):
        write_report(folder)


def test_names_of_models_cannot_write_into_the_page(tmp_path: Path) -> None:
    records, labels = rows("ab")
    for each in records:
        each["answer1_model_id"] += "<b>|"
        each["answer2_model_id"] += "<b>|"
    place = write_jsonl(tmp_path / "judged" / "forward.jsonl", records).parent
    written = write_report(place, human=write_jsonl(tmp_path / "labels.jsonl", some(labels)))
    assert "a&lt;b&gt;|" in written.page.read_text()
    assert "<b>" not in written.page.read_text()
    assert "a&lt;b>\\|" in written.markdown.read_text()


WRONG = [
    ([{"question_id": 9999, "label": 1}], r"labels\.jsonl:1: question_id 9999 is none of those that were judged"),
    ([{"question_id": 1, "label": 3}], r"labels\.jsonl:1: expected label 1, 2 or 0 \(tie\), found 3"),
    ([{"question_id": 1}], r"labels\.jsonl:1: field 'text' or 'label' is missing"),
    ([{"question_id": 1, "label": None}], r"labels\.jsonl: there is no label in it"),
    ([], r"labels\.jsonl: "),
    ([{"question_id": 1, "label": 1}, {"question_id": 1, "label": 2}], r"labels\.jsonl:2: .*question_id"),
]


@pytest.mark.parametrize(("given", "line"), WRONG)
def test_labels_that_cannot_be_used_end_in_one_line(
    given: list[dict[str, Any]], line: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    human = write_jsonl(tmp_path / "labels.jsonl", given)
    for call in (evaluate, rank):
        with pytest.raises(InputError, match=line):
            call(folder, human=human)
    assert run_command(["evaluate", str(folder), "--human", str(human)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_flags_that_do_not_go_together_end_in_one_line(folder: Path, tmp_path: Path) -> None:
    human = tmp_path / "labels.jsonl"
    with pytest.raises(InputError, match="--human and --length-control do not go together"):
        rank(folder, RankSettings(length_control=True), human)
    with pytest.raises(InputError, match=r"question_id \d+ was judged in several of the folders"):
        rank([folder, folder], human=human)
    grades = grade_folder(tmp_path / "grades", None, [(graded(f"{m}{k}", m, k), "7") for m in "ab" for k in range(3)])
    with pytest.raises(InputError, match="--human corrects rankings of judged pairs"):
        rank(grades, human=human)
    assert run_command(["evaluate", str(folder), "--columns", "label=winner"]) == 2
    assert run_command(["rank", "--judgements", str(folder), "--columns", "label=winner"]) == 2


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_labels_are_said_and_nothing_is_corrected(
    count: int, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, labels = rows()
    human = write_jsonl(tmp_path / "few.jsonl", some(labels, count))
    found = evaluate(folder, human=human).corrected
    assert found is not None
    assert all(rate.corrected is None and rate.inverted is None and rate.worth is None for rate in found.rates)
    assert any("with fewer than 10 nothing is corrected" in note for note in found.notes)
    assert run_command(["rank", "--judgements", str(folder), "--human", str(human)]) == 0
    assert "cannot be told apart by so few labels" in capsys.readouterr().out


def test_null_labels_count_as_asked_in_vain(folder: Path, tmp_path: Path) -> None:
    _, labels = rows()
    given = some(labels)
    for each in given[:9]:
        each["label"] = None
    found = evaluate(folder, human=write_jsonl(tmp_path / "null.jsonl", given)).corrected
    assert found is not None
    assert (found.labels, found.untold) == (71, 9)
    assert "9 labels are null: what is said holds for samples of which people can tell" in found.notes


def test_a_part_that_is_not_random_is_warned_of(folder: Path, tmp_path: Path) -> None:
    records, labels = rows()
    longest = sorted(range(COUNT), key=lambda key: -len(records[key]["answer1_body"]))[:80]
    human = write_jsonl(tmp_path / "long.jsonl", [{"question_id": key, "label": labels[key]} for key in longest])
    found = evaluate(folder, human=human).corrected
    assert found is not None
    assert found.notes[0].startswith("the labelled part is not random: answers of ")
    assert {shift.what for shift in found.shifts if shift.adjusted < 0.05} == {"length of the answers"}
    random_part = evaluate(folder, human=tmp_path / "labels.jsonl").corrected
    assert random_part is not None
    assert not any("not random" in note for note in random_part.notes)
    assert [shift.what for shift in random_part.shifts] == [
        *("length of the answers", "category", "model"),
        "verdict of the judge",
    ]


def test_all_samples_labelled_leave_nothing_to_correct(folder: Path, tmp_path: Path) -> None:
    _, labels = rows()
    found = evaluate(folder, human=write_jsonl(tmp_path / "all.jsonl", some(labels, COUNT))).corrected
    assert found is not None
    assert "all samples have labels: people alone say what is right, and there is nothing to correct" in found.notes
    assert [(rate.weight, rate.worth) for rate in found.rates] == [(0, 0)] * 4
    assert [rate.corrected and rate.corrected.value for rate in found.rates] == [
        rate.people and rate.people.value for rate in found.rates
    ]


def pairs(verdicts: list[Outcome | None], sure: float | None = None) -> list[JudgedSample]:
    """A question each; None for what cannot be read."""
    found = []
    for key, outcome in enumerate(verdicts):
        scores = None if outcome is None else {"win": (9.0, 5.0), "tie": (7.0, 7.0), "lose": (4.0, 8.0)}[outcome]
        state = ParseState.FAILED if scores is None else ParseState.OK
        chances = None if sure is None else {each: sure if each is outcome else (1 - sure) / 2 for each in Outcome}
        reading = Reading("", state, scores, chances)
        found.append(JudgedSample(reading, None, key=str(key), question=f"{key}?", answers=("a", "b")))
    return found


def test_unread_verdicts_agree_with_nothing_and_are_worth_half_a_point() -> None:
    verdicts: list[Outcome | None] = [Outcome.WIN, Outcome.LOSE, None, Outcome.TIE] * 20
    labels = {str(key): Outcome.WIN if key % 4 == 2 else verdicts[key] for key in range(0, 80, 2)}
    found = by_name(correct_pairs(LabelledPairs.of(pairs(verdicts), labels)))
    agreement, wins = found["agreement with people"], found["win rate of answer 1 against answer 2"]
    assert agreement.people is not None
    assert agreement.people.value == 0.5
    assert agreement.judge is None
    assert wins.judge is not None
    assert (wins.judge.value, wins.judge.count) == (0.5, 60)
    with pytest.raises(ValueError, match="no sample"):
        LabelledPairs.of([], {})


def test_how_sure_a_judge_is_says_how_often_it_expects_to_agree() -> None:
    verdicts: list[Outcome | None] = [Outcome.WIN, Outcome.LOSE] * 30
    samples = pairs(verdicts[:30], 0.9) + [
        JudgedSample(one.forward, None, key=f"x{one.key}", question=f"x{one.key}", answers=("a", "b"))
        for one in pairs(verdicts[:30], 0.6)
    ]
    labels = {sample.key: LABELS[1] for sample in samples[::2]}
    agreement = by_name(correct_pairs(LabelledPairs.of(samples, labels)))["agreement with people"]
    assert agreement.judge is not None
    assert agreement.judge.value == pytest.approx(0.75)


def test_mean_grades_are_corrected_by_model_and_their_difference_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    luck = random.Random(3)
    truth = {f"{model}{k}": luck.randint(3, 8) + (model == "a") for k in range(120) for model in "ab"}
    grades = {key: min(10, max(1, grade + luck.choice((0, 0, 1, 2)))) for key, grade in truth.items()}
    place = grade_folder(
        tmp_path / "graded", None, [(graded(key, key[0], key[1:]), str(grade)) for key, grade in grades.items()]
    )
    asked = luck.sample(sorted(truth), 60)
    human = write_jsonl(tmp_path / "labels.jsonl", [{"question_id": key, "score": truth[key]} for key in asked])
    output = tmp_path / "summary.json"
    assert run_command(["evaluate", str(place), "--human", str(human), "--output", str(output)]) == 0
    found = GradeSummary.read(output).corrected
    assert found is not None
    rates = by_name(found)
    assert list(rates) == ["mean grade of a", "mean grade of b", "mean grade of a less that of b"]
    for model in "ab":
        rate, keys = rates[f"mean grade of {model}"], [key for key in asked if key[0] == model]
        assert rate.people is not None
        assert rate.corrected is not None
        assert rate.judge is not None
        assert rate.inverted is not None
        assert rate.people.value == pytest.approx(sum(truth[key] for key in keys) / len(keys))
        assert rate.judge.value == pytest.approx(sum(grades[key] for key in grades if key[0] == model) / 120)
        true = sum(truth[key] for key in truth if key[0] == model) / 120
        assert rate.corrected.value == pytest.approx(true, abs=0.4)
        assert (rate.corrected.low or 0) < true < (rate.corrected.high or 0)
        assert abs((rate.judge.value or 0) - true) > abs((rate.corrected.value or 0) - true)
    apart = found.pairs[0]
    values = [rates[f"mean grade of {model}"].corrected for model in "ab"]
    assert values[0] is not None
    assert values[1] is not None
    assert apart.corrected is not None
    assert apart.corrected.value == pytest.approx((values[0].value or 0) - (values[1].value or 0))
    assert "mean grade of a less that of b" in capsys.readouterr().out
    assert run_command(["report", str(place), "--human", str(human)]) == 0
    assert "mean grade of a" in (place / "report.md").read_text()
    assert "not random" not in (place / "report.md").read_text()


def test_grades_without_names_are_one_mean_and_wrong_ones_end_in_one_line(tmp_path: Path) -> None:
    rows = [(graded(k, "m", k), "none" if k == 5 else str(k % 9 + 1)) for k in range(40)]
    place = grade_folder(tmp_path / "graded", None, rows)
    human = write_jsonl(
        tmp_path / "labels.jsonl", [{"question_id": k, "text": f"{k % 9 + 1}\nGood."} for k in range(20)]
    )
    found = evaluate_grades(place, human=human).summary.corrected
    assert found is not None
    assert [rate.labels for rate in found.rates] == [20]
    for given, line in (
        ([{"question_id": 77, "score": 1}], "question_id 77 is none of those that were judged"),
        ([{"question_id": 1, "label": 1}], "field 'score' or 'text' is missing"),
        ([{"question_id": 1, "score": "good"}], "field 'score' must be a number"),
        ([{"question_id": 1, "score": None}], "there is no grade in it"),
    ):
        with pytest.raises(InputError, match=line):
            evaluate_grades(place, human=write_jsonl(tmp_path / "wrong.jsonl", given))
    with pytest.raises(ValueError, match="no grade"):
        correct_grades([], {})


def test_samples_of_many_answers_have_no_labels_of_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = {"question_id": 1, "question_body": "q", **{f"answer{k}_body": "a" for k in (1, 2, 3)}}
    record |= {"pred_task": "multi", "pred_order": "forward", "pred_text": "5 6 7", "pred_scores": [5, 6, 7]}
    place = write_jsonl(tmp_path / "many" / "forward.jsonl", [record]).parent
    human = write_jsonl(tmp_path / "labels.jsonl", [{"question_id": 1, "label": 1}])
    for command in ("evaluate", "report"):
        assert run_command([command, str(place), "--human", str(human)]) == 2
        assert "--human compares two answers" in capsys.readouterr().err


def test_labels_are_joined_by_id_alone(folder: Path) -> None:
    samples = read_folder(folder)
    given = LabelledPairs.of(samples, {"3": Outcome.TIE, "nobody": Outcome.WIN})
    assert given.part.labels == 1
    assert given.truth[3] == 1


def test_labels_that_are_null_are_no_labels_of_questions(folder: Path) -> None:
    labels = {str(2 * key): Outcome.WIN if key < 9 else None for key in range(40)}
    found = correct_pairs(LabelledPairs.of(read_folder(folder), labels))
    assert (found.labels, found.untold, found.labelled_questions) == (9, 31, 9)
    assert all(rate.corrected is None for rate in (*found.rates, *found.pairs))
    assert any("labels of 9 questions" in note for note in found.notes)


def test_few_labels_that_all_say_the_same_tell_no_models_apart(folder: Path) -> None:
    """Of two even models one of sixteen times."""
    samples = [one for one in read_folder(folder) if set(one.models) == {"a", "b"}]
    labels = {one.key: Outcome.WIN if one.models[0] == "a" else Outcome.LOSE for one in samples[:5]}
    (pair,) = correct_pairs(LabelledPairs.of(samples, labels)).pairs
    assert (pair.people and pair.people.value, pair.corrected, pair.told_apart) == (1.0, None, False)
