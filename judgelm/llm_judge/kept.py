"""Judgements of an earlier question file: which of them hold for the samples of now, and what becomes of the others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from judgelm.jsonl import (
    InputError,
    Line,
    Record,
    dump_line,
    holds_lines,
    id_key,
    one_line,
    read_lines,
    reading,
    write_text,
)
from judgelm.llm_judge.judge import Order
from judgelm.llm_judge.log import (
    WAY_OUT,
    Check,
    JudgementRecord,
    is_begun,
    judgement_fields,
    partial_of,
    read_output,
    writing,
)
from judgelm.reading import Samples, make_sample
from judgelm.sample import Sample, swap_fields

KEEP_FLAG = "--keep-judged"


@dataclass(frozen=True, slots=True)
class _Shown:
    """A sample as the judge is shown it."""

    row: int
    digest: bytes
    has_reference: bool
    """whether its judgements name the reference"""


class Questions:
    """The samples that judgements may be of, all of a question file, told apart by what the judge is shown of them."""

    def __init__(self, samples: Sequence[Sample], task: str, num_answers: int | None, seed: int) -> None:
        self.samples = samples.whole() if isinstance(samples, Samples) else samples
        self.complete = isinstance(samples, Samples)
        """whether there are no others; a caller in Python may have judged more before"""
        self._how = (task, num_answers, seed)
        named = self.samples.by_key() if isinstance(self.samples, Samples) else ((each.key, each) for each in samples)
        self._shown = {key: self._show(row, sample) for row, (key, sample) in enumerate(named)}

    def _show(self, row: int, sample: Sample | None) -> _Shown | None:
        """None for a row that is wrong, which does not matter as long as it is not asked for."""
        if sample is None:
            return None
        return _Shown(row, _digest(sample), sample.reference is not None and self._how[0] != "mmvet")

    def __contains__(self, key: str) -> bool:
        return key in self._shown

    def match(self, line: Line, order: Order) -> bool:
        """Whether the judge was shown just what the sample of this id holds."""
        shown = self._shown.get(id_key(line.record["question_id"]))
        if shown is None:
            return False
        record = _as_forward(line.record, order)
        try:
            sample = make_sample(line._replace(record=record), *self._how)
            if shown.has_reference:
                sample = replace(sample, reference=record.get("reference"))
        except (InputError, ValueError):
            return False
        return _digest(sample) == shown.digest

    def renew(self, record: Record, order: Order) -> Record:
        """A judgement that matches, with the fields that the sample brings along now."""
        shown = self._shown[id_key(record["question_id"])]
        assert shown is not None, "it matches"
        sample = self.samples[shown.row]
        reference = {"reference": sample.reference} if shown.has_reference else {}
        carried = (sample.swapped() if order == "reversed" else sample).to_record()
        said = judgement_fields(record)
        stamp = {name: said.pop(name) for name in ("pred_id", "pred_model_id", "tstamp") if name in said}
        return {**carried, **said, **reference, **stamp}


def _digest(sample: Sample) -> bytes:
    shown = json.dumps([sample.question, sample.answers, sample.reference])
    return hashlib.blake2b(shown.encode(), digest_size=16).digest()


def _as_forward(record: Record, order: Order) -> Record:
    return swap_fields(record) if order == "reversed" else record


def make_check(order: Order, task: str, model_id: str) -> Check:
    """What every judgement of an output file must stand: its fields' types, and that it is of this task and judge."""

    def check(line: Line) -> None:
        record = JudgementRecord.from_line(line)
        for name, wanted in (("pred_order", order), ("pred_task", task), ("pred_model_id", model_id)):
            if (found := getattr(record, name)) not in (wanted, None):
                raise InputError(f"{line.where}: expected {name} {wanted!r}, found {found!r}; {WAY_OUT}")

    return check


def check_sample(line: Line, order: Order, questions: Questions, has_flag: bool) -> None:
    """Raises InputError for a judgement of a sample that is not there, or not so."""
    key = id_key(line.record["question_id"])
    if key not in questions and not questions.complete:
        return
    if not questions.match(line, order):
        problem = "was judged with other texts" if key in questions else "is not in the question file"
        flag = f"; {KEEP_FLAG} moves it aside" if has_flag else ""
        raise InputError(f"{line.where}: question_id {one_line(key)} {problem}; {WAY_OUT}{flag}")


def left_out_of(path: Path) -> Path:
    """Where judgements of an output file go whose sample is gone."""
    return path.with_name(path.name + ".left-out")


def count_matches(
    outputs: Mapping[Order, Path], checks: Mapping[Order, Check], questions: Questions
) -> tuple[int, int]:
    """How many judgements hold for the samples of now, and how many there are."""
    found = [
        questions.match(line, order)
        for order, path in outputs.items()
        for _, _, line in read_output(path, checks[order])
    ]
    return sum(found), len(found)


def keep(outputs: Mapping[Order, Path], checks: Mapping[Order, Check], questions: Questions) -> dict[str, int]:
    """Move the judgements aside that do not hold for the samples of now; the others are as those of a run begun.

    Returns how many were kept and left out. Ended at any point, it can be done again. Raises InputError for a damaged
    line before anything is changed.
    """
    kept, total = count_matches(outputs, checks, questions)
    for order, path in outputs.items():
        if not is_begun(path):
            continue
        _add_lines(left_out_of(path), _select(path, order, checks[order], questions, matching=False))
        records = _select(path, order, checks[order], questions, matching=True)
        write_text(partial_of(path), (dump_line(questions.renew(record, order)) for record in records))
        with writing(path):
            path.unlink(missing_ok=True)
    return {"kept": kept, "left_out": total - kept}


def _select(path: Path, order: Order, check: Check, questions: Questions, matching: bool) -> Iterator[Record]:
    for _, _, line in read_output(path, check):
        if questions.match(line, order) is matching:
            yield line.record


def _add_lines(path: Path, records: Iterable[Record]) -> None:
    """Records that a file does not hold yet go to its end."""
    there = [dump_line(line.record) for line in read_lines(path)] if holds_lines(path) else []
    known = set(there)
    new = [line for line in map(dump_line, records) if line not in known]
    if new:
        write_text(path, [*there, *new])


def keep_questions(path: Path, records: Iterable[Record], keep_judged: bool, otherwise: str) -> None:
    """Write samples that a command made itself. Where other ones were judged there, that must be allowed.

    Raises InputError that says what is there `otherwise`.
    """
    content = "".join(map(dump_line, records))
    if path.exists():
        with reading(path):
            if path.read_bytes() == content.encode():
                return
        if not keep_judged:
            raise InputError(
                f"{path} {otherwise}: name another folder, or say {KEEP_FLAG} to keep the judgements of those that are"
                " the same"
            )
    write_text(path, content)
