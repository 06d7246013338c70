"""The story of docs/trust.md at small size: 100 labels, two judges, three models, from labels to a decision.

What is true is planted: what people would say of each pair, how often each judge says the same, and how sure the small
one is of it. People's labels come from the page's own votes; every step after that is a command on what the steps
before it wrote.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from conftest import write_jsonl
from judging import run_command

from judgelm.errors import InputError
from judgelm.evaluation.calibration_map import CalibrationFile, TemperatureMap
from judgelm.evaluation.cascade import Cascade
from judgelm.evaluation.corrections import CorrectedRate, Corrections
from judgelm.evaluation.labels import read_labels
from judgelm.evaluation.rate import Rate
from judgelm.evaluation.summary import SummaryFile
from judgelm.labelling import Labelling, LabelSettings, open_labelling
from judgelm.ranking.ranking import Ranking
from judgelm.sample import swap_fields

PAIRS, LABELS = 300, 100
MODELS = ("strong", "medium", "weak")
WINS = {("strong", "medium"): 0.7, ("strong", "weak"): 0.85, ("medium", "weak"): 0.55}
"""of the first"""
RIGHT = {"small": 0.6, "large": 0.85}
"""how often a judge says what people say for more than luck"""
NAMES = {1: "win", 0: "tie", 2: "lose"}
OTHER = {1: 2, 2: 1, 0: 0}
SCORES = {1: "9 5", 0: "7 7", 2: "4 8"}
Record = dict[str, Any]


def play(seed: int = 5) -> tuple[list[Record], dict[int, int]]:
    """Pairs of the three models, and what people would say of each."""
    luck, pairs, said = random.Random(seed), [], {}
    for key in range(PAIRS):
        first, second = names = luck.choice(list(WINS))
        label = luck.choices((1, 0, 2), (WINS[names] - 0.05, 0.1, 0.95 - WINS[names]))[0]
        if luck.random() < 0.5:
            (first, second), label = (second, first), OTHER[label]
        texts = {"answer1_body": f"{first} says {key}", "answer2_body": f"{second} says {key}"}
        models = {"answer1_model_id": first, "answer2_model_id": second}
        pairs.append({"question_id": key, "question_body": f"Question {key}?", **texts, **models})
        said[key] = label
    return pairs, said


def judge(folder: Path, pairs: list[Record], people: dict[int, int], sure: float | None = None) -> Path:
    """As `judgelm judge` writes it; in one pair of six it has forgotten once the answers are exchanged what it said.

    `sure` is the probability that it gives to what it says, right or wrong.
    """
    luck = random.Random(folder.name)
    rows: dict[str, list[Record]] = {"forward": [], "reversed": []}
    for pair in pairs:
        truth = people[pair["question_id"]]
        word = truth if luck.random() < RIGHT[folder.name] else luck.choice((1, 0, 2))
        again = luck.choice((1, 0, 2)) if luck.random() < 1 / 6 else word
        for order, shown in (("forward", word), ("reversed", OTHER[again])):
            row = {**(pair if order == "forward" else swap_fields(pair)), "pred_text": SCORES[shown]}
            if sure is not None:
                shares = {name: sure if label == shown else (1 - sure) / 2 for label, name in NAMES.items()}
                row["pred_probabilities"] = shares
            rows[order].append(row | {"pred_order": order, "pred_task": "pair", "pred_model_id": folder.name})
    for order, judged in rows.items():
        write_jsonl(folder / f"{order}.jsonl", judged)
    settings = {"model": folder.name, "model_id": folder.name, "task": "pair", "scoring": "expected"}
    run = {"format": 1, "settings": settings, "finished": True, "references": False}
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return folder


def say(labelling: Labelling, people: dict[int, int], count: int, person: str = "anna") -> None:
    """Votes on the rows that come first to this person, by the answers as the person sees them."""
    for _ in range(count):
        place = labelling.open_row(person)
        assert place is not None
        label = people[int(place.row.sample.key)]
        labelling.save(person, place, label if place.order == "forward" else OTHER[label], "")


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """In the folder where commands run: pairs.jsonl, labels.jsonl of 100 of them, and both judges' folders."""
    monkeypatch.chdir(tmp_path)
    pairs, people = play()
    write_jsonl(Path("pairs.jsonl"), pairs)
    with open_labelling(LabelSettings("pairs.jsonl", "labels.jsonl")) as labelling:
        say(labelling, people, LABELS)
    judge(Path("small"), pairs, people, sure=0.97)
    judge(Path("large"), pairs, people)
    return people


def true_rate(people: dict[int, int], first: str, second: str | None = None) -> float:
    """The win rate of a model by what people would say of all pairs, a tie being half."""
    points = []
    for pair in play()[0]:
        names = pair["answer1_model_id"], pair["answer2_model_id"]
        if first in names and (second is None or second in names):
            label = people[pair["question_id"]]
            points.append(0.5 if label == 0 else float(names[label - 1] == first))
    return sum(points) / len(points)


def holds(rate: Rate | None, truth: float) -> bool:
    assert rate is not None
    assert rate.low is not None
    assert rate.high is not None
    return rate.low <= truth <= rate.high


def width(rate: Rate | None) -> float:
    assert rate is not None
    assert rate.low is not None
    assert rate.high is not None
    return rate.high - rate.low


def by_name(found: Corrections | None) -> dict[str, CorrectedRate]:
    assert found is not None
    return {rate.name: rate for rate in (*found.rates, *found.pairs)}


def check_rates(found: Corrections | None, people: dict[int, int]) -> None:
    """Whatever the judge is worth, all corrected intervals hold what people would say of all pairs."""
    assert found is not None
    assert (found.samples, found.labels, found.untold) == (PAIRS, LABELS, 0)
    rates = by_name(found)
    for name in MODELS:
        assert holds(rates[f"win rate of {name}"].corrected, true_rate(people, name))
    assert len(found.pairs) == 3
    for pair in found.pairs:
        assert holds(pair.corrected, true_rate(people, pair.first, pair.second))
    assert not any("not random" in note for note in found.notes)


def run(*arguments: str) -> None:
    assert run_command(list(arguments)) == 0


def test_from_labels_to_a_decision(story: dict[int, int], capsys: pytest.CaptureFixture[str]) -> None:
    people = story

    # what each judge is worth
    found = {}
    for name in RIGHT:
        run("evaluate", name, "--human", "labels.jsonl", "--output", f"{name}.json")
        found[name] = SummaryFile.read(f"{name}.json").corrected
        check_rates(found[name], people)
    small, large = by_name(found["small"]), by_name(found["large"])
    assert (large["win rate of strong"].worth or 0) > 2 * (small["win rate of strong"].worth or 0)
    assert width(large["win rate of strong"].corrected) < width(small["win rate of strong"].corrected)

    # the small one is too sure, and a map says so
    run("calibrate", "small", "--labels", "labels.jsonl", "--output", "map.json")
    made = CalibrationFile.read("map.json")
    assert made.labels == LABELS
    assert isinstance(made.map, TemperatureMap)
    assert made.map.temperature > 2
    assert (made.checked["brier"].difference.high or 0) < 0
    run("evaluate", "small", "--human", "labels.jsonl", "--calibration", "map.json", "--output", "calibrated.json")
    check_rates(SummaryFile.read("calibrated.json").corrected, people)

    # the small one first, the large one where it contradicts itself
    run("cascade", "small", "large", "--labels", "labels.jsonl", "--sure", "0.5", "--output-dir", "cascade")
    cascade = Cascade.read("cascade/cascade.json")
    assert cascade.labelled == LABELS
    assert cascade.point is not None
    assert cascade.first_alone is not None
    assert 0 < cascade.sent < PAIRS / 2 + 50
    assert (cascade.point.agreement.value or 0) > (cascade.first_alone.value or 0) + 0.05

    # both together, ranked and reported, with a folder like any other
    jury = ("--output-dir", "jury", "--method", "weighted", "--labels", "labels.jsonl")
    run("jury", "small", "large", *jury)
    run("evaluate", "jury", "--human", "labels.jsonl", "--output", "jury.json")
    check_rates(SummaryFile.read("jury.json").corrected, people)
    run("rank", "--judgements", "jury", "--human", "labels.jsonl", "--output-dir", "jury")
    ranking = Ranking.read("jury/ranking.json")
    check_rates(ranking.corrected, people)
    assert ranking.corrected is not None
    assert [model.name for model in ranking.models] == list(MODELS)
    ratings = {one.name: one.corrected.value or 0 for one in ranking.corrected.ratings if one.corrected}
    assert max(ratings, key=ratings.__getitem__) == "strong"
    capsys.readouterr()

    # the decision: one model is better than both others, of which these labels do not say who is better
    run("report", "jury", "--human", "labels.jsonl")
    told = {(pair.first, pair.second): pair.told_apart for pair in ranking.corrected.pairs}
    assert told == {("medium", "strong"): True, ("strong", "weak"): True, ("medium", "weak"): False}
    brief = capsys.readouterr().out.splitlines()[-1]
    assert brief.startswith("And with people's labels? ")
    for said in ("strong beats medium, ", "strong beats weak, ", "medium and weak are not told apart."):
        assert said in brief
    assert brief.endswith("By labels of 100 of 300 pairs, and the judge on all.")
    text, page = (Path(f"jury/report.{kind}").read_text(encoding="utf-8") for kind in ("md", "html"))
    assert brief in text
    assert "medium and weak cannot be told apart" in text
    assert "strong beats medium" in page


def test_rows_that_nobody_labelled_are_no_labels_anywhere(story: dict[int, int]) -> None:
    """The file of labels has all rows, most of them with `annotators: []`."""
    rows = [json.loads(line) for line in Path("labels.jsonl").read_text().splitlines()]
    assert len(rows) == PAIRS
    assert sum(row["annotators"] == [] for row in rows) == PAIRS - LABELS
    judged = {str(key) for key in range(PAIRS)}
    labels = read_labels("labels.jsonl", judged)
    assert len(labels) == LABELS
    assert all(label is not None and label.value == NAMES[story[int(key)]] for key, label in labels.items())
    # a judge of some rows alone needs no more than those that have a label
    assert read_labels("labels.jsonl", labels.keys()) == labels
    first = next(iter(labels))
    with pytest.raises(InputError, match=f"question_id {first} is none of those that were judged"):
        read_labels("labels.jsonl", judged - {first})


def test_a_map_of_one_judge_is_refused_for_the_jury(story: dict[int, int], capsys: pytest.CaptureFixture[str]) -> None:
    run("calibrate", "small", "--labels", "labels.jsonl", "--output", "map.json")
    run("jury", "small", "large", "--output-dir", "jury")
    capsys.readouterr()
    assert run_command(["rank", "--judgements", "jury", "--calibration", "map.json", "--human", "labels.jsonl"]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "map.json" in error or "run.json" in error
