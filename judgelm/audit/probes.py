"""What a judge is shown in an audit: samples as they are, changed, or with a reference, in rounds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from judgelm.audit.perturbations import PERTURBATIONS, perturb, probe_id
from judgelm.audit.sources import Source
from judgelm.judge.settings import ORDERS, Order
from judgelm.sample import Sample, question_key

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
AGAIN = tuple(
    Round(f"again-{k}", ORDERS["forward"], temperature, k)
    for k, temperature in enumerate((0.2, 0.2, 1.0, 1.0), start=1)
)
"""the same samples, drawn with other seeds and temperatures"""


def round_of(probe: str) -> Round | None:
    """In which round a probe is judged: one that speaks of its own place in one order only; None for those of AGAIN."""
    if probe in PERTURBATIONS and PERTURBATIONS[probe].placed:
        return PLACED
    return None if probe == "again" else BOTH


def make_probes(probe: str, sources: Sequence[Source]) -> list[Sample]:
    """The samples of a probe: those as they are ("plain"), with a changed answer, or with a reference."""
    if probe in PERTURBATIONS:
        changed = (perturb(source.sample, probe) for source in sources)
        return [sample for sample in changed if sample is not None]
    if probe == PLAIN:
        return [_shown(source, PLAIN, None) for source in sources]
    # without a truth nobody could say what a reference does
    known = [source for source in sources if source.truth is not None and source.sample.reference is not None]
    if probe == RIGHT_REFERENCE:
        return [_shown(source, probe, source.sample.reference) for source in known]
    return [_shown(source, probe, wrong) for k, source in enumerate(known) if (wrong := _wrong_reference(known, k))]


def _shown(source: Source, probe: str, reference: str | None) -> Sample:
    sample = source.sample
    return Sample(probe_id(probe, source.key), sample.question, sample.answers, reference)


def _wrong_reference(sources: Sequence[Source], place: int) -> str | None:
    """That of the next row with another question and another reference; after the last row comes the first."""
    here = sources[place].sample
    for other in itertools.chain(sources[place + 1 :], sources[:place]):
        differs = question_key(other.sample.question) != question_key(here.question)
        if differs and other.sample.reference != here.reference:
            return other.sample.reference
    return None
