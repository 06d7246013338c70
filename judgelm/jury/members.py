"""Judged folders, and verdicts that others published -> judges of the same samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from judgelm.benchmark.predictions import predicted_samples, read_predictions
from judgelm.errors import InputError, one_line
from judgelm.evaluation.labels import read_truths
from judgelm.evaluation.results import JudgedSample, Truth, judged_task, order_files, read_folder
from judgelm.jsonl import Record, index_by_id, read_lines
from judgelm.sample import swap_fields
from judgelm.samples import PathLike, read_samples

TASK = "pair"
_SAME = ("question_body", "answer1_body", "answer2_body", "messages", "conversation1", "conversation2")
"""fields that all judges of a sample must have been shown alike"""


@dataclass(frozen=True, slots=True)
class Member:
    """One judge."""

    name: str
    place: str
    """its folder or file, as it was given"""
    samples: Sequence[JudgedSample]
    """in the order of the rows"""

    @property
    def has_both(self) -> bool:
        """Whether it judged both orders."""
        return all(sample.forward is not None and sample.reversed is not None for sample in self.samples)

    def check_probabilities(self) -> None:
        """Raises InputError where no judgement has any."""
        if all(sample.probabilities is None for sample in self.samples):
            raise InputError(f"{self.place}: no probabilities there (judgelm judge --scoring expected writes them)")


@dataclass(frozen=True, slots=True)
class Members:
    """Judges of the same samples."""

    judges: Sequence[Member]
    rows: Sequence[Record]
    """each sample's fields, as a judge in forward order is shown them"""
    truths: Sequence[Truth | None]


def read_members(
    places: Sequence[PathLike],
    labels: PathLike | None = None,
    question_file: PathLike | None = None,
    vocabulary: str | None = None,
) -> Members:
    """Two judges or more, joined by question_id.

    Args:
        places: folders that `judgelm judge` wrote, and files of verdicts as `judgelm benchmark --predictions` reads
            them, which may have more rows.
        labels: rows of `question_id` with `label` (1, 2, 0 for a tie, null) or `text` ("s1 s2" and reasons) as the
            truth, of all samples or of some; without it what the rows bring along.
        question_file: the samples, which is needed where no folder has them.
        vocabulary: what the words of all files of verdicts mean (default: found from each file).

    Raises InputError for one judge alone or twice the same, folders of another task or of other samples, and where
    there is no sample.
    """
    paths = [Path(place).expanduser() for place in places]
    if len(paths) < 2:
        raise InputError(f"expected two judges or more, found {len(paths)}")
    known: dict[Path, PathLike] = {}
    for place, path in zip(places, paths, strict=True):
        if not path.exists():
            raise InputError(f"{place}: no such file or folder")
        if path.resolve() in known:
            raise InputError(f"{place}: the same judge as {known[path.resolve()]}")
        known[path.resolve()] = place
    base = Path(question_file) if question_file is not None else next((path for path in paths if path.is_dir()), None)
    if base is None:
        raise InputError(f"{places[0]}, ..: verdicts alone: --question-file FILE names the samples that they are of")
    for path in paths:
        _check_task(path)
    rows = _rows(base) if base.is_dir() else {each.key: each.to_record() for each in read_samples(base, TASK)}
    read = [_read_judge(path, rows, base, vocabulary) for path in paths]
    names = _names([name for name, _ in read], [str(place) for place in places])
    judges = [Member(name, str(place), samples) for name, place, (_, samples) in zip(names, places, read, strict=True)]
    return Members(judges, list(rows.values()), read_truths(rows, base, labels))


def _check_task(path: Path) -> None:
    task = judged_task(path) if path.is_dir() else TASK
    if task not in (TASK, None):
        raise InputError(f"{path}: expected a folder of task {TASK}, found task {task}")


def _rows(folder: Path) -> dict[str, Record]:
    """A folder's samples by id, without what its judge said."""
    from judgelm.judge.log import judgement_fields

    order, source = next(iter(order_files(folder).items()), ("forward", folder / "forward.jsonl"))
    found = {}
    for key, line in index_by_id(read_lines(source, finite=False)).items():
        said = judgement_fields(line.record).keys() - {"pred_thoughts"}
        row = {name: value for name, value in line.record.items() if name not in said}
        found[key] = row if order == "forward" else exchanged(row)
    return found


def exchanged(row: Record) -> Record:
    """A sample's fields as a judge in reversed order is shown them, and back."""
    swapped = swap_fields(row)
    if isinstance(row.get("pred_thoughts"), dict):
        # by field, how much of an answer was hidden
        swapped["pred_thoughts"] = swap_fields(row["pred_thoughts"])
    return swapped


def _read_judge(
    path: Path, rows: Mapping[str, Record], base: Path, vocabulary: str | None
) -> tuple[str, list[JudgedSample]]:
    if path.is_dir():
        found = {sample.key: sample for sample in read_folder(path, with_truth=False)}
        if path != base:
            _check_rows(path, _rows(path), rows, base)
        name = _judge_name(path)
    else:
        verdicts = read_predictions(path, vocabulary)
        if verdicts.rows is not None and base.is_dir():
            # a folder's rows are sorted
            raise InputError(f"{path}: its verdicts have no id and go by row: --question-file FILE has these rows")
        given = predicted_samples(list(rows.values()), verdicts, path, range(len(rows)), len(rows))
        found, name = {sample.key: sample for sample in given}, path.stem
    _check_count(path, found, rows, base)
    return name, [found[key] for key in rows]


def _check_count(path: Path, found: Mapping[str, object], rows: Mapping[str, Record], base: Path) -> None:
    lacking = [key for key in rows if key not in found]
    strange = [key for key in found if key not in rows]
    if lacking or strange:
        odd = f"{one_line(lacking[0])} is missing" if lacking else f"{one_line(strange[0])} is none of them"
        raise InputError(
            f"{path}: expected verdicts on the {len(rows)} samples of {base}, found {len(found)}: question_id {odd}"
        )


def _check_rows(path: Path, own: Mapping[str, Record], rows: Mapping[str, Record], base: Path) -> None:
    _check_count(path, own, rows, base)
    for key, row in rows.items():
        for name in _SAME:
            if _as_read(own[key].get(name)) != _as_read(row.get(name)):
                raise InputError(f"{path}: question_id {one_line(key)} has another {name} than in {base}")


def _as_read(value: object) -> object:
    """JSON's true, false and numbers are texts, as `read_text` has them: a folder may hold either."""
    return str(value) if isinstance(value, bool | int | float) else value


def _judge_name(folder: Path) -> str:
    """As its run.json has it, else its records, else the folder's."""
    from judgelm.judge.description import read_description

    described = read_description(folder / "run.json")
    given = described.settings.get("model_id") if described else None
    if given is None:
        files = list(order_files(folder).values())
        given = next(read_lines(files[0], finite=False)).record.get("pred_model_id") if files else None
    return (isinstance(given, str) and one_line(given)) or folder.resolve().name


def _names(names: Sequence[str], places: Sequence[str]) -> list[str]:
    """Judges of the same name are told apart by their places."""
    return [f"{name} ({place})" if names.count(name) > 1 else name for name, place in zip(names, places, strict=True)]
