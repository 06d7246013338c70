"""Judgement text -> scores -> outcome: the only place that knows what a score line looks like."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

MAX_SCORE = 10.0

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_SCORE = rf"{_NUMBER}(?:/10)?"
_SEPARATOR = r"(?:[ \t]*,[ \t]*|[ \t]+)"
_TOLERATED_LINE = re.compile(rf"{_SCORE}(?:{_SEPARATOR}{_SCORE})*")
_EXACT_LINE = re.compile(rf"{_NUMBER}(?: {_NUMBER})*")
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
    """a harmless variation: "8, 9", two spaces, white space around, "8/10 9/10" """
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


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge wrote (prefill + generation), and the scores read from its first line."""

    text: str
    num_answers: int
    scores: tuple[float, ...] | None
    state: ParseState

    @classmethod
    def parse(cls, text: str, num_answers: int = 2) -> Judgement:
        """Read `num_answers` scores from the first line; anything but harmless variations gives no scores."""
        line = _score_line(text)
        scores, state = None, ParseState.FAILED
        if _TOLERATED_LINE.fullmatch(line):
            numbers = tuple(float(score.removesuffix("/10")) for score in re.findall(_SCORE, line))
            if len(numbers) == num_answers and max(numbers) <= MAX_SCORE:
                exact = text.split("\n", 1)[0] == line and _EXACT_LINE.fullmatch(line)
                scores, state = numbers, ParseState.OK if exact else ParseState.REPAIRED
        return cls(text, num_answers, scores, state)

    @property
    def outcome(self) -> Outcome | None:
        """Assistant 1 against Assistant 2; `None` without scores and where there are more than two answers."""
        if self.scores is None or self.num_answers != 2:
            return None
        return Outcome.from_scores(*self.scores)

    @property
    def best(self) -> tuple[int, ...]:
        """Numbers of the assistants with the highest score, the first being 1; empty without scores."""
        if self.scores is None:
            return ()
        return tuple(i for i, score in enumerate(self.scores, start=1) if score == max(self.scores))

    @property
    def reasons(self) -> str:
        """What follows the score line."""
        return self.text.lstrip().partition("\n")[2]

    def swapped(self) -> Judgement:
        """The judgement of the same answers with the first two exchanged: score line and reasons change together.

        Raises ValueError where there are no scores to exchange.
        """
        if self.scores is None:
            raise ValueError(f"a judgement without scores cannot be swapped: {self.text[:60]!r}")
        start = len(self.text) - len(self.text.lstrip())
        line = _score_line(self.text)
        first, second = list(re.finditer(_SCORE, line))[:2]
        exchanged = (
            line[: first.start()] + second[0] + line[first.end() : second.start()] + first[0] + line[second.end() :]
        )
        rest = _ASSISTANT.sub(_exchange_assistants, self.text[start + len(line) :])
        scores = (self.scores[1], self.scores[0], *self.scores[2:])
        return Judgement(self.text[:start] + exchanged + rest, self.num_answers, scores, self.state)


def _score_line(text: str) -> str:
    """The first line that is not blank, without white space around it."""
    return text.lstrip().split("\n", 1)[0].rstrip()


def _exchange_assistants(match: re.Match[str]) -> str:
    second = match["second"]
    tail = match["and"] + _EXCHANGED[second] if second else ""
    return match["word"] + _EXCHANGED[match["first"]] + tail


def consistent(forward: Judgement, reversed_: Judgement) -> bool | None:
    """Whether the verdict survives the swap; `None` where either has no scores.

    `reversed_` judged the same answers with the first two exchanged. Two answers: the same outcome;
    more: the same best answers.
    """
    if forward.scores is None or reversed_.scores is None:
        return None
    back = (reversed_.scores[1], reversed_.scores[0], *reversed_.scores[2:])
    return forward.best == Judgement("", len(back), back, reversed_.state).best


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
