"""Judgements of an earlier question file: which of them hold for the samples of now, and what becomes of the others."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from judgelm.appended import WAY_OUT, writing
from judgelm.errors import InputError, one_line
from judgelm.files import write_text
from judgelm.jsonl import Line, Record, dump_line, holds_lines, id_key, read_lines, reading
from judgelm.judge.judged import carried
from judgelm.judge.log import (
    Check,
    JudgementRecord,
    Log,
    is_begun,
    judgement_fields,
    partial_of,
    read_output,
)
from judgelm.judge.settings import JudgeSettings, Order
from judgelm.sample import Sample, unshow_fields
from judgelm.samples import Samples, make_sample

KEEP_FLAG = "--keep-judged"


@dataclass(frozen=True, slots=True)
class _Shown:
    """A sample as the judge is shown it."""

    row: int
    digest: bytes
    num_answers: int
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
        return _Shown(
            row, _digest(sample), len(sample.answers), sample.reference is not None and self._how[0] != "mmvet"
        )

    def __contains__(self, key: str) -> bool:
        return key in self._shown

    def match(self, line: Line, order: Order) -> bool:
        """Whether the judge was shown just what the sample of this id holds."""
        shown = self._shown.get(id_key(line.record["question_id"]))
        if shown is None:
            return False
        record = unshow_fields(line.record, order, shown.num_answers)
        try:
            reference = record.get("reference") if shown.has_reference else None
            # a judgement says itself whether thoughts were shown
            shows_all = record.get("pred_thoughts") is None
            sample = make_sample(line._replace(record=record), *self._how, reference, keep_thinking=shows_all)
        except InputError:
            return False
        return _digest(sample) == shown.digest

    def renew(self, record: Record, order: Order) -> Record:
        """A judgement that matches, with the fields that the sample brings along now."""
        shown = self._shown[id_key(record["question_id"])]
        assert shown is not None, "it matches"
        sample = self.samples[shown.row]
        reference = {"reference": sample.reference} if shown.has_reference else {}
        said = judgement_fields(record)
        stamp: Record = {name: said.pop(name) for name in ("pred_id", "pred_model_id", "tstamp") if name in said}
        return {**carried(sample.shown(order)), **said, **reference, **stamp}


def _digest(sample: Sample) -> bytes:
    texts: list[Any] = [sample.question, sample.answers, sample.reference]
    if sample.dialogue is not None:
        texts.append(sample.dialogue.to_fields(sample.question, sample.answers))
    if sample.images:
        texts.append(list(map(astuple, sample.images)))
    shown = json.dumps(texts)
    return hashlib.blake2b(shown.encode(), digest_size=16).digest()


@dataclass(frozen=True)
class Stored:
    """The output files of a run, and what the judgements in them must be: of one task and judge, and of its samples."""

    outputs: Mapping[Order, Path]
    samples: Sequence[Sample]
    settings: JudgeSettings
    model_id: str
    num_answers: int | None

    @functools.cached_property
    def questions(self) -> Questions:
        """Reads the whole question file; a run that begins anew does without."""
        return Questions(self.samples, self.settings.task, self.num_answers, self.settings.seed)

    @property
    def begun(self) -> list[Path]:
        """The output files of which something is there."""
        return [path for path in self.outputs.values() if is_begun(path)]

    def log(self, order: Order, has_flag: bool) -> Log:
        """An output file to be continued. Raises InputError for a judgement in it that is damaged or a stranger."""

        def check_sample(line: Line) -> None:
            key = id_key(line.record["question_id"])
            if self.questions.match(line, order) or (key not in self.questions and not self.questions.complete):
                return
            problem = "was judged with other texts" if key in self.questions else "is not in the question file"
            flag = f"; {KEEP_FLAG} moves it aside" if has_flag else ""
            raise InputError(f"{line.where}: question_id {one_line(key)} {problem}{WAY_OUT}{flag}")

        return Log(self.outputs[order], self._check(order), check_sample)

    def _check(self, order: Order) -> Check:
        def check(line: Line) -> None:
            record = JudgementRecord.from_line(line)
            wanted = {"pred_order": order, "pred_task": self.settings.task, "pred_model_id": self.model_id}
            for name, value in wanted.items():
                if (found := getattr(record, name)) not in (value, None):
                    raise InputError(f"{line.where}: expected {name} {value!r}, found {found!r}{WAY_OUT}")

        return check

    def matches(self) -> dict[tuple[Order, str], bool]:
        """Of each judgement that is there, whether it holds for the samples of now."""
        return {
            (order, key): self.questions.match(line, order)
            for order, path in self.outputs.items()
            for key, _, line in read_output(path, self._check(order))
        }

    def keep_matches(self) -> tuple[int, int]:
        """Move judgements aside that do not hold for the samples of now; the others are as those of a run begun.

        Returns how many were kept and left out. Ended at any point, it can be done again. Raises InputError for a
        damaged line before anything is changed.
        """
        matches = self.matches()
        aside = {order: _read_aside(left_out_of(path)) for order, path in self.outputs.items()}
        for order, path in self.outputs.items():
            if not is_begun(path):
                continue
            write_text(partial_of(path), self._renewed(order, matches, aside[order]))
            with writing(path):
                path.unlink(missing_ok=True)
        kept = sum(matches.values())
        return kept, len(matches) - kept

    def _renewed(
        self, order: Order, matches: Mapping[tuple[Order, str], bool], aside: dict[str, None]
    ) -> Iterator[str]:
        """The lines that are kept. The others are written aside at the end, before these are put in place."""
        path, before = self.outputs[order], len(aside)
        for key, _, line in read_output(path, lambda _: None):
            if matches.get((order, key)):
                yield dump_line(self.questions.renew(line.record, order))
            else:
                aside[dump_line(line.record)] = None
        if len(aside) > before:
            write_text(left_out_of(path), aside)


def left_out_of(path: Path) -> Path:
    """Where judgements of an output file go whose sample is gone."""
    return path.with_name(path.name + ".left-out")


def _read_aside(path: Path) -> dict[str, None]:
    """The lines that were left out before; nobody reads them but to add to them."""
    return dict.fromkeys(dump_line(line.record) for line in read_lines(path)) if holds_lines(path) else {}


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
