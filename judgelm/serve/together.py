"""Several jobs at once, and what they find as it comes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, TypeVar

_T = TypeVar("_T")
_AT_ONCE = 32
_MOST = 64
"""found and not read yet: a job waits while the reader is slow"""


async def together(
    jobs: Iterable[Callable[[asyncio.Queue[_T]], Coroutine[Any, Any, None]]],
) -> AsyncGenerator[_T, None]:
    """All that the jobs put into their queue, 32 jobs at once. Raises what one of them raises; then, and where it is
    closed, the others end too.
    """
    queue: asyncio.Queue[Any] = asyncio.Queue(_MOST)
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(job: Callable[[asyncio.Queue[_T]], Coroutine[Any, Any, None]]) -> None:
        async with places:
            await job(queue)

    async def everything() -> None:
        ended: Exception | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for job in jobs:
                    group.create_task(one(job))
        except ExceptionGroup as errors:
            ended = errors.exceptions[0]
        await queue.put(ended)

    task = asyncio.create_task(everything())
    try:
        while (found := await queue.get()) is not None:
            if isinstance(found, Exception):
                raise found
            yield found
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
