"""Requests on their way to a server: in the background, spaced out, and tried again after a while."""

from __future__ import annotations

import asyncio
import queue
import random
import re
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

T = TypeVar("T")
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a request is tried, and how long it waits in between."""

    attempts: int = 8
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0

    def wait_s(self, attempt: int, asked_s: float | None, rng: random.Random) -> float:
        """The wait after the attempt with this number, 1 being the first.

        Anything up to a bound that doubles each time ("full jitter": clients that failed together come back apart);
        no less than the server asked for, unless that is above the longest wait.
        """
        bound = min(self.longest_wait_s, self.first_wait_s * 2 ** (attempt - 1))
        return min(self.longest_wait_s, max(asked_s or 0, rng.uniform(0, bound)))


PATIENT = Retries()
"""about a minute in all, twice that at most"""


def retry_after_s(value: str | None, now: float) -> float | None:
    """The seconds that a Retry-After header asks for, given as a number or as a date; None where it says nothing."""
    if value is None:
        return None
    if _SECONDS.fullmatch(value.strip()):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


class Pace:
    """Spaces requests evenly, so that no minute sees more of them than is allowed."""

    def __init__(self, per_minute: float | None) -> None:
        self._interval_s = 60 / per_minute if per_minute else 0.0
        self._next_s = 0.0

    async def turn(self) -> None:
        """Wait until the next request may leave."""
        now = time.monotonic()
        leaves = max(now, self._next_s)
        self._next_s = leaves + self._interval_s
        await asyncio.sleep(leaves - now)


def in_background(produce: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]]) -> Generator[T, None, None]:
    """What a coroutine hands to its argument, as it comes. Closing the iterator cancels the coroutine.

    The coroutine runs in an event loop and a thread of its own: its requests go on while the caller writes a record,
    and a caller with a running loop, as a notebook has one, can iterate too. Raises what the coroutine raised.
    """
    found: queue.SimpleQueue[tuple[T] | None] = queue.SimpleQueue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(produce(lambda item: found.put((item,))))

    def work() -> None:
        # a task of the coroutine's own may outlive it, one that closes connections
        while tasks := asyncio.all_tasks(loop):
            loop.run_until_complete(asyncio.wait(tasks))
        # another turn of the loop: connections that were closed are let go in it
        loop.run_until_complete(loop.shutdown_asyncgens())
        found.put(None)

    # a daemon: a caller who ends without closing the iterator is not kept until all is asked
    thread = threading.Thread(target=work, name="judgelm requests", daemon=True)
    thread.start()
    try:
        while (item := found.get()) is not None:
            yield item[0]
        task.result()
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()
        # looked at, so that asyncio does not complain of an error that came too late for anybody
        _ = task.cancelled() or task.exception()
