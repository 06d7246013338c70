"""Rows of a question file, and what a judge is shown of them: as they are, changed, or with a reference, in rounds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from judgelm.audit.perturbations import PERTURBATIONS, perturb, probe_id
from judgelm.errors import located
from judgelm.evaluation.results import Truth, find_line, model_name, read_truth
from judgelm.jsonl import Line, LineFile, index_by_id, read_reference
from judgelm.judge.settings import ORDERS, Order
from judgelm.judgement import Judgement, Outcome
from judgelm.sample import Sample
from judgelm.samples import PathLike, Samples

PLAIN = "plain"
"""the samples as they are, without a reference"""
RIGHT_REFERENCE = "right_reference"


@dataclass(frozen=True, slots=True)
class Round:
    """Samples that are judged in the same way, each into a folder of its own."""

    name: str
    orders: tuple[Order, ...]
    temperature: float | None = None
    """None: the scoring that the audit was asked for; else what is drawn at this temperature"""
    seed: int = 0
    """added to the audit's"""


BOTH, PLACED = Round("both", ORDERS["both"]), Round("placed", ORDERS["forward"])
ALL = Round("all", ORDERS["all"])
"""of many answers"""
AGAIN = tuple(
    Round(f"again-{k}", ORDERS["forward"], temperature, k)
    for k, temperature in enumerate((0.2, 0.2, 1.0, 1.0), start=1)
)
"""the same samples, drawn with other seeds and temperatures"""


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


def read_sources(samples: Sequence[Sample], teacher: PathLike | None, self_id: str) -> list[Source]:
    """The samples with what is known of each: truth, reference, the place of the judge's own answer.

    Samples that come from no file have it in their records. Raises InputError for a label, a judgement or a reference
    of the wrong kind, or a row that the teacher lacks.
    """
    lines: Mapping[str, Line]
    if isinstance(samples, Samples):
        lines = index_by_id(samples.lines)
    else:
        lines = {each.key: Line(dict(each.record), Path("samples"), k) for k, each in enumerate(samples, start=1)}
    teacher_lines = index_by_id(LineFile(teacher)) if teacher is not None else None
    sources = []
    for sample in samples:
        line = lines[sample.key]
        given = line
        if teacher_lines is not None:
            given = find_line(teacher_lines, sample.key, teacher, line, "teacher judgement")
        truth = read_truth(given, needed=teacher is not None)
        if sample.reference is None and line.record.get("reference") is not None:
            with located(line.where):
                sample = sample.with_reference(read_reference(line))
        sources.append(Source(sample, truth, _truth_with_reference(given) or truth, _own_place(sample, self_id)))
    return sources


def _truth_with_reference(line: Line) -> Truth | None:
    """What the teacher said when it saw the reference, in training rows."""
    text = line.record.get("text_w_reference")
    scores: Any = Judgement.parse(text).scores if isinstance(text, str) else None
    return None if scores is None else Truth(Outcome.from_scores(*scores), scores)


def _own_place(sample: Sample, self_id: str) -> int | None:
    names = {place: model_name(sample.record.get(f"answer{place}_model_id")) or "" for place in (1, 2)}
    held = [place for place, name in names.items() if self_id.casefold() in name.casefold()]
    return held[0] if len(held) == 1 else None


def round_of(probe: str) -> Round | None:
    """In which round a probe is judged: one that speaks of its own place in one order only; None for those of AGAIN."""
    if probe in PERTURBATIONS and PERTURBATIONS[probe].placed:
        return PLACED
    return None if probe == "again" else BOTH


def make_probes(probe: str, sources: Sequence[Source]) -> list[Sample]:
    """The samples of a probe: those as they are ("plain"), with a changed answer, or with a reference."""
    if probe in PERTURBATIONS:
        changed = ((perturb(source.sample, probe), source.sample) for source in sources)
        # an answer is changed, what was said before it stays
        return [
            replace(sample, dialogue=given.dialogue, images=given.images)
            for sample, given in changed
            if sample is not None
        ]
    if probe == PLAIN:
        return [_shown(source, PLAIN, None) for source in sources]
    # without a truth nobody could say what a reference does
    known = [source for source in sources if source.truth is not None and source.sample.reference is not None]
    if probe == RIGHT_REFERENCE:
        return [_shown(source, probe, source.sample.reference) for source in known]
    return [_shown(source, probe, wrong) for k, source in enumerate(known) if (wrong := _wrong_reference(known, k))]


def _shown(source: Source, probe: str, reference: str | None) -> Sample:
    sample = source.sample
    key = probe_id(probe, source.key)
    return Sample(key, sample.question, sample.answers, reference, dialogue=sample.dialogue, images=sample.images)


def _wrong_reference(sources: Sequence[Source], place: int) -> str | None:
    """That of the next row with another question and another reference; after the last row comes the first."""
    here = sources[place].sample
    key, others = here.asked, itertools.chain(sources[place + 1 :], sources[:place])
    wrong = (other.sample.reference for other in others if other.sample.asked != key)
    return next((reference for reference in wrong if reference != here.reference), None)
