"""Requests that generate together: they join a running batch at any step and leave it as they finish."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from judgelm.encoding import decode_after
from judgelm.engine.hf.packed import KeyValues, Reading, Step, read_packed
from judgelm.engine.hf.rope import LengthRope
from judgelm.engine.hf.tree import Tree
from judgelm.engine.interface import FinishReason, Generation, Request, Sampling, cut_at
from judgelm.engine.score_line import allowed_tokens
from judgelm.score_lines import text_begin

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_CONTEXT_TOKENS = 4
"""tokens in front of what is decoded, so that a space at its start is kept"""
_UNSETTLED_TOKENS = 16
"""tokens at a row's end that are decoded anew at each step"""


@dataclass(eq=False)
class Row:
    """One request while it generates."""

    request: Request
    sampling: Sampling
    max_new_tokens: int
    random: random.Random
    tokens: list[int] = field(default_factory=list)
    """generated so far"""
    text: str = ""
    """their text, which may end in half a character or in half a stop string"""
    num_read: int = 0
    """tokens of prompt and text that the model has read"""
    generation: Generation | None = None
    """set when the row has finished"""
    most_thoughts: int = 0
    """tokens that thoughts may have beside `max_new_tokens`"""
    _num_thoughts: int | None = 0
    """tokens of the thoughts before the text; None while they go on"""
    _settled: int = 0
    _settled_text: str = ""
    _shown: str = ""

    @property
    def input_ids(self) -> list[int]:
        """[T], what the model must have read before the next token: prompt and tokens so far."""
        return self.request.input_ids + self.tokens

    @property
    def num_left(self) -> int:
        """How many tokens it may still have."""
        thoughts = self.most_thoughts if self._num_thoughts is None else min(self._num_thoughts, self.most_thoughts)
        return self.max_new_tokens + thoughts - len(self.tokens)

    def show(self) -> str:
        """The text to be shown now: without half characters and half stop strings at its end.

        What was shown stays, but for one case: a newline that is a byte token to the tokenizer, as Llama's is, becomes
        half a character when bytes follow that make none.
        """
        if self.generation is not None:
            return self.generation.text
        text = self.text.rstrip("\ufffd")
        begun = [len(part) for stop in self.sampling.stop if (part := _begun(text, stop))]
        text = text[: len(text) - max(begun, default=0)]
        if text.startswith(self._shown):
            self._shown = text
        return self._shown

    def add(self, token: int, eos: Collection[int], tokenizer: PreTrainedTokenizerBase) -> None:
        """Take one token more, and finish where it was the last."""
        self.tokens.append(token)
        reason: FinishReason | None = None
        if token in eos or token in self.sampling.stop_token_ids:
            reason = "stop"
        else:
            self._extend_text(tokenizer)
            begin = self._begin_of_text(self.text)
            if self.most_thoughts and begin is None:
                self._num_thoughts = None
            elif self._num_thoughts is None:
                self._num_thoughts = len(self.tokens)
            if begin is not None and any(stop in self.text[begin:] for stop in self.sampling.stop):
                reason = "stop"
            elif self.num_left <= 0:
                reason = "length"
        if reason is not None:
            # as one piece: the text must not depend on how it grew
            written = self.tokens[:-1] if token in eos or token in self.sampling.stop_token_ids else self.tokens
            self.finish(decode_after(self.request.input_ids[-_CONTEXT_TOKENS:], written, tokenizer), reason)

    def finish(self, text: str, reason: FinishReason) -> None:
        """Set the generation, its text cut where the first stop string stands."""
        text = cut_at(text, self.sampling.stop, self._begin_of_text(text))
        self.generation = Generation(self.request.key, text, len(self.request.input_ids), len(self.tokens), reason)

    def _begin_of_text(self, text: str) -> int | None:
        """Where stop strings count: behind thoughts and the white space after them; None while thoughts go on."""
        return text_begin(text) if self.sampling.most_thoughts else 0

    def _extend_text(self, tokenizer: PreTrainedTokenizerBase) -> None:
        before = (self.request.input_ids[-_CONTEXT_TOKENS:] + self.tokens[: self._settled])[-_CONTEXT_TOKENS:]
        piece = decode_after(before, self.tokens[self._settled :], tokenizer)
        self.text = self._settled_text + piece
        if len(self.tokens) - self._settled >= _UNSETTLED_TOKENS and not piece.endswith("\ufffd"):
            self._settled, self._settled_text = len(self.tokens), self.text


class RunningBatch(ABC):
    """Rows of one model; `mixed` where rows may join while others run.

    `join` reads prompts, `step` gives each row its next token. Rows that have finished are no longer in `rows`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        eos: Sequence[int],
        pieces: Callable[[], dict[int, str]],
        rope: LengthRope,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.eos = eos
        self.pieces = pieces
        self.rope = rope
        self.rows: list[Row] = []
        self.device = model.get_input_embeddings().weight.device

    mixed = True

    @torch.inference_mode()
    def join(self, rows: Sequence[Row]) -> None:
        """Read the rows' prompts and give each its first token."""
        self._choose(self._read(rows), rows)
        self._keep([*self.rows, *rows])

    @torch.inference_mode()
    def step(self) -> None:
        """Give each row its next token."""
        again = [row for row in self.rows if self.rope.outgrown(row.num_read, len(row.input_ids))]
        if again:
            again = again if self.mixed else list(self.rows)
            kept = [index for index, row in enumerate(self.rows) if row not in again]
            self.rows = [self.rows[index] for index in self._drop(kept)]
        if self.rows:
            self._choose(self._next(), self.rows)
            self._keep(self.rows)
        if again:
            self.join(again)

    @torch.inference_mode()
    def leave(self, rows: Collection[Row]) -> None:
        """Drop rows that nobody waits for any more."""
        for row in rows:
            row.finish(row.text, "cancelled")
        self._keep(self.rows)

    @abstractmethod
    def _read(self, rows: Sequence[Row]) -> torch.Tensor:
        """Read what new rows have, behind those that are here. Logits of their last positions: [B, V], float32."""

    @abstractmethod
    def _next(self) -> torch.Tensor:
        """Read what the rows have more than before. Logits of their last positions: [B, V], float32."""

    @abstractmethod
    def _drop(self, kept: Sequence[int]) -> list[int]:
        """Forget all but the rows that are kept; in which order these stand now."""

    def _choose(self, logits: torch.Tensor, rows: Sequence[Row]) -> None:
        for index, row in enumerate(rows):
            allowed = self._allowed(row)
            if allowed is not None:
                kept = logits[index, allowed]
                logits[index] = float("-inf")
                logits[index, allowed] = kept
        for row, token in zip(rows, choose_tokens(logits, rows), strict=True):
            row.add(token, self.eos, self.tokenizer)

    def _allowed(self, row: Row) -> list[int] | None:
        """The tokens that may come next; None where all may."""
        if not row.sampling.constrained:
            return None
        return allowed_tokens(row.tokens, self.pieces(), row.request.prefill, row.request.num_answers)

    def _keep(self, rows: Sequence[Row]) -> None:
        kept = [index for index, row in enumerate(rows) if row.generation is None]
        self.rows = [rows[index] for index in (kept if len(kept) == len(rows) else self._drop(kept))]


class PackedBatch(RunningBatch):
    """Prompts are read as one row of tokens, what they begin with together once; rows keep their keys in slots.

    For models that `can_pack`. No work is done on padding, but for the attention of rows of different lengths while
    they generate.
    """

    def __init__(self, *args: Any, store: KeyValues) -> None:
        super().__init__(*args)
        self.store = store

    def _read(self, rows: Sequence[Row]) -> torch.Tensor:
        texts = [row.input_ids for row in rows]
        nums = [len(row.request.input_ids) for row in rows]
        for row, text in zip(rows, texts, strict=True):
            row.num_read = len(text)
        kinds = [self.rope.kind_of_prompt(num, len(text)) for num, text in zip(nums, texts, strict=True)]
        tree = Tree(texts, kinds=kinds)
        pack = Reading(tree, self.store)
        ends = torch.tensor([leaf.end - 1 for leaf in tree.leaves], device=self.device)
        positions = torch.tensor(tree.position_ids, device=self.device)
        with self.rope.told([tree_kinds(self.rope, tree, nums, list(map(len, texts)))]):
            return read_packed(self.model, torch.tensor(tree.input_ids, device=self.device), positions, ends, pack)

    def _next(self) -> torch.Tensor:
        unread = [row.tokens[row.num_read - len(row.request.input_ids) :] for row in self.rows]
        step = Step(self.store, [len(tokens) for tokens in unread], self.device, self.model.dtype)
        filled = [tokens + tokens[-1:] * (step.num - len(tokens)) for tokens in unread]
        kinds: list[int] = []
        for row, tokens in zip(self.rows, unread, strict=True):
            kinds += self.rope.kinds(row.num_read, len(row.input_ids), range(row.num_read, row.num_read + step.num))
            row.num_read += len(tokens)
        input_ids = torch.tensor(filled, device=self.device).flatten()
        ends = torch.tensor(
            [index * step.num + len(tokens) - 1 for index, tokens in enumerate(unread)], device=self.device
        )
        with self.rope.told([kinds]):
            return read_packed(self.model, input_ids, step.positions.flatten(), ends, step)

    def _choose(self, logits: torch.Tensor, rows: Sequence[Row]) -> None:
        super()._choose(logits, rows)
        for row in rows:
            # a token without an alternative need not be asked for
            while row.generation is None and (allowed := self._allowed(row)) is not None and len(allowed) == 1:
                if row.sampling.temperature > 0:
                    row.random.random()
                row.add(allowed[0], self.eos, self.tokenizer)

    def _drop(self, kept: Sequence[int]) -> list[int]:
        # the last ones fill the gaps, so that few move
        order = list(kept)
        last = [index for index in order if index >= len(order)]
        stay = [index for index in order if index < len(order)]
        gaps = sorted(set(range(len(order))) - set(stay))
        placed = dict(zip(gaps, last, strict=True))
        order = [placed.get(index, index) for index in range(len(order))]
        self.store.keep(order)
        return order


def tree_kinds(rope: LengthRope, tree: Tree, nums: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """The kind of each token of a tree [T]; `nums` are the tokens of each text's prompt, `lengths` all of its."""
    kinds: list[int] = []
    for segment in tree.segments:
        positions = range(segment.position, segment.position + segment.end - segment.begin)
        kinds += rope.kinds(nums[segment.prompt], lengths[segment.prompt], positions)
    return kinds


def choose_tokens(logits: torch.Tensor, rows: Sequence[Row]) -> list[int]:
    """One token a row from logits [B, V]: the likeliest, or drawn by the row's own random numbers."""
    tokens: list[int] = logits.argmax(dim=-1).tolist()
    drawing = [index for index, row in enumerate(rows) if row.sampling.temperature > 0]
    if not drawing:
        return tokens
    if logits.device.type == "mps":
        logits = logits.cpu()  # it has no float64
    drawn = [rows[index] for index in drawing]
    temperatures = logits.new_tensor([[row.sampling.temperature] for row in drawn])
    probabilities = torch.softmax(logits[drawing] / temperatures, dim=-1).double()
    probabilities = _nucleus(probabilities, [row.sampling.top_p for row in drawn])
    cumulative = probabilities.cumsum(dim=-1)
    numbers = cumulative.new_tensor([[row.random.random()] for row in drawn])
    found = (cumulative <= numbers * cumulative[:, -1:]).sum(dim=-1).clamp(max=logits.shape[-1] - 1)
    for index, token in zip(drawing, found.tolist(), strict=True):
        tokens[index] = token
    return tokens


def _nucleus(probabilities: torch.Tensor, top_p: Sequence[float]) -> torch.Tensor:
    """Each row's likeliest tokens that together reach its top_p; the others get 0."""
    if all(p >= 1 for p in top_p):
        return probabilities
    values, order = probabilities.sort(dim=-1, descending=True)
    before = values.cumsum(dim=-1) - values
    values[before >= probabilities.new_tensor(top_p)[:, None]] = 0
    # the likeliest stays, however small top_p is
    values[:, 0] = probabilities.gather(-1, order[:, :1])[:, 0]
    return torch.zeros_like(probabilities).scatter(-1, order, values)


def _begun(text: str, stop: str) -> str:
    """The longest end of the text that a stop string may begin with."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return stop[:size]
    return ""
