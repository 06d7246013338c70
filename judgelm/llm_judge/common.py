"""Names that programs written for the original import; the work is done elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from judgelm.jsonl import Record, read_lines
from judgelm.judgement import published_scores


def load_questions(question_file: str, begin: int | None, end: int | None) -> list[Record]:
    """The records of rows `begin` to `end`."""
    return [line.record for line in read_lines(question_file)][begin:end]


def parse_score(review: str) -> list[float]:
    """A pair's scores by the published rule, [-1, -1] where it cannot be read."""
    return list(published_scores(review))


def translate_score_to_win_list(score_list: Sequence[Sequence[float]], T: float = 0.0) -> list[int]:
    """1, 0 or -1 for each pair of scores; a gap of at most `T` is a draw."""
    return [(a - b > T) - (b - a > T) for a, b in score_list]
