"""Several jobs at once, and what they find as it comes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")
_MOST = 64
"""found and not read yet"""


class Put(Generic[_T]):
    """What a job calls with what it finds; it waits while the reader is slow."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[_T | Exception | None] = asyncio.Queue(_MOST)

    async def __call__(self, found: _T) -> None:
        await self.queue.put(found)

    def if_room(self, found: _T) -> None:
        """Whoever reads slowly gets fewer, longer steps."""
        if not self.queue.full():
            self.queue.put_nowait(found)


async def together(jobs: Sequence[Callable[[Put[_T]], Coroutine[Any, Any, None]]]) -> AsyncGenerator[_T, None]:
    """All that the jobs find. Raises what one of them raises; then, and where it is closed, the others end too."""
    put: Put[_T] = Put()

    async def everything() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for job in jobs:
                    group.create_task(job(put))
        except ExceptionGroup as errors:
            await put.queue.put(errors.exceptions[0])
        else:
            await put.queue.put(None)

    task = asyncio.create_task(everything())
    try:
        while (found := await put.queue.get()) is not None:
            if isinstance(found, Exception):
                raise found
            yield found
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
