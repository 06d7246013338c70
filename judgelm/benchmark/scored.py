"""Judged folders, verdicts and published results -> what the rows of a benchmark are worth, and its scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from judgelm.benchmark.chosen import TIES, check_prompt, read_name, read_subset
from judgelm.benchmark.labelled import Split
from judgelm.benchmark.report import Scores
from judgelm.benchmark.rows import Rows
from judgelm.benchmark.scores import (
    UNREAD,
    Item,
    RatedRow,
    best_credit,
    met_credit,
    pair_credit,
    score_hhh,
    score_rewardbench,
    score_rewardbench2,
)
from judgelm.errors import InputError, one_line
from judgelm.evaluation.grades import GradedSample, read_grades
from judgelm.evaluation.readings import is_number
from judgelm.evaluation.results import JudgedSample, read_folder
from judgelm.jsonl import Line, LineFile, Record, id_key, require
from judgelm.sample import question_key

REWARDBENCH, REWARDBENCH2, HHH = "rewardbench", "rewardbench2", "hhh"
RESULTS = "results"
"""the field in which RewardBench publishes what a row was worth"""
_PAIRS: Mapping[str, Callable[[Sequence[Item]], Scores]] = {REWARDBENCH: score_rewardbench, HHH: score_hhh}
_Joined = TypeVar("_Joined", JudgedSample, GradedSample)


def score_folders(name: str, splits: Sequence[Split], place: Path) -> Scores | None:
    """The scores of a judged benchmark, each split in its folder; None for one that has no score of its own, and where
    no row is judged as a whole.
    """
    if name in _PAIRS:
        (split,) = splits
        return score_pairs(name, split.records, read_folder(place / split.name))
    if name != REWARDBENCH2:
        return None
    items: list[Item] = []
    rated: list[RatedRow] = []
    for split in splits:
        if split.task == "pair":
            items += met_items(split.records, read_folder(place / split.name))
        else:
            rated += rated_rows(split.records, read_grades(place / split.name))
    return _score_rated(items, rated)


def score_pairs(name: str, records: Sequence[Record], judged: Sequence[JudgedSample]) -> Scores | None:
    """The scores of RewardBench or HHH; None for another."""
    if name not in _PAIRS:
        return None
    items = judged_items(records, judged)
    return _PAIRS[name](items) if items else None


def _score_rated(items: Sequence[Item], rated: Sequence[RatedRow]) -> Scores | None:
    found = [*items, *(Item(one.subset, one.cluster, best_credit(one.ratings)) for one in rated if one.subset != TIES)]
    ties = [one for one in rated if one.subset == TIES]
    return score_rewardbench2(found, ties) if found or ties else None


def judged_items(records: Sequence[Record], judged: Sequence[JudgedSample]) -> list[Item]:
    """What each pair is worth."""
    return [
        Item(record["category"], sample.cluster, pair_credit(sample.outcome, record["label"]))
        for record, sample in _join(records, judged)
    ]


def met_items(records: Sequence[Record], judged: Sequence[JudgedSample]) -> list[Item]:
    """What each row of RewardBench 2 is worth whose pairs are all judged."""
    items = []
    for pairs in _whole_rows(records, judged):
        worth = [pair_credit(sample.outcome, record["label"]) for record, sample in pairs]
        first, sample = pairs[0]
        items.append(Item(first["category"], sample.cluster, met_credit(worth)))
    return items


def rated_rows(records: Sequence[Record], graded: Sequence[GradedSample]) -> list[RatedRow]:
    """The rows of RewardBench 2 whose answers are all graded."""
    found = []
    for answers in _whole_rows(records, graded):
        first, sample = answers[0]
        ratings = [UNREAD if sample.grade is None else sample.grade for _, sample in answers]
        right = sum(record["chosen"] for record, _ in answers)
        found.append(RatedRow(first["category"], sample.cluster, str(first["source_id"]), right, ratings))
    return found


def _join(records: Sequence[Record], judged: Sequence[_Joined]) -> Iterator[tuple[Record, _Joined]]:
    by_key = {sample.key: sample for sample in judged}
    for record in records:
        if (sample := by_key.get(id_key(record["question_id"]))) is not None:
            yield record, sample


def _whole_rows(records: Sequence[Record], judged: Sequence[_Joined]) -> Iterator[list[tuple[Record, _Joined]]]:
    """The samples of each row of the data of which none is missing."""
    rows: dict[str, list[tuple[Record, _Joined]]] = defaultdict(list)
    for record, sample in _join(records, judged):
        rows[record["item"]].append((record, sample))
    return (each for each in rows.values() if len(each) == each[0][0]["answers"])


def holds_results(name: str, path: Path) -> bool:
    """Whether a file is of RewardBench's own form. Raises InputError where it cannot be read."""
    return name in (REWARDBENCH, REWARDBENCH2) and {"subset", RESULTS} <= LineFile(path, finite=False)[0].record.keys()


def read_results(name: str, path: Path) -> tuple[Scores, int, list[str]]:
    """What RewardBench or RewardBench 2 publish of a model (`eval-set-scores/`): rows, or one object of columns, with
    `subset` and what each row was worth in `results`; of Ties `scores`, `num_correct` and `id`.

    Returns the scores, how many rows they are of, and what is wrong with rows that could not be read. Raises InputError
    where none can be read.
    """
    rows, seen = Rows(), set[tuple[str, int]]()
    lines = _unrolled(LineFile(path))
    made = [each for _, each in rows.read(path, lambda line: _read_result(name, line, seen), lines)]
    items = [each for each in made if isinstance(each, Item)]
    if name == REWARDBENCH:
        return score_rewardbench(items), len(made), rows.odd
    scores = _score_rated(items, [each for each in made if isinstance(each, RatedRow)])
    assert scores is not None, "a file without a row that can be read is an error"
    return scores, len(made), rows.odd


def _unrolled(lines: Sequence[Line]) -> Sequence[Line]:
    """The rows of one object of columns, numbered from 1; other lines as they are."""
    record, path, _ = lines[0]
    columns = {field: value for field, value in record.items() if isinstance(value, list)}
    if len(lines) > 1 or "subset" not in columns:
        return lines
    count = len(columns["subset"])
    if not count:
        raise InputError(f"{path}: field 'subset' holds none")
    of_rows = {field: value for field, value in columns.items() if len(value) == count}
    return [Line({field: value[k] for field, value in of_rows.items()}, path, k + 1) for k in range(count)]


def _read_result(name: str, line: Line, seen: set[tuple[str, int]]) -> Item | RatedRow:
    subset = read_subset(line) if name == REWARDBENCH else read_name(line)
    prompt = line.record.get("prompt")
    source = str(line.record.get("id", line.number))
    cluster = (question_key(prompt) if isinstance(prompt, str) else "") or f"{subset} {source}"
    if name == REWARDBENCH2 and subset == TIES:
        rated = _read_ties(line, cluster, source)
        check_prompt(line, source, seen)
        return rated
    worth = require(line, RESULTS, (int, float))
    if not 0 <= worth <= 1:
        raise InputError(f"{line.where}: expected {RESULTS} to be a number from 0 to 1, found {str(worth)[:60]}")
    return Item(subset, cluster, float(worth))


def _read_ties(line: Line, cluster: str, source: str) -> RatedRow:
    given = [_flat(one) for one in require(line, "scores", list)]
    right = require(line, "num_correct", int)
    if not all(map(is_number, given)) or not 0 < right < len(given):
        found = one_line(f"{given}, {right} right")[:60]
        raise InputError(f"{line.where}: expected scores to be numbers, right and wrong answers' ones, found {found}")
    return RatedRow(TIES, cluster, source, right, [float(one) for one in given])


def _flat(score: Any) -> Any:
    """A list of one is its number."""
    return score[0] if isinstance(score, list) and len(score) == 1 else score
