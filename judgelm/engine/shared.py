"""What a server needs of an engine that many users share: rows that join and leave while others run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from judgelm.engine.context import ContextEngine
from judgelm.engine.interface import Generation, LineScores, OnText, Request, Sampling, TokenLikelihood
from judgelm.engine.row import Row


class RunningRows(Protocol):
    """Rows on their way through a model."""

    waiting: deque[Row]
    """those that have not joined yet, the next one first"""

    @property
    def rows(self) -> Sequence[Row]:
        """Those that generate."""

    def admit(self) -> list[Row]:
        """Take those at the head of the queue for whom there is room; one at least where nothing runs."""

    def advance(self, joining: list[Row]) -> list[Row]:
        """Let rows join, or give those that run a token each; the rows that have more text now, or have finished."""

    def leave(self, rows: Collection[Row]) -> None:
        """Drop rows that nobody waits for any more."""

    def clear(self) -> None:
        """Forget those that run."""


class SharedEngine(ContextEngine, ABC):
    """An engine in this process that generates for many at once."""

    block: int
    description: Mapping[str, str | int]
    most_served: int
    """rows that run at once for a server's users where nobody says how many"""

    @property
    @abstractmethod
    def can_score(self) -> bool:
        """Whether the probabilities of score lines can be read."""

    packs = False
    """whether the part in which prompts that join together begin alike is known to be read once"""
    can_read = False
    """whether a prompt can be read alone, to say how likely its tokens were"""

    @property
    def vocabulary(self) -> int:
        """Tokens that the model knows."""
        return len(self.tokenizer)

    def read_row(self, row: Row) -> tuple[TokenLikelihood, ...]:
        """How likely each token of a row's prompt was, and as many of the likeliest at its place as the row asks for.

        The row gets its first token, if it may have one, or is finished. For engines that `can_read`.
        """
        raise NotImplementedError

    def take_reused(self) -> int:
        """Tokens of prompts that need not be read, as an earlier one began with them, since this was asked last; for
        engines that say so of each prompt.
        """
        return 0

    def expect(self, tokens: int, waits: bool = True) -> None:
        """Be told about how many tokens are read and written in all, so that the engine can prepare for as many: at
        once, or beside its work where it is not to be waited for. A server tells how many there were so far.
        """

    def check_sampling(self, sampling: Sampling) -> None:
        """Raises SettingError for a sampling that this engine does not have."""

    @abstractmethod
    def open(self, most_rows: int) -> RunningRows:
        """No rows yet, and at most so many at once."""

    @abstractmethod
    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, done: Collection[str] = (), on_text: OnText = None
    ) -> Iterator[Generation]:
        """See `Engine.generate`."""

    @abstractmethod
    def score(self, requests: Sequence[Request], lines: Sequence[str]) -> Iterator[LineScores]:
        """See `Engine.score`."""
