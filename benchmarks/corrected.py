"""How often the intervals of corrected rates hold the truth: simulated, and on PandaLM's human labels.

    git clone https://github.com/WeOpenML/PandaLM; git clone https://github.com/NuoJohnChen/JudgeLRM
    python -m benchmarks.corrected --pandalm PandaLM/data --judgelrm JudgeLRM/results --output benchmarks/corrected.json

Simulated are 1,000 data sets of each kind, of which people label some samples at random: judges from useless (0: their
verdicts have nothing to do with people's) to perfect (1), one sample a question or five, ties, grades, and ratings of
four models. Of PandaLM's test set all labels are known: 900 are hidden, 200 times, and what is corrected is held
against the rate of all.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.provenance import current_commit
from judgelm.benchmark.benchmark import read_benchmark
from judgelm.benchmark.predictions import predicted_samples, read_predictions
from judgelm.evaluation.corrected import POINTS, Corrected, Part, invert_confusion, invert_line, power
from judgelm.evaluation.corrections import CorrectedRate, Corrections
from judgelm.evaluation.metrics.intervals import SHARE, Floats, Span
from judgelm.evaluation.pair_corrections import LabelledPairs, correct_pairs
from judgelm.evaluation.rate import Rate
from judgelm.evaluation.results import JudgedSample
from judgelm.files import hash_file, write_text
from judgelm.jsonl import dump_line
from judgelm.judge.description import versions
from judgelm.judgement import Outcome
from judgelm.ranking.corrected import power_ratings

RIGHT = (0.0, 0.3, 0.6, 0.9, 0.98, 1.0)
LABELS = (30, 100, 200)
PARTS = ("pandalm", "simulated")
RATED = 100
"""labels of the data sets of which ratings are made"""
SAMPLES = 1000
CHANCES = (0.45, 0.2, 0.35)
"""of win, tie and lose by people"""
TASTES = (0.5, 0.1, 0.4)
"""of a judge that is not right"""
GRADES: Span = (1.0, 10.0)
STRENGTHS = np.array([0.8, 0.3, -0.2, -0.9])
Found = dict[str, tuple[float | None, float | None]]
"""by way, an interval"""


def world(random: np.random.Generator, labels: int, a_question: int) -> tuple[Part, Floats, Floats]:
    """A random part, and for each sample what people and what the judge draw by, from 0 to 1; half of the samples of a
    question share both.
    """
    questions = np.repeat(np.arange(SAMPLES // a_question), a_question)
    common = random.random(SAMPLES) < (0.5 if a_question > 1 else 0)
    luck, skill = (
        np.where(common, random.random(SAMPLES)[questions], random.random(SAMPLES)) for _ in ("luck", "skill")
    )
    asked = np.zeros(SAMPLES, dtype=np.bool_)
    asked[random.choice(SAMPLES, labels, replace=False)] = True
    return Part(asked, questions), luck, skill


def win_rates(
    random: np.random.Generator, right: float, labels: int, a_question: int, tastes: Sequence[float]
) -> Found:
    """Of the first of two models."""
    part, luck, skill = world(random, labels, a_question)
    outcomes = np.searchsorted(np.cumsum(CHANCES)[:-1], luck)
    said = np.where(skill < right, outcomes, random.choice(3, SAMPLES, p=tastes))
    people = np.where(part.asked, POINTS[outcomes], np.nan)
    found = {way: power(people, POINTS[said], part, weight) for way, weight in (("people", 0.0), ("corrected", None))}
    inverted = invert_confusion(np.where(part.asked, outcomes, -1), said, people, part)
    return intervals(found, inverted, SHARE)


def mean_grades(random: np.random.Generator, right: float, labels: int, a_question: int) -> Found:
    """From 1 to 10; the judge is a point too mild and has errors of its own."""
    part, luck, skill = world(random, labels, a_question)
    grades = np.clip(np.rint(2 + 7 * luck), *GRADES)
    judge = np.clip(np.rint(np.where(skill < right, grades + 1, random.uniform(1, 10, SAMPLES))), *GRADES)
    people = np.where(part.asked, grades, np.nan)
    found = {way: power(people, judge, part, weight) for way, weight in (("people", 0.0), ("corrected", None))}
    return intervals(found, invert_line(people, judge, part), GRADES)


def intervals(found: dict[str, Corrected], inverted: Corrected | None, span: Span) -> Found:
    """As `judgelm evaluate` says them."""
    if inverted is not None and inverted.half < (span[1] - span[0]) / 2:
        found["rogan_gladen"] = inverted
    estimates = {way: each.estimate(span, SAMPLES) for way, each in found.items()}
    return {way: (each.low, each.high) for way, each in estimates.items()}


def ratings(random: np.random.Generator, right: float, labels: int) -> Iterator[Found]:
    """Of each of four models."""
    first = random.integers(0, 4, SAMPLES)
    second = (first + random.integers(1, 4, SAMPLES)) % 4
    won = random.random(SAMPLES) < 1 / (1 + np.exp(STRENGTHS[second] - STRENGTHS[first]))
    judge = np.where(random.random(SAMPLES) < right, won, random.choice(POINTS, SAMPLES, p=TASTES))
    asked = np.zeros(SAMPLES, dtype=np.bool_)
    asked[random.choice(SAMPLES, labels, replace=False)] = True
    models = [("abcd"[one], "abcd"[other]) for one, other in zip(first.tolist(), second.tolist(), strict=True)]
    part, people = Part(asked, np.arange(SAMPLES)), np.where(asked, won, np.nan)
    both = {
        way: power_ratings(models, people, judge, part, weight)
        for way, weight in (("people", 0.0), ("corrected", None))
    }
    for name in "abcd":
        rates = {way: each.rate(name, SAMPLES) for way, each in both.items()}
        yield {way: (rate.low, rate.high) for way, rate in rates.items()}


def held(found: Sequence[Found], true: float) -> dict[str, Any]:
    """By way: how often its interval holds the truth, its mean width, and how often it is said."""
    report = {}
    for way in ("people", "corrected", "rogan_gladen"):
        ends = np.array([each[way] for each in found if None not in each.get(way, (None,))], dtype=np.float64)
        if len(ends):
            low, high = ends.T
            report[way] = {
                "held": round(float(((low <= true) & (true <= high)).mean()), 4),
                "width": round(float((high - low).mean()), 4),
                "said": round(len(ends) / len(found), 4),
            }
    return report


def simulate(sets: int) -> Iterator[dict[str, Any]]:
    """One report for each kind of data set."""
    true = float(np.array(CHANCES) @ POINTS)
    kinds = [(labels, a_question, right) for labels in LABELS for a_question in (1, 5) for right in RIGHT]
    for labels, a_question, right in kinds:
        where = {"labels": labels, "samples": SAMPLES, "a_question": a_question, "right": right}
        for name, tastes in (("win rate", TASTES), ("win rate, all errors for answer 1", (1.0, 0.0, 0.0))):
            random = np.random.default_rng([labels, a_question, int(100 * right)])
            found = [win_rates(random, right, labels, a_question, tastes) for _ in range(sets)]
            yield {"what": name, **where, **held(found, true)}
        random = np.random.default_rng([labels, a_question, int(100 * right)])
        graded = [mean_grades(random, right, labels, a_question) for _ in range(sets)]
        # 2 + 7 times a number from 0 to 1, rounded: as much below as above the middle
        yield {"what": "mean grade", **where, **held(graded, 5.5)}
        if a_question == 1 and labels == RATED:
            random = np.random.default_rng([labels, int(100 * right)])
            rated = [list(ratings(random, right, labels)) for _ in range(sets)]
            per_model = [
                held([each[place] for each in rated], 1000 + 400 / np.log(10) * strength)
                for place, strength in enumerate(STRENGTHS - STRENGTHS.mean())
            ]
            yield {"what": "rating", **where, "models": per_model}


def hide(pandalm: Path, judgelrm: Path, work: Path, times: int, kept: int) -> Iterator[dict[str, Any]]:
    """Of each published judge: what is corrected with few labels, against the rates of all.

    Intervals say how sure a rate is of samples like these. So besides hiding labels of these very samples, whose rate
    they are too wide for, as many samples are drawn from them with replacement and then labels are hidden.
    """
    (split,) = read_benchmark("pandalm", pandalm / "testset-v1.json").splits.values()
    for name, (path, field) in published(pandalm, judgelrm).items():
        rows = json.loads(path.read_text(encoding="utf-8"))
        verdicts = work / f"{name}.jsonl"
        write_text(verdicts, (dump_line({"question_id": row["idx"], "verdict": row[field]}) for row in rows))
        samples = predicted_samples(split.records, read_predictions(verdicts, "number"), verdicts)
        true = rates_of(correct_pairs(LabelledPairs.of(samples, outcomes(samples))))
        for drawn in (False, True):
            random = np.random.default_rng(0)
            found = []
            for _ in range(times):
                taken = draw(samples, random) if drawn else samples
                labels = outcomes(taken)
                keys = random.choice(sorted(labels), kept, replace=False)
                found.append(correct_pairs(LabelledPairs.of(taken, {key: labels[key] for key in keys})))
            for what, whole in true.items():
                ours = [rates_of(each)[what] for each in found]
                assert whole.people is not None
                assert whole.people.value is not None
                yield {
                    "judge": name,
                    "what": what,
                    "true": round(whole.people.value, 4),
                    "drawn with replacement": drawn,
                    "samples": len(samples),
                    "labels": kept,
                    "times": times,
                    **held([ends(each) for each in ours], whole.people.value),
                    "narrower": float(np.mean([width(each.corrected) < width(each.people) for each in ours])),
                    "worth": float(np.median([each.worth or 0 for each in ours])),
                    "called not random": sum(any("not random" in note for note in each.notes) for each in found)
                    / times,
                }


def outcomes(samples: Sequence[JudgedSample]) -> dict[str, Outcome]:
    """What people say."""
    return {sample.key: sample.truth.outcome for sample in samples if sample.truth}


def draw(samples: Sequence[JudgedSample], random: np.random.Generator) -> list[JudgedSample]:
    """As many, with replacement; one that is drawn twice is two."""
    taken = enumerate(random.integers(0, len(samples), len(samples)).tolist())
    return [replace(samples[k], key=str(place), question=f"{place}: {samples[k].question}") for place, k in taken]


def rates_of(found: Corrections) -> dict[str, CorrectedRate]:
    """By name."""
    return {rate.name: rate for rate in (*found.rates, *found.pairs)}


def ends(rate: CorrectedRate) -> Found:
    """Of the intervals that there are."""
    ways = {"people": rate.people, "corrected": rate.corrected, "rogan_gladen": rate.inverted}
    return {way: (each.low, each.high) for way, each in ways.items() if each is not None}


def width(rate: Rate | None) -> float:
    """Of an interval that is there."""
    assert rate is not None
    assert rate.low is not None
    assert rate.high is not None
    return rate.high - rate.low


def published(pandalm: Path, judgelrm: Path) -> dict[str, tuple[Path, str]]:
    """Judges, the files of their verdicts on PandaLM's test set, and the field."""
    return {
        "gpt-3.5-turbo": (pandalm / "gpt-3.5-turbo-testset-v1.json", "gpt_result"),
        "PandaLM-7B": (pandalm / "pandalm-7b-testset-v1.json", "pandalm_result"),
        "JudgeLRM-3B": (judgelrm / "results_judgelrm3b.json", "result"),
        "JudgeLRM-7B": (judgelrm / "results_judgelrm7b.json", "result"),
    }


def main() -> None:
    """Print and write raw numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pandalm", required=True, type=Path, help="folder of PandaLM's data")
    parser.add_argument("--judgelrm", required=True, type=Path, help="folder of JudgeLRM's results")
    parser.add_argument("--work", type=Path, default=Path("build/corrected"), help="folder for what is made of them")
    parser.add_argument("--sets", type=int, default=1000, help="simulated data sets of each kind")
    parser.add_argument("--times", type=int, default=200, help="how often labels are hidden")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="those that are done anew")
    parser.add_argument("--output", required=True, type=Path, help="raw numbers, JSON; parts not done anew stay")
    args = parser.parse_args()
    commit = current_commit()
    sources = [args.pandalm / "testset-v1.json", *(path for path, _ in published(args.pandalm, args.judgelrm).values())]
    report: dict[str, Any] = json.loads(args.output.read_text()) if args.output.exists() else {}
    for part in args.parts:
        report[part] = {"command": f"python -m benchmarks.corrected {' '.join(sys.argv[1:])}", "commit": commit}
        report[part] |= {"versions": versions(), "found": []}
        if part == "pandalm":
            report[part]["sha256"] = {path.name: hash_file(path) for path in sources}
            found = hide(args.pandalm, args.judgelrm, args.work, args.times, 99)
        else:
            found = simulate(args.sets)
        for each in found:
            report[part]["found"].append(each)
            print(json.dumps(each), flush=True)
            write_text(args.output, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
