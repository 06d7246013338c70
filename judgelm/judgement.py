"""Judgement text -> scores -> outcome."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from judgelm.criteria import READABLE, Scale
from judgelm.score_lines import ScoreLine, find_score_line, thoughts_end
from judgelm.verdict_forms import SCORES, find_verdict

__all__ = ["MAX_SCORE", "Judgement", "Outcome", "ParseState", "published_scores"]

MAX_SCORE = float(READABLE.most)

# "Assistant 1", "assistant 2's", "Assistants 1 and 2"; not "Assistant 12"
_ASSISTANT = re.compile(
    r"(?P<word>\bAssistants?[ \t]+#?)(?P<first>[12])(?!\d)"
    r"(?:(?P<and>[ \t]*(?:,|/|&|\band\b|\bor\b)[ \t]*)(?P<second>[12])(?!\d))?",
    re.IGNORECASE,
)
_EXCHANGED = {"1": "2", "2": "1"}


class ParseState(StrEnum):
    """How a score line was read."""

    OK = "ok"
    """exactly N numbers, one space between them"""
    REPAIRED = "repaired"
    """a harmless variation: "8, 9", "8/10 9/10", "**8 9**", "Scores: 8 9", each on a line, after thoughts or reasons"""
    FAILED = "failed"
    """no scores"""


class Outcome(StrEnum):
    """The verdict for Assistant 1 against Assistant 2."""

    WIN = "win"
    TIE = "tie"
    LOSE = "lose"

    def swapped(self) -> Outcome:
        """The same verdict once the two answers have changed places."""
        return {Outcome.WIN: Outcome.LOSE, Outcome.TIE: Outcome.TIE, Outcome.LOSE: Outcome.WIN}[self]

    @property
    def sign(self) -> int:
        """1, 0 or -1, the class labels of the paper's script."""
        return {Outcome.WIN: 1, Outcome.TIE: 0, Outcome.LOSE: -1}[self]

    @classmethod
    def from_scores(cls, first: float, second: float) -> Outcome:
        if first > second:
            return cls.WIN
        return cls.LOSE if first < second else cls.TIE


LABELS = {1: Outcome.WIN, 2: Outcome.LOSE, 0: Outcome.TIE}
"""the labels of people: which answer is better, 0 for neither"""
LABEL_OF = {outcome: label for label, outcome in LABELS.items()}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge wrote (prefill + generation), and the scores read from it."""

    text: str
    num_answers: int
    scores: tuple[float, ...] | None
    state: ParseState
    scale: Scale = READABLE
    form: str = SCORES
    """in which the verdict was asked for, one of `VERDICT_FORMATS`"""

    @classmethod
    def parse(cls, text: str, num_answers: int = 2, scale: Scale = READABLE, form: str = SCORES) -> Judgement:
        """Read `num_answers` scores; anything but harmless variations of the score line, or of the form in which the
        verdict was asked for, gives none.
        """
        found = find_verdict(text, form, num_answers, scale)
        if found is None:
            return cls(text, num_answers, None, ParseState.FAILED, scale, form)
        return cls(text, num_answers, found.scores, ParseState.OK if found.exact else ParseState.REPAIRED, scale, form)

    @property
    def outcome(self) -> Outcome | None:
        """Assistant 1 against Assistant 2; `None` without scores and where there are not two answers."""
        if self.scores is None or self.num_answers != 2:
            return None
        return Outcome.from_scores(*self.scores)

    @property
    def score_line(self) -> ScoreLine | None:
        """Where the scores stand in the text."""
        return find_score_line(self.text, self.num_answers, self.scale)

    @property
    def reasons(self) -> str:
        """What follows the score line; where it came last, what stands before it, without the thoughts. Where the
        verdict has another form, all but the thoughts.
        """
        if self.form != SCORES:
            return self.text[thoughts_end(self.text) or 0 :].strip()
        line = self.score_line
        if line is None:
            return self.text.lstrip().partition("\n")[2]
        after = self.text[line.end :].partition("\n")[2]
        return after if after.strip() else self.text[thoughts_end(self.text) or 0 : line.begin].strip() or after

    def swapped(self) -> Judgement:
        """The judgement of the same answers with the first two exchanged: scores and reasons change together.

        Raises ValueError where there are no scores to exchange.
        """
        line = self.score_line
        if self.scores is None or line is None:
            raise ValueError(f"a judgement without scores cannot be swapped: {self.text[:60]!r}")
        (begin1, end1), (begin2, end2) = sorted(line.places[:2])
        text = self.text
        parts = (
            _ASSISTANT.sub(_exchange_assistants, text[: line.begin]),
            text[line.begin : begin1] + text[begin2:end2],
            text[end1:begin2] + text[begin1:end1],
            text[end2 : line.end],
            _ASSISTANT.sub(_exchange_assistants, text[line.end :]),
        )
        scores = (self.scores[1], self.scores[0], *self.scores[2:])
        return Judgement("".join(parts), self.num_answers, scores, self.state, self.scale)


def _exchange_assistants(match: re.Match[str]) -> str:
    second = match["second"]
    tail = match["and"] + _EXCHANGED[second] if second else ""
    return match["word"] + _EXCHANGED[match["first"]] + tail


def published_scores(text: str) -> tuple[float, float]:
    """The scores of a pair as the paper's script reads them; (-1, -1) where it cannot.

    Commas become spaces, the first line is split on single spaces, and exactly two parts must be floats. This rule
    is kept for the published metrics; everything else uses `Judgement.parse`.
    """
    parts = text.split("\n")[0].replace(",", " ").split(" ")
    if len(parts) != 2:
        return (-1.0, -1.0)
    try:
        return (float(parts[0]), float(parts[1]))
    except ValueError:
        return (-1.0, -1.0)
