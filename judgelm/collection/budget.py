"""How much money answers may cost, while several of them are under way at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Budget:
    """No request leaves that could cost more than what is left beside those under way; it waits for them to end.

    For coroutines of one loop. Replies that nobody can use, and which are asked for again, count no further than the
    server counts them.

    Args:
        most: what all may cost; None: anything.
        spent: what was spent before.
    """

    def __init__(self, most: float | None, spent: float = 0.0) -> None:
        self.most = most
        self.spent = spent
        self.is_spent = False
        """something was not asked for"""
        self._held: list[float] = []
        """what those under way could cost"""
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def hold(self, bound: float) -> AsyncIterator[Callable[[float], None] | None]:
        """Within it a request may be made that costs no more than `bound`; None: it may not.

        What is given is to be told what it did cost.
        """
        if not await self._has_room(bound):
            yield None
            return
        try:
            yield self._pay
        finally:
            async with self._changed:
                self._held.remove(bound)
                self._changed.notify_all()

    def _pay(self, cost: float) -> None:
        self.spent += cost

    async def _has_room(self, bound: float) -> bool:
        """Hold so much, once there is room for it; False once there never will be."""
        async with self._changed:
            while self.most is not None and not self.is_spent and self.spent + sum(self._held) + bound > self.most:
                self.is_spent = not self._held
                if not self.is_spent:
                    await self._changed.wait()
            if self.is_spent:
                self._changed.notify_all()
                return False
            self._held.append(bound)
            return True
