"""All matches as numbers, and their sums by pair, model and question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from judgelm.evaluation.metrics.intervals import Floats, Mask, cluster_indices
from judgelm.ranking.matches import Match

Ints = NDArray[np.int64]
_LENGTH_STEP = 0.04
"""differences of length are rounded to it, so that judgements can be added up"""


@dataclass(frozen=True)
class Field:
    """All matches as numbers: M models, P pairs that met, K cells (a pair at a rounded difference of length).

    Cells are sorted by pair, and each pair has one at equal length, judged or not.
    """

    names: tuple[str, ...]
    pairs: Ints
    """[P, 2], the models' numbers"""
    groups: Ints
    """[M], which models are connected by judgements"""
    pair_of: Ints
    """[n], of each match"""
    cell_of: Ints
    """[n]"""
    cell_pairs: Ints
    """[K]"""
    cell_lengths: Floats
    """[K], tanh of the standardised difference; zeros without length control"""
    question_of: Ints
    """[n]"""
    num_questions: int
    outcomes: Floats
    """[n, 3], of the pair's first model"""
    length_control: bool

    @classmethod
    def of(cls, matches: Sequence[Match], length_control: bool) -> Field:
        """Of matches whose models are in the order of their names."""
        names = sorted({name for each in matches for name in (each.first, each.second)})
        number = {name: place for place, name in enumerate(names)}
        met = np.array([(number[each.first], number[each.second]) for each in matches], dtype=np.int64)
        pairs, pair_of = np.unique(met, axis=0, return_inverse=True)
        steps = np.zeros(len(matches), dtype=np.int64)
        if length_control:
            lengths = np.array([each.lengths for each in matches], dtype=np.float64)
            steps = np.rint(length_differences(lengths) / _LENGTH_STEP).astype(np.int64)
        # each pair's cell at equal length is there in any case: its half tie goes there
        level = np.stack([np.arange(len(pairs)), np.zeros(len(pairs), dtype=np.int64)], axis=1)
        judged = np.stack([pair_of.ravel(), steps], axis=1)
        cells, cell_of = np.unique(np.concatenate([judged, level]), axis=0, return_inverse=True)
        question_of, num_questions = cluster_indices([each.question for each in matches])
        return cls(
            tuple(names),
            pairs,
            connected(pairs, len(names), "weak"),
            pair_of.ravel(),
            cell_of.ravel()[: len(matches)],
            cells[:, 0],
            (cells[:, 1] * _LENGTH_STEP).astype(np.float64),
            question_of,
            num_questions,
            np.array([each.outcomes for each in matches], dtype=np.float64),
            length_control,
        )

    @cached_property
    def points(self) -> Floats:
        """What each match gives its first model, a tie being one half [n]."""
        return np.asarray(self.outcomes[:, 0] + self.outcomes[:, 1] / 2)

    @cached_property
    def incidence(self) -> Any:
        """1 for a pair's first model, -1 for its second: a sparse matrix [M, P]."""
        from scipy.sparse import csr_matrix

        places = np.arange(len(self.pairs))
        rows, columns = self.pairs.T.ravel(), np.tile(places, 2)
        return csr_matrix((np.repeat([1.0, -1.0], len(places)), (rows, columns)), (len(self.names), len(places)))

    @cached_property
    def _pair_starts(self) -> Ints:
        return np.flatnonzero(np.diff(self.cell_pairs, prepend=-1))

    def of_pairs(self, cells: Floats) -> Floats:
        """Sums over each pair's cells: [R, K] -> [R, P]."""
        return np.asarray(np.add.reduceat(cells, self._pair_starts, axis=1))

    def moved(self, pairs: Floats) -> Floats:
        """What each pair gives its first model and takes from its second: [R, P] -> [R, M]."""
        return np.asarray((self.incidence @ pairs.T).T)

    def of_models(self, ones: Floats, others: Floats) -> Floats:
        """Sums over a model's pairs of what the pair's first model and its second get: twice [R, P] -> [R, M]."""
        signed = self.incidence
        both = (abs(signed) + signed) @ ones.T + (abs(signed) - signed) @ others.T
        return np.asarray(both.T) / 2

    def by_question(self) -> Any:
        """Points of the first and of the second model: a sparse matrix [questions, 2 K]."""
        from scipy.sparse import csr_matrix

        num_cells = len(self.cell_pairs)
        points = np.concatenate([self.points, 1 - self.points])
        columns = np.concatenate([self.cell_of, self.cell_of + num_cells])
        rows = np.tile(self.question_of, 2)
        return csr_matrix((points, (rows, columns)), shape=(self.num_questions, 2 * num_cells))

    def sum_cells(self, points: Floats) -> Floats:
        """The same over all questions, of other points [n]: [2 K]."""
        sides = (np.bincount(self.cell_of, side, len(self.cell_pairs)) for side in (points, 1 - points))
        return np.concatenate(list(sides))

    def side(self, model: int, side: int) -> Mask:
        """The matches [n] in which a model is the first, side 0, or the second, 1."""
        return np.asarray(self.pairs[self.pair_of, side] == model)

    def count_questions(self, matches: Mask) -> int:
        """How many questions some matches [n] are of."""
        return len(np.unique(self.question_of[matches]))


def length_differences(lengths: Floats) -> Floats:
    """tanh of the difference of lengths [n, 2] over its standard deviation: -1 to 1 (Dubois et al. 2024)."""
    difference = lengths[:, 0] - lengths[:, 1]
    # around 0, not around the mean: exchanging a pair's models must change the sign alone
    spread = float(np.sqrt(np.mean(difference**2)))
    return np.asarray(np.tanh(difference / spread) if spread else difference)


def connected(arrows: Ints, num_models: int, connection: str) -> Ints:
    """The group of each model [M], from arrows [k, 2]: weakly connected, or strongly."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    matrix = csr_matrix((np.ones(len(arrows)), (arrows[:, 0], arrows[:, 1])), shape=(num_models, num_models))
    return np.asarray(connected_components(matrix, directed=True, connection=connection)[1].astype(np.int64))
