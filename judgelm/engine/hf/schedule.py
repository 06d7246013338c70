"""Which rows are prefilled or decoded next: they wait, join the running batch where there is room, and start again in a
smaller one where memory was short."""

from __future__ import annotations

import gc
import warnings
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import torch

from judgelm.engine.hf.batch import RunningBatch
from judgelm.engine.hf.tree import common_length, split_family
from judgelm.engine.interface import TYPICAL_NEW_TOKENS
from judgelm.engine.row import Row


@dataclass(frozen=True, slots=True)
class Room:
    """How large a batch may grow."""

    rows: int
    tokens: int
    """all rows as long as the longest, expected new ones included"""
    prefill: int
    """prompt tokens read at once"""
    refill: int = 1
    """rows that must fit before any join a running batch, so that those that begin alike are read together"""


class Schedule:
    """Rows on their way through a model.

    Args:
        fair: rows that run get a token after each prefill; else all there is room for is read first.
    """

    def __init__(self, open_batch: Callable[[], RunningBatch], room: Room, fair: bool = False) -> None:
        self.open_batch = open_batch
        self.room = room
        self.fair = fair
        self.waiting: deque[Row] = deque()
        self.batch = open_batch()

    @property
    def rows(self) -> Sequence[Row]:
        return self.batch.rows

    def admit(self) -> list[Row]:
        """Take those at the head of the queue for whom there is room; one at least where nothing runs."""
        sizes = [_size(row) for row in self.batch.rows]
        if sizes and not self.batch.mixed:
            return []
        room, tokens, full = self.room, 0, False
        joining: list[Row] = []
        while self.waiting and not full:
            row = self.waiting[0]
            tokens += len(row.input_ids)
            if joining:
                # those that begin alike stand side by side, and that part is read once
                tokens -= common_length(joining[-1].request.input_ids, row.request.input_ids)
            sizes.append(_size(row))
            full = len(sizes) > room.rows or len(sizes) * max(sizes) > room.tokens
            if len(sizes) > 1 and (full or (joining and tokens > room.prefill)):
                break
            joining.append(self.waiting.popleft())
        if full and self.batch.rows and len(joining) < room.refill:
            self.waiting.extendleft(reversed(joining))
            return []
        if self.waiting and not full:
            ids = [row.request.input_ids for row in joining]
            for _ in range(split_family(ids, self.waiting[0].request.input_ids)):
                self.waiting.appendleft(joining.pop())
        return joining

    def advance(self, joining: list[Row]) -> list[Row]:
        """Let rows join, or give those that run a token each; the rows that have more text now, or have finished.

        Where memory is short half as much runs from then on, with a warning: what was generated is kept and read again.
        A row for which there is no room alone finishes as `out_of_memory`, without text.
        """
        changed: list[Row] = []
        try:
            if joining:
                self.batch.join(joining)
                changed += joining
            if self.batch.rows and (self.fair or not joining):
                changed = list(dict.fromkeys([*changed, *self.batch.rows]))
                self.batch.step()
            return changed
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # outside of the handler, so that the traceback's tensors are freed
        rows = [row for row in dict.fromkeys([*self.batch.rows, *joining]) if row.generation is None]
        finished = [row for row in changed if row.generation is not None]
        self._start_again(rows)
        return finished + [row for row in rows if row.generation is not None]

    def leave(self, rows: Collection[Row]) -> None:
        """Drop rows that nobody waits for any more."""
        self.waiting = deque(row for row in self.waiting if row not in rows)
        running = [row for row in self.batch.rows if row in rows]
        if running:
            self.batch.leave(running)

    def clear(self) -> None:
        """Forget the batch and free its memory."""
        self.batch = self.open_batch()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _start_again(self, rows: list[Row]) -> None:
        self.clear()
        if len(rows) == 1:
            request = rows[0].request
            rows[0].finish("", "out_of_memory")
            message = f"out of memory with question_id {request.seed_key} alone ({len(request.input_ids)} tokens)"
            warnings.warn(message, stacklevel=3)
            return
        most = max(1, len(rows) * max(_size(row) for row in rows) // 2)
        self.room = replace(self.room, tokens=most, prefill=min(self.room.prefill, most))
        self.waiting.extendleft(reversed(rows))
        warnings.warn(f"out of memory with {len(rows)} prompts at once, going on with half", stacklevel=3)


def _size(row: Row) -> int:
    """Tokens a row takes once its text is written."""
    return len(row.request.input_ids) + max(len(row.tokens), min(row.max_new_tokens, TYPICAL_NEW_TOKENS))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the error says that memory was short."""
    words = ("can't allocate memory", "MPS backend out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)
