"""Rows of a question file, and what is known of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judgelm.errors import InputError
from judgelm.evaluation.results import Truth, find_line, model_name, read_truth
from judgelm.jsonl import Line, index_by_id, read_lines
from judgelm.judgement import Judgement, Outcome
from judgelm.sample import Sample
from judgelm.samples import PathLike


@dataclass(frozen=True, slots=True)
class Source:
    """A row of the question file, and what is known of it."""

    sample: Sample
    """with its reference, which is shown only where a check says so"""
    truth: Truth | None = None
    truth_with_reference: Truth | None = None
    own: int | None = None
    """the place of the judge's own answer, where exactly one is"""

    @property
    def key(self) -> str:
        return self.sample.key


def read_sources(
    samples: Sequence[Sample], question_file: PathLike | None, teacher: PathLike | None, self_id: str
) -> list[Source]:
    """The samples with what is known of each: truth, reference, the place of the judge's own answer.

    Samples that come from no file have it in their records. Raises InputError for a label, a judgement or a reference
    of the wrong kind, or a row that the teacher lacks.
    """
    lines: Mapping[str, Line]
    if question_file is None:
        lines = {each.key: Line(dict(each.record), Path("samples"), k) for k, each in enumerate(samples, start=1)}
    else:
        lines = index_by_id(read_lines(question_file))
    teacher_lines = index_by_id(read_lines(teacher)) if teacher is not None else None
    sources = []
    for sample in samples:
        line = lines[sample.key]
        given = line
        if teacher_lines is not None:
            given = find_line(teacher_lines, sample.key, teacher, line, "teacher judgement")
        truth = read_truth(given, needed=teacher is not None)
        if sample.reference is None and (reference := _reference(line)) is not None:
            sample = sample.with_reference(reference)
        sources.append(Source(sample, truth, _truth_with_reference(given) or truth, _own_place(sample, self_id)))
    return sources


def _reference(line: Line) -> str | None:
    """A training row's own."""
    found = line.record.get("reference")
    if found is None:
        return None
    text = found.get("text") if isinstance(found, dict) else None
    if not isinstance(text, str):
        raise InputError(f'{line.where}: expected reference {{"text": ".."}}, found {found!r}')
    return text


def _truth_with_reference(line: Line) -> Truth | None:
    """What the teacher said when it saw the reference, in training rows."""
    text = line.record.get("text_w_reference")
    scores: Any = Judgement.parse(text).scores if isinstance(text, str) else None
    return None if scores is None else Truth(Outcome.from_scores(*scores), scores)


def _own_place(sample: Sample, self_id: str) -> int | None:
    names = {place: model_name(sample.record.get(f"answer{place}_model_id")) or "" for place in (1, 2)}
    held = [place for place, name in names.items() if self_id.casefold() in name.casefold()]
    return held[0] if len(held) == 1 else None
