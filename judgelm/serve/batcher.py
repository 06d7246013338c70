"""One thread that owns the model: requests of all users join its running batch and get their text as it grows."""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from judgelm.criteria import Scale
from judgelm.engine.interface import FinishReason, Request, Sampling, TokenLikelihood
from judgelm.engine.row import Row
from judgelm.engine.shared import SharedEngine
from judgelm.judge.expected import read_likelihoods
from judgelm.judge.judged import Likelihood
from judgelm.serve.worker_counts import Tally

log = logging.getLogger(__name__)

_SCORED_TOGETHER = 8
"""prompts whose score lines are read at once, while the others wait"""


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
    likelihood: Likelihood | None = None
    """where score lines were read"""
    likelihoods: tuple[TokenLikelihood, ...] = ()
    """of all tokens so far, where they were asked for; those of the prompt before them, where it was read alone"""
    reasoning: str | None = None
    """at the end, what it thought before its text, where it was to"""

    @property
    def last(self) -> bool:
        return self.failed or self.finish_reason is not None


@dataclass(eq=False)
class Ticket:
    """A request that was taken."""

    row: Row
    deliver: Callable[[Update], None]
    scored: Scale | None = None
    """of the score lines whose probabilities are wanted in place of a text"""
    prompt: tuple[TokenLikelihood, ...] = ()
    """of the prompt's tokens, once it was read alone"""
    begun: bool = False
    """the tally has its prompt, which may be read again"""
    counted: int = 0
    """tokens of its text that the tally has"""
    cancelled: bool = False


class Batcher:
    """Runs an engine for many.

    Args:
        max_running: most requests in the batch; None is the engine's own choice.
        max_waiting: most requests that wait for a place in it; more are refused.
    """

    def __init__(self, engine: SharedEngine, max_running: int | None = None, max_waiting: int = 256) -> None:
        self.engine = engine
        self.max_waiting = max_waiting
        self._schedule = engine.open(max_running or engine.most_served)
        self.tally = Tally()
        self._tickets: dict[Row, Ticket] = {}
        self._scoring: deque[Ticket] = deque()
        """those whose score lines wait to be read"""
        self._reading: deque[Ticket] = deque()
        """those whose prompts wait to be read alone"""
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._loop, name="batcher", daemon=True)
        self._thread.start()

    @property
    def queue_length(self) -> int:
        """Requests running or waiting."""
        return len(self._tickets)

    def submit(
        self,
        request: Request,
        sampling: Sampling,
        deliver: Callable[[Update], None],
        scored: Scale | None = None,
        reads_prompt: bool = False,
    ) -> Ticket:
        """Take a request, to write a text or to read the probabilities of a scale's score lines; a text may have no
        token at all where it `reads_prompt` first, to say how likely its tokens were. `deliver` is called from the
        batcher's thread until an update is the `last`.

        Raises QueueFull, or ValueError where the prompt fills the context.
        """
        ticket = Ticket(self.engine.start(request, sampling), deliver, scored)
        with self._changed:
            waiting = len(self._schedule.waiting) + len(self._scoring) + len(self._reading)
            if waiting >= self.max_waiting:
                raise QueueFull(f"{waiting} requests are waiting already")
            if scored is not None:
                self._scoring.append(ticket)
            elif reads_prompt:
                self._reading.append(ticket)
            else:
                self._schedule.waiting.append(ticket.row)
            self._tickets[ticket.row] = ticket
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
                while not (self._tickets or self._closing):
                    self._changed.wait()
                if self._closing:
                    break
                self._drop_cancelled()
                scoring = self._take_scoring()
                reading = [self._reading.popleft()] if self._reading else []
                joining = self._schedule.admit()
                running = [*self._schedule.rows, *joining]
            self._count([*scoring, *reading], joining, running)
            self._score(scoring)
            for ticket in reading:
                self._read(ticket)
            try:
                self._tell(self._schedule.advance(joining))
            except Exception:
                log.exception("a batch of %d requests failed", len(running))
                self._schedule.clear()
                self._fail(running)
            tally = self.tally
            self.engine.expect(tally.prompt_tokens - tally.reused_tokens + tally.new_tokens, waits=False)
        with self._changed:
            self._schedule.clear()
            self._fail(list(self._tickets))

    def _drop_cancelled(self) -> None:
        gone = {row for row, ticket in self._tickets.items() if ticket.cancelled}
        if gone:
            self._schedule.leave(gone)
            self._scoring = deque(ticket for ticket in self._scoring if ticket.row not in gone)
            self._reading = deque(ticket for ticket in self._reading if ticket.row not in gone)
            for row in gone:
                del self._tickets[row]

    def _count(self, alone: Sequence[Ticket], joining: Sequence[Row], running: Sequence[Row]) -> None:
        """Of those `alone` the prompt is all that is read now."""
        self.tally.begin(self._unread(alone))
        self.tally.begin(self._unread([self._tickets[row] for row in joining]), self.engine.packs)
        self.tally.step(len(running) + len(alone))

    def _unread(self, tickets: Sequence[Ticket]) -> list[list[int]]:
        """The prompts that are read for the first time."""
        new = [ticket for ticket in tickets if not ticket.begun]
        for ticket in new:
            ticket.begun = True
        return [ticket.row.request.input_ids for ticket in new]

    def _take_scoring(self) -> list[Ticket]:
        """The next ones of one scale, so few that who writes need not wait long."""
        found = list(itertools.islice(self._scoring, _SCORED_TOGETHER))
        alike = list(itertools.takewhile(lambda ticket: ticket.scored == found[0].scored, found))
        for _ in alike:
            self._scoring.popleft()
        return alike

    def _score(self, tickets: Sequence[Ticket]) -> None:
        """Read the score lines after each of these prompts."""
        if not tickets:
            return
        # a key is a question_id, which several users may give
        asked = {str(number): ticket for number, ticket in enumerate(tickets)}
        requests = [replace(ticket.row.request, key=key) for key, ticket in asked.items()]
        scale = tickets[0].scored
        assert scale is not None
        try:
            for made, likelihood in read_likelihoods(self.engine, requests, scale):
                self.tally.reused_tokens += self.engine.take_reused()
                ticket = asked.pop(made.key)
                self._tickets.pop(ticket.row)
                update = Update(made.text, made.num_prompt_tokens, 0, made.finish_reason, likelihood=likelihood)
                ticket.deliver(update)
        except Exception:
            log.exception("the score lines of %d requests could not be read", len(asked))
            self._fail(ticket.row for ticket in asked.values())

    def _read(self, ticket: Ticket) -> None:
        """Read a prompt, and give the text its first token, if it may have one; the others come with the batch."""
        row = ticket.row
        try:
            likelihoods = self.engine.read_row(row)
        except Exception:
            log.exception("a prompt of %d tokens could not be read", len(row.request.input_ids))
            self._fail([row])
            return
        ticket.prompt = () if row.sampling.logprobs is None else likelihoods
        if row.generation is not None:
            self._tell([row])
            return
        with self._changed:
            self._schedule.waiting.append(row)

    def _tell(self, rows: Iterable[Row]) -> None:
        self.tally.reused_tokens += self.engine.take_reused()
        for row in rows:
            generation = row.generation
            ticket = self._tickets[row]
            self.tally.new_tokens += len(row.tokens) - ticket.counted
            ticket.counted = len(row.tokens)
            if generation is not None:
                del self._tickets[row]
            reason, thoughts = (generation.finish_reason, generation.reasoning) if generation else (None, None)
            tokens = (*ticket.prompt, *row.likelihoods)
            num_prompt, num = len(row.request.input_ids), len(row.tokens)
            ticket.deliver(Update(row.show(), num_prompt, num, reason, likelihoods=tokens, reasoning=thoughts))

    def _fail(self, rows: Iterable[Row]) -> None:
        for row in rows:
            # some may have had their last word already
            if ticket := self._tickets.pop(row, None):
                ticket.deliver(Update(row.show(), len(row.request.input_ids), len(row.tokens), failed=True))
