"""Cascades replayed from verdicts that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from judgelm.errors import InputError
from judgelm.evaluation.labels import need_labels, outcomes_of
from judgelm.jury.members import read_members
from judgelm.samples import PathLike

if TYPE_CHECKING:
    from judgelm.evaluation.cascade import Cascade


def replay_cascade(
    first: PathLike,
    second: PathLike,
    labels: PathLike | None = None,
    sure: float | None = None,
    vocabulary: str | None = None,
) -> Cascade:
    """What a cascade of two judges would have said, and at what cost; nothing is judged.

    Args:
        first: a folder that `judgelm judge --scoring expected` wrote.
        second: another judge's folder, or a file of its verdicts.
        labels, vocabulary: see `read_members`.
        sure: samples of which the first judge is less sure go to the second; without it a threshold is chosen on one
            half of the labelled questions and reported on the other.

    Raises InputError as `read_members` does, for a first judge without probabilities, and without labels.
    """
    from judgelm.evaluation.cascade import Pairs, measure_cascade

    if Path(first).expanduser().is_file():
        raise InputError(f"{first}: expected a folder that judgelm judge --scoring expected wrote, found a file")
    members = read_members([first, second], labels, vocabulary=vocabulary)
    one, other = members.judges
    one.check_probabilities()
    need_labels("a cascade's replay", members.truths)
    pairs = Pairs.of(one.samples, other.samples, outcomes_of(members.truths))
    return measure_cascade(pairs, (one.name, other.name), sure)
