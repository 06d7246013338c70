"""Which rows are asked first: those whose label says most, by what judges said of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from judgelm.errors import InputError, one_line
from judgelm.evaluation.results import JudgedSample, model_name, read_folder
from judgelm.files import PathLike
from judgelm.labelling.rows import Row, draw
from judgelm.labelling.votes import Votes

BLOCK = 10
"""rows that say about the same, in which each person has an order of their own"""


def pick_blocks(rows: Sequence[Row], folders: Sequence[PathLike], votes: Votes) -> dict[str, int]:
    """Of each row, by its token, the block in which it is asked: those whose label says most are in block 0.

    What a label says is the sum of three numbers from 0 to 1: the share of pairs of judges that disagree, how unsure
    the judges are, and how few labels the less labelled of the two models has.
    """
    judged = [_read(folder, rows) for folder in folders]
    counts = _count_models(rows, votes)
    worth = {}
    for row in rows:
        said = [folder[row.sample.key] for folder in judged if row.sample.key in folder]
        unsure = sum(map(_unsure, said)) / len(said) if said else 0.0
        need = 1 / (1 + min((counts[name] for name in _models(row)), default=0)) if any(_models(row)) else 0.0
        worth[row.token] = _disagreement(said) + unsure + need
    ranked = sorted(rows, key=lambda row: (-worth[row.token], draw("pick", row.sample.key)))
    return {row.token: place // BLOCK for place, row in enumerate(ranked)}


def _read(folder: PathLike, rows: Sequence[Row]) -> Mapping[str, JudgedSample]:
    """A judged folder's samples by id. Raises InputError where they are others than these rows."""
    judged = {sample.key: sample for sample in read_folder(folder, with_truth=False)}
    common = [row for row in rows if row.sample.key in judged]
    if not common:
        raise InputError(f"--pick {folder}: expected judgements of the rows that are labelled, found none of their ids")
    for row in common:
        # conversations and images are written differently there
        plain = row.sample.dialogue is None and not row.sample.images
        theirs = judged[row.sample.key].answers
        # a judge may have been shown thoughts too, which people are not
        same = all(one.endswith(other) for one, other in zip(theirs, row.sample.answers, strict=True))
        if plain and not same:
            key = one_line(row.sample.key)
            raise InputError(f"--pick {folder}: question_id {key} was judged with other answers than those to label")
    return judged


def _disagreement(said: Sequence[JudgedSample]) -> float:
    """A judgement that could not be read is an outcome of its own."""
    pairs = list(combinations([sample.outcome for sample in said], 2))
    return sum(one != other for one, other in pairs) / len(pairs) if pairs else 0.0


def _unsure(sample: JudgedSample) -> float:
    """1 for a judge that says nothing or contradicts itself, or finds all three outcomes equally likely."""
    if sample.outcome is None or sample.consistent is False:
        return 1.0
    given = sample.probabilities
    return 0.0 if given is None else min(1.0, 1.5 * (1 - max(given.values())))


def _models(row: Row) -> list[str]:
    names = (model_name(row.sample.record.get(f"answer{side}_model_id")) for side in (1, 2))
    return [name for name in names if name is not None]


def _count_models(rows: Sequence[Row], votes: Votes) -> Counter[str]:
    """How many labels people gave to answers of each model."""
    counts: Counter[str] = Counter()
    for row in rows:
        given = sum(isinstance(vote.label, int) for vote in votes.on(row))
        counts.update(dict.fromkeys(_models(row), given))
    return counts
