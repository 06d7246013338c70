"""What a teaching is told: which answers are compared, and what becomes of the teacher's contradictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from judgelm.errors import SettingError
from judgelm.judge.settings import JudgeSettings
from judgelm.verdict_forms import SCORES

Inconsistent = Literal["drop", "keep", "tie"]
INCONSISTENT: tuple[Inconsistent, ...] = get_args(Inconsistent)
TASKS = ("pair", "grade")
"""those of training rows"""


@dataclass(frozen=True, slots=True)
class TeachSettings:
    """How rows are made; what is drawn is drawn by the seed of the judging."""

    pairs_per_question: int | None = None
    """None: each model's answer is compared with each other's"""
    inconsistent: Inconsistent = "drop"
    """a pair of which the teacher says another thing once the answers are exchanged is left out, kept as it was said of
    the order written, or made a tie"""
    validation: float = 0.1
    """share of the questions that are kept for measuring; 0: none"""

    def __post_init__(self) -> None:
        """Raises SettingError."""
        most = self.pairs_per_question
        if most is not None and (type(most) is not int or most < 1):
            raise SettingError("pairs", f"{most!r}: expected a whole number from 1 on")
        if self.inconsistent not in INCONSISTENT:
            raise SettingError("inconsistent", f"{self.inconsistent!r}: expected {', '.join(INCONSISTENT)}")
        if not isinstance(self.validation, int | float) or not 0 <= self.validation < 1:
            raise SettingError("validation", f"{self.validation!r}: expected a share from 0 to below 1")


def check_judging(judging: JudgeSettings) -> None:
    """Raises SettingError for a way of judging of which no training row can be made."""
    if judging.task not in TASKS:
        raise SettingError("task", f"{judging.task!r}: training rows are of {' or '.join(TASKS)}")
    if judging.verdict_format != SCORES:
        raise SettingError("verdict_format", f"{judging.verdict_format}: a training row begins with a line of scores")
    if judging.criteria is not None and len(judging.criteria.aspects) > 1:
        found = len(judging.criteria.aspects)
        raise SettingError("criteria", f"have {found} aspects: a training row is of one (a folder for each)")
