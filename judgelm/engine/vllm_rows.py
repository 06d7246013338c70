"""Rows that vLLM continues: it reads and draws, a row says what its tokens mean and when it has finished."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from judgelm.engine.context import ContextEngine
from judgelm.engine.interface import TokenLikelihood
from judgelm.engine.row import Row

if TYPE_CHECKING:
    from vllm import LLMEngine, RequestOutput, SamplingParams

_LEAST_TOP_P = 1e-6
"""vLLM takes no 0, which is the likeliest token alone"""


class Queue:
    """vLLM's own queue, which rows and those who read score lines share: each is told of its own requests."""

    def __init__(self, engine: LLMEngine) -> None:
        self.engine = engine
        self._numbers = itertools.count()
        self._names: set[str] = set()
        """of requests that have not ended"""
        self._kept: list[RequestOutput] = []
        """what nobody has asked for yet"""
        self._new: dict[str, int] = {}
        """tokens of prompts that come for the first time, until vLLM says how many of them it had"""
        self._reused = 0

    def add(self, input_ids: list[int], settings: Mapping[str, Any], new: int = 0) -> str:
        """Queue tokens to be continued, so many `new` ones of a prompt at their beginning; the name of this request to
        vLLM.
        """
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        # tokens come as they are drawn; what they mean, EOS too, is decided here
        parameters: SamplingParams = SamplingParams(
            output_kind=RequestOutputKind.DELTA, detokenize=False, ignore_eos=True, **settings
        )
        name = str(next(self._numbers))
        self.engine.add_request(name, tokens_input(input_ids), parameters)
        self._names.add(name)
        self._new[name] = new
        return name

    def take_reused(self) -> int:
        """Tokens of prompts that vLLM's cache had, since this was asked last."""
        found, self._reused = self._reused, 0
        return found

    def step(self, names: Collection[str]) -> list[RequestOutput]:
        """What there is to say of these requests, after a step of vLLM where that was nothing.

        Raises RuntimeError where one of them was lost: a step that fails takes all requests with it.
        """
        if not self._names.issuperset(names):
            raise RuntimeError("vLLM has lost these requests")
        if not any(output.request_id in names for output in self._kept):
            try:
                said = self.engine.step()
            except Exception:
                self.abort(list(self._names))
                raise
            for output in said:
                self._reused += min(output.num_cached_tokens or 0, self._new.pop(output.request_id, 0))
            self._kept += said
        found = [output for output in self._kept if output.request_id in names]
        self._kept = [output for output in self._kept if output.request_id not in names]
        self._names.difference_update(output.request_id for output in found if output.finished)
        return found

    def abort(self, names: Collection[str]) -> None:
        """Forget requests, those that have ended left out."""
        gone = [name for name in names if name in self._names]
        self._names.difference_update(gone)
        for name in gone:
            self._new.pop(name, None)
        self._kept = [output for output in self._kept if output.request_id not in gone]
        if gone:
            self.engine.abort_request(gone)


class VLLMRows:
    """Rows that vLLM batches as it likes; see `RunningRows`.

    A row is one request of vLLM's to its end, and in a score line one for each token. Texts, counts and finish reasons
    are so those of the other engines.
    """

    def __init__(self, engine: ContextEngine, queue: Queue, most_rows: int) -> None:
        self.engine = engine
        self.queue = queue
        self.most_rows = most_rows
        self.waiting: deque[Row] = deque()
        self._running: dict[str, Row] = {}
        self._size = len(engine.tokenizer)

    @property
    def rows(self) -> Sequence[Row]:
        return list(self._running.values())

    def admit(self) -> list[Row]:
        free = min(self.most_rows - len(self._running), len(self.waiting))
        return [self.waiting.popleft() for _ in range(free)]

    def advance(self, joining: list[Row]) -> list[Row]:
        for row in joining:
            self._continue(row)
        moved = [row for row in joining if row.generation is not None]
        return moved + self._step() if self._running else moved

    def leave(self, rows: Collection[Row]) -> None:
        self.waiting = deque(row for row in self.waiting if row not in rows)
        gone = {name: row for name, row in self._running.items() if row in rows}
        self.queue.abort(gone)
        for name, row in gone.items():
            del self._running[name]
            row.finish(row.text, "cancelled")

    def clear(self) -> None:
        names = list(self._running)
        self._running.clear()
        self.queue.abort(names)

    def _continue(self, row: Row) -> None:
        """Have vLLM continue a row: to its end, or in a score line by one token of those that are allowed there."""
        sampling = row.sampling
        while (allowed := row.allowed(self.engine.pieces)) is not None and len(allowed) == 1:
            if sampling.logprobs is not None:
                break
            # a token without an alternative need not be computed
            row.add(allowed[0], self.engine.eos, self.engine.tokenizer)
            if row.generation is not None:
                return
        stop = [token for token in (*self.engine.eos, *sampling.stop_token_ids) if 0 <= token < self._size]
        settings: dict[str, Any] = {
            "max_tokens": (row.thinking or row).num_left if allowed is None else 1,
            "allowed_token_ids": allowed,
            "temperature": sampling.temperature,
            "top_p": max(sampling.top_p, _LEAST_TOP_P),
            "stop_token_ids": stop,
            "logprobs": sampling.logprobs,
        }
        if sampling.temperature > 0:
            settings["seed"] = row.random.getrandbits(32)
        new = 0 if row.num_read else len(row.request.input_ids)
        row.num_read = len(row.input_ids)
        self._running[self.queue.add(row.input_ids, settings, new)] = row

    def _step(self) -> list[Row]:
        """The rows that have more tokens than before, once vLLM says so of any."""
        moved: dict[Row, None] = {}
        for output in self.queue.step(self._running):
            name = output.request_id
            # of one that has ended more may have been said in the same breath
            if (row := self._running.get(name)) is None:
                continue
            turned = self._take(row, output.outputs[0])
            moved[row] = None
            ended = row.generation is not None or turned
            if ended or output.finished:
                del self._running[name]
            if ended and not output.finished:
                # for what vLLM does not know, a stop string perhaps
                self.queue.abort([name])
            if row.generation is None and (turned or output.finished):
                self._continue(row)
        return list(moved)

    def _take(self, row: Row, said: Any) -> bool:
        """Give a row vLLM's tokens; whether thoughts have ended with one: what follows them is another request."""
        for place, token in enumerate(said.token_ids):
            thought = row.thinking is not None
            if row.sampling.logprobs is not None:
                row.likelihoods.append(_likelihood(token, said.logprobs[place], row.sampling.logprobs))
            row.add(token, self.engine.eos, self.engine.tokenizer)
            if row.generation is not None:
                return False
            # or were closed
            if thought and (row.tokens[-1] != token or row.allowed(self.engine.pieces) is not None):
                return True
        return False


def _likelihood(token: int, found: Mapping[int, Any], count: int) -> TokenLikelihood:
    likeliest = sorted(((each, said.logprob) for each, said in found.items()), key=lambda pair: -pair[1])
    return TokenLikelihood(token, found[token].logprob, tuple(likeliest[:count]))
