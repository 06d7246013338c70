"""How samples are judged."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from judgelm.criteria import PUBLISHED, READABLE, Aspect, Criteria, Scale
from judgelm.distribution import MOST_LINES
from judgelm.engine.interface import Sampling
from judgelm.errors import InputError, SettingError
from judgelm.prompt import STOP_SCORES_ONLY
from judgelm.samples import find_task

_Rotated = Literal[
    "rotated1", "rotated2", "rotated3", "rotated4", "rotated5", "rotated6", "rotated7", "rotated8", "rotated9"
]
Order = Literal["forward", "reversed"] | _Rotated
ROTATIONS: tuple[Order, ...] = ("forward", *get_args(_Rotated))
"""with these every one of up to 10 answers stands once in every place"""
ORDERS: dict[str, tuple[Order, ...]] = {
    "forward": ("forward",),
    "reversed": ("reversed",),
    "both": ("forward", "reversed"),
    "all": ROTATIONS,
}
SCORINGS = {
    "sample": "write the judgement at the given temperature, as published",
    "greedy": "write the likeliest judgement",
    "expected": "write nothing: read the probability of every score line in one pass over the prompt",
}
Done = Collection[tuple[Order, str]]
"""orders and keys of the samples that are judged already"""


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """How samples are judged; two runs with the same settings, model and seed give the same judgements."""

    task: str = "pair"
    """pair, single, multi, mmvet or grade"""
    scores_only: bool = False
    """stop after the score line: no reasons"""
    temperature: float = 0.2
    """of the sampling; 0 is greedy"""
    max_new_tokens: int = 2048
    """most tokens of a judgement"""
    seed: int = 0
    """of the sampling; each sample's own comes from it and the question_id"""
    constrained: bool = False
    """nothing but a score line is written first"""
    scoring: str = "sample"
    """sample; greedy, which is sample at temperature 0; or expected: probabilities of score lines, no text"""
    criteria: Criteria | None = None
    """aspects that are asked for one by one, tasks pair, multi and grade; None: the task's own question"""

    def __post_init__(self) -> None:
        if self.scoring not in SCORINGS:
            raise SettingError("scoring", f"{self.scoring!r}: expected one of {', '.join(SCORINGS)}")
        if self.criteria is not None and not (task := find_task(self.task)).takes_criteria:
            raise SettingError("criteria", f"cannot be used with task {task.name}, whose question is fixed")
        if self.scoring == "expected" and len(self.scale.scores) ** (2 - (self.task == "grade")) > MOST_LINES:
            raise SettingError("scoring", f"expected reads {MOST_LINES} score lines at most: {self.scale} is too much")
        if not isinstance(self.temperature, int | float) or not 0 <= self.temperature < math.inf:
            raise SettingError("temperature", f"{self.temperature!r}: expected a number from 0 on")
        if type(self.max_new_tokens) is not int or self.max_new_tokens < 1:
            raise SettingError("max_new_tokens", f"{self.max_new_tokens!r}: expected a whole number from 1 on")

    def to_record(self) -> dict[str, Any]:
        """As run.json holds them."""
        return {**asdict(self), "criteria": None if self.criteria is None else self.criteria.to_record()}

    @property
    def aspects(self) -> tuple[Aspect | None, ...]:
        """By what is asked, one prompt each; None: the task's own question."""
        return self.criteria.aspects if self.criteria else (None,)

    @property
    def scale(self) -> Scale:
        """Of the scores that are asked for."""
        return self.criteria.scale if self.criteria else PUBLISHED

    @property
    def readable(self) -> Scale:
        """Of the scores that are read."""
        return self.criteria.scale if self.criteria else READABLE

    def sampling(self, num_answers: int) -> Sampling:
        temperature = self.temperature if self.scoring == "sample" else 0.0
        sampling = Sampling(temperature, self.max_new_tokens, constrained=self.constrained, seed=self.seed)
        if not self.scores_only and self.scoring != "expected":
            return sampling
        # a line longer than this holds no scores; without a limit an untuned model would write to the end
        most = min(self.max_new_tokens, 16 + 8 * num_answers)
        return replace(sampling, max_new_tokens=most, stop=(STOP_SCORES_ONLY,), most_thoughts=self.max_new_tokens)


def check_orders(orders: str, task: str) -> tuple[Order, ...]:
    """The orders asked for; forward only, where Assistant 1 is a reference answer with its 10 given or has no other.

    Raises InputError for unknown ones, for others than a task allows, and for an unknown task.
    """
    if orders not in ORDERS:
        raise InputError(f"unknown orders {orders!r}, expected one of {', '.join(ORDERS)}")
    spec = find_task(task)
    if (spec.prefill or spec.max_answers == 1) and orders != "forward":
        why = "Assistant 1's place is that of the known answer" if spec.prefill else "a single answer has one place"
        raise InputError(f"task {task} is judged in forward order only: {why}")
    if orders == "all" and task != "multi":
        raise InputError(f"orders all are those of task multi: task {task} has {', '.join(list(ORDERS)[:3])}")
    return ORDERS[orders]
