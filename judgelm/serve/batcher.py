"""One thread that owns the model: requests of all users join its running batch and get their text as it grows."""

from __future__ import annotations

import gc
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch

from judgelm.engine import FinishReason, Request, Sampling
from judgelm.engine.hf import BATCH_TOKENS, TYPICAL_NEW_TOKENS, HFEngine, is_out_of_memory
from judgelm.engine.running import Row, can_mix

log = logging.getLogger(__name__)

_JOINING_TOKENS = 1024
"""prompt tokens read at once, while the others wait for their next token"""


class QueueFull(Exception):
    """As many requests wait as may."""


@dataclass(frozen=True, slots=True)
class Update:
    """How far a request has come."""

    text: str
    """all of it so far, never taken back"""
    num_prompt_tokens: int
    num_tokens: int
    finish_reason: FinishReason | None = None
    failed: bool = False
    """the model could not go on; the log says why"""

    @property
    def last(self) -> bool:
        return self.failed or self.finish_reason is not None


@dataclass(eq=False)
class Ticket:
    """A request that was taken."""

    row: Row
    deliver: Callable[[Update], None]
    cancelled: bool = False


class Batcher:
    """Runs an engine for many.

    Args:
        max_running: most requests in the batch.
        max_waiting: most requests that wait for a place in it; more are refused.
        batch_tokens: most tokens, padding and expected new ones included, that the batch holds.
    """

    def __init__(
        self, engine: HFEngine, max_running: int = 32, max_waiting: int = 256, batch_tokens: int | None = None
    ) -> None:
        self.engine = engine
        self.max_running = max_running
        self.max_waiting = max_waiting
        self.batch_tokens = batch_tokens or BATCH_TOKENS
        self._mixed = can_mix(engine.model)
        self._batch = engine.open_batch(self._mixed)
        self._waiting: deque[Ticket] = deque()
        self._running: dict[Row, Ticket] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._loop, name="batcher", daemon=True)
        self._thread.start()

    @property
    def queue_length(self) -> int:
        """Requests running or waiting."""
        return len(self._waiting) + len(self._running)

    def submit(self, request: Request, sampling: Sampling, deliver: Callable[[Update], None]) -> Ticket:
        """Take a request. `deliver` is called from the batcher's thread until an update is the `last`.

        Raises QueueFull, or ValueError where the prompt fills the context.
        """
        ticket = Ticket(self.engine.start(request, sampling), deliver)
        with self._changed:
            if len(self._waiting) >= self.max_waiting:
                raise QueueFull(f"{len(self._waiting)} requests are waiting already")
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Nobody waits for it any more: it leaves at the next step."""
        with self._changed:
            ticket.cancelled = True
            self._changed.notify()

    def close(self) -> None:
        """End the thread; requests not finished fail."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._running or self._closing):
                    self._changed.wait()
                if self._closing:
                    break
                self._drop_cancelled()
                joining = self._admit()
            try:
                self._advance(joining)
            except Exception:
                log.exception("a batch of %d requests failed", len(self._running))
                self._fail_all()
        self._fail_all()

    def _drop_cancelled(self) -> None:
        self._waiting = deque(ticket for ticket in self._waiting if not ticket.cancelled)
        gone = [row for row, ticket in self._running.items() if ticket.cancelled]
        if gone:
            self._batch.leave(gone)
            for row in gone:
                del self._running[row]

    def _admit(self) -> list[Ticket]:
        """Those at the head of the queue for whom there is room."""
        if self._running and not self._mixed:
            return []
        joining: list[Ticket] = []
        sizes = [_size(row) for row in self._running]
        tokens = 0
        while self._waiting and len(sizes) < self.max_running:
            row = self._waiting[0].row
            tokens += len(row.input_ids)
            sizes.append(_size(row))
            if len(sizes) > 1 and (
                len(sizes) * max(sizes) > self.batch_tokens or (joining and tokens > _JOINING_TOKENS)
            ):
                break
            joining.append(self._waiting.popleft())
        for ticket in joining:
            self._running[ticket.row] = ticket
        return joining

    def _advance(self, joining: list[Ticket]) -> None:
        """Let them join, give every row a token, and tell everybody."""
        try:
            if joining:
                self._batch.join([ticket.row for ticket in joining])
                self._tell([ticket.row for ticket in joining])
            if self._batch.rows:
                rows = self._batch.rows
                self._batch.step()
                self._tell(rows)
            return
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # outside of the handler, so that the traceback's tensors are freed
        self._start_again()

    def _tell(self, rows: list[Row]) -> None:
        for row in rows:
            ticket = self._running[row]
            generation = row.generation
            if generation is not None:
                del self._running[row]
            ticket.deliver(
                Update(
                    row.show(),
                    len(row.request.input_ids),
                    len(row.tokens),
                    generation.finish_reason if generation else None,
                )
            )

    def _start_again(self) -> None:
        """Memory was short: half as much at once from now on. What was generated is kept and read again."""
        tickets = list(self._running.values())
        self._open_batch()
        if len(tickets) == 1:
            row = tickets[0].row
            log.warning("out of memory with one request alone (%d tokens)", len(row.input_ids))
            tickets[0].deliver(Update(row.show(), len(row.request.input_ids), len(row.tokens), "out_of_memory"))
            return
        self.batch_tokens = max(1, len(tickets) * max(_size(ticket.row) for ticket in tickets) // 2)
        log.warning("out of memory with %d requests at once, going on with half", len(tickets))
        with self._changed:
            self._waiting.extendleft(reversed(tickets))

    def _fail_all(self) -> None:
        with self._changed:
            tickets = list(self._running.values())
            if self._closing:
                tickets += self._waiting
                self._waiting.clear()
        self._open_batch()
        for ticket in tickets:
            row = ticket.row
            ticket.deliver(Update(row.show(), len(row.request.input_ids), len(row.tokens), failed=True))

    def _open_batch(self) -> None:
        self._running = {}
        self._batch = self.engine.open_batch(self._mixed)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _size(row: Row) -> int:
    """Tokens a row takes once its text is written."""
    return len(row.request.input_ids) + max(len(row.tokens), min(row.max_new_tokens, TYPICAL_NEW_TOKENS))
