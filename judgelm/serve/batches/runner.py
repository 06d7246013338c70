"""Runs batches: each line is a request to the API's own routes, and what comes of it is kept at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx

from judgelm.serve.batches.lines import Request, answered, check_requests, problem, read_requests, unanswered
from judgelm.serve.batches.records import ENDED, Batch
from judgelm.serve.batches.store import Store
from judgelm.serve.counters import Metrics
from judgelm.serve.draining import Drain

log = logging.getLogger(__name__)

_BATCHES_AT_ONCE = 4
_LINES_AT_ONCE = 8
"""of a batch"""
TEXTS_AT_ONCE = 32
"""asked of the workers for all batches together, as a line may ask for a thousand: few, so that who waits for an answer
is not kept waiting long"""
_LOOK_S = 30.0
"""between two looks for what is old, or was to be tried again"""
_LONGEST_WAIT_S = 20.0
_BUSY = (429, 502, 503)
"""statuses with which a line is tried again: there is no worker now, or none with room"""
_MOST_LOST = 5
"""workers that go away over one line"""
_LOADING_S = 600.0
"""after the start, for which a model that nobody serves may still be loading"""
_EXPIRED = "the batch was not done in its completion window"


class Runner:
    """Batches on their way, in the event loop of the API.

    Args:
        routes: an app with the API's routes, without its guard, which ask for `TEXTS_AT_ONCE` at most.
        drain: once it is closing no line is begun.
    """

    def __init__(self, store: Store, routes: Any, metrics: Metrics, drain: Drain) -> None:
        self.store = store
        self.metrics = metrics
        self.drain = drain
        self._loaded = time.monotonic() + _LOADING_S
        transport = httpx.ASGITransport(app=routes, raise_app_exceptions=False)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=None)
        self._changed = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._answering: dict[str, asyncio.Task[None]] = {}
        self._resting: dict[str, float] = {}
        """batches that could not go on, and by time.monotonic() when that is tried again"""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Batches run, and at the end what is under way is given up: its lines are asked again next time."""
        task = asyncio.create_task(self._look_for_work())
        try:
            yield
        finally:
            tasks = [task, *self._running.values()]
            for one in tasks:
                one.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._http.aclose()

    def wake(self) -> None:
        """There is a new batch."""
        self._changed.set()

    def cancel(self, id: str) -> None:
        """The batch is one that is being cancelled: its lines under way are given up."""
        if id in self._answering:
            self._answering[id].cancel()
        self._resting.pop(id, None)
        self.wake()

    async def _look_for_work(self) -> None:
        while not self.drain.closing:
            self._changed.clear()
            try:
                await asyncio.to_thread(self.store.sweep)
                for batch in await asyncio.to_thread(self.store.unfinished):
                    self._start(batch)
            except Exception:
                log.exception("the folder of batches cannot be read")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._changed.wait()

    def _start(self, batch: Batch) -> None:
        """Unless it runs or rests, or so many others run; one that only is to be written need not wait for them."""
        asks = batch.status in ("validating", "in_progress")
        rests = self._resting.get(batch.id, 0) > time.monotonic()
        if batch.id not in self._running and not rests and (not asks or len(self._running) < _BATCHES_AT_ONCE):
            self._resting.pop(batch.id, None)
            self._running[batch.id] = asyncio.create_task(self._run(batch))

    async def _run(self, batch: Batch) -> None:
        """Until the batch has ended, or the server is to."""
        try:
            while not self.drain.closing:
                # it may have come on since it was listed
                batch = await asyncio.to_thread(self.store.batch, batch.owner, batch.id)
                if batch.status in ENDED:
                    return
                await self._advance(batch)
        except Exception:
            log.exception("batch %s is tried again later", batch.id)
            self._resting[batch.id] = time.monotonic() + _LOOK_S
        finally:
            del self._running[batch.id]
            self.wake()

    async def _advance(self, batch: Batch) -> None:
        """On to another status."""
        match batch.status:
            case "validating" if batch.expires_at <= self.store.now():
                await asyncio.to_thread(self.store.finish, batch, "expired")
            case "validating":
                await asyncio.to_thread(self._check, batch)
            case "in_progress":
                await self._answer(batch)
            case "finalizing":
                await asyncio.to_thread(self._end, batch)
            case "cancelling":
                await asyncio.to_thread(self.store.finish, batch, "cancelled")

    async def _answer(self, batch: Batch) -> None:
        """In a task of its own, which a client can cancel."""
        answering = asyncio.create_task(self._answer_lines(batch))
        self._answering[batch.id] = answering
        try:
            await asyncio.wait({answering})
        finally:
            answering.cancel()
            await asyncio.wait({answering})
            del self._answering[batch.id]
        if not answering.cancelled():
            answering.result()

    def _check(self, batch: Batch) -> None:
        path = self.store.content(batch.input_file_id)
        total, errors = check_requests(path, batch.endpoint, self.store.limits.lines)
        self.store.move(batch, "failed" if errors else "in_progress", errors=errors, total=0 if errors else total)

    async def _answer_lines(self, batch: Batch) -> None:
        """All that have no result yet, until its window ends, and then on to the next status: none comes after that."""
        store = self.store
        # who cancels it from now on finds this task
        if (await asyncio.to_thread(store.batch, batch.owner, batch.id)).status != batch.status:
            return
        try:
            async with asyncio.timeout(max(0, batch.expires_at - store.now())), asyncio.TaskGroup() as group:
                await self._begin_lines(batch, group)
        except TimeoutError:
            log.info("batch %s: %s", batch.id, _EXPIRED)
        else:
            if self.drain.closing:
                return
        excess = await asyncio.to_thread(store.excess, batch.id)
        errors = [problem(excess, "results_too_large")] if excess else []
        await asyncio.to_thread(store.move, batch, "finalizing", errors=errors)

    async def _begin_lines(self, batch: Batch, group: asyncio.TaskGroup) -> None:
        places = asyncio.Semaphore(_LINES_AT_ONCE)
        full = await asyncio.to_thread(self.store.excess, batch.id) is not None

        async def one(request: Request) -> None:
            nonlocal full
            try:
                more = await self._answer_line(batch, request)
                full = full or not more
            finally:
                places.release()

        for request in await asyncio.to_thread(self._left, batch):
            await places.acquire()
            if self.drain.closing or full:
                return
            group.create_task(one(request))

    def _end(self, batch: Batch) -> None:
        """By what it has: an error, results of all lines, or of those that were answered in time."""
        if batch.errors or batch.completed + batch.failed == batch.total:
            self.store.finish(batch, "failed" if batch.errors else "completed")
            return
        left: list[str] = []
        try:
            left = [unanswered(one, "batch_expired", _EXPIRED) for one in self._left(batch)]
        except OSError as error:
            log.error("batch %s: the requests without a result cannot be named: %s", batch.id, error)
        self.store.finish(batch, "expired", left)

    def _left(self, batch: Batch) -> Iterator[Request]:
        """The lines that have no result."""
        return read_requests(self.store.content(batch.input_file_id), batch.endpoint, self.store.done(batch.id))

    async def _answer_line(self, batch: Batch, request: Request) -> bool:
        """Ask until there is an answer, and keep it, unless the server ends before; whether the batch may have more."""
        wait, lost = 0.5, 0
        while not self.drain.closing:
            # nobody waits for the pauses in between
            with self.drain.work():
                status, body = await self._ask(batch.endpoint, request)
                lost += status == 502
                if lost == _MOST_LOST or not self._is_to_wait_for(status, body):
                    return await self._keep(batch, request, status, body)
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_S)
        return False

    async def _ask(self, endpoint: str, request: Request) -> tuple[int, Any]:
        content = json.dumps(request.body)
        response = await self._http.post(endpoint, content=content, headers={"content-type": "application/json"})
        return response.status_code, response.json()

    async def _keep(self, batch: Batch, request: Request, status: int, body: Any) -> bool:
        good = 200 <= status < 300
        text = answered(request, status, body)
        more = await asyncio.to_thread(self.store.add_result, batch.id, request.line, good, text)
        self.metrics.batch_lines.labels("completed" if good else "failed").inc()
        return more

    def _is_to_wait_for(self, status: int, body: Any) -> bool:
        if status in _BUSY:
            return True
        unknown = status == 404 and body["error"]["code"] == "model_not_found"
        return unknown and time.monotonic() < self._loaded
