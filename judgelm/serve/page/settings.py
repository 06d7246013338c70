"""What a visitor of the page set above the tabs, in the order of its components."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from pydantic import ValidationError

from judgelm.errors import InputError
from judgelm.judge.settings import Order
from judgelm.prompt import TASKS
from judgelm.serve.judgement_requests import JudgementRequest, SampleIn
from judgelm.serve.servers import describe

DETAILS = ("Scores and reasons", "Scores only")
Moderate = Callable[[str], Awaitable[bool]]


class PageSettings(NamedTuple):
    """Values of the components that all tabs share; whoever goes past the page may send anything as one of them."""

    model: str | None
    detail: str
    both: bool
    temperature: float
    top_p: float
    length: float

    def orders(self, task: str) -> tuple[Order, ...]:
        """Both orders where they are wanted and the task has them."""
        return ("forward", "reversed") if self.both and not TASKS[task].prefill else ("forward",)

    def request(self, samples: Sequence[SampleIn], task: str, seed: int = 0) -> JudgementRequest:
        """What is asked of the judge. Raises InputError, and pydantic's ValidationError."""
        if not self.model:
            raise InputError("No judge is chosen; is a worker running? Refresh the list.")
        request = JudgementRequest(
            model=self.model,
            samples=list(samples),
            task=task,  # type: ignore[arg-type]
            orders="both" if len(self.orders(task)) == 2 else "forward",
            scores_only=self.detail == DETAILS[1],
            temperature=self.temperature,
            top_p=self.top_p,
            max_new_tokens=self.length,  # type: ignore[arg-type]
            seed=seed,
        )
        request.check()
        return request


async def check_texts(moderate: Moderate | None, texts: Sequence[str | None], what: str = "This text") -> None:
    """Raises InputError where the page's moderation, if it has one, flags one of them."""
    if moderate is not None and await moderate("\n".join(text or "" for text in texts)):
        raise InputError(f"{what} goes against the moderation rules of this page.")


def say(error: Exception) -> str:
    """What a visitor is told of an error; nothing of what was sent is repeated."""
    return describe(error) if isinstance(error, ValidationError) else str(error)


class Pace:
    """Tells when the page is to be told of progress again: no more often than every so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.told = time.monotonic() - seconds

    def is_due(self) -> bool:
        """Whether it is time; if so, the next time is later."""
        now = time.monotonic()
        due = now - self.told >= self.seconds
        self.told = now if due else self.told
        return due
