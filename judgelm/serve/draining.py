"""The end of a server: nothing new is begun, and what runs may end, for a while."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

DRAIN_S = 20.0
"""for which what runs is waited for, unless a flag says otherwise"""
_LOOK_S = 0.05


class Drain:
    """What a server has begun and not ended.

    Args:
        seconds: for which that is waited for once the server is `closing`.
    """

    def __init__(self, seconds: float = DRAIN_S) -> None:
        self.seconds = seconds
        self.closing = False
        """nothing new is begun"""
        self.running = 0

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """Something that is to end before the server does."""
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    async def close(self, hurried: Callable[[], bool]) -> bool:
        """Begin nothing new and wait for what runs; whether it has all ended. `hurried` says that there is no time."""
        self.closing = True
        loop = asyncio.get_running_loop()
        end = loop.time() + self.seconds
        while self.running and loop.time() < end and not hurried():
            await asyncio.sleep(_LOOK_S)
        return not self.running
