"""Requests that generate together: they join a running batch at any step and leave it as they finish."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from judgelm.encoding import decode_after
from judgelm.engine import FinishReason, Generation, Request, Sampling
from judgelm.engine.score_line import allowed_tokens

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
    generation: Generation | None = None
    """set when the row has finished"""
    _settled: int = 0
    _settled_text: str = ""
    _shown: str = ""

    @property
    def input_ids(self) -> list[int]:
        """[T], what the model must have read before the next token: prompt and tokens so far."""
        return self.request.input_ids + self.tokens

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
            if any(stop in self.text for stop in self.sampling.stop):
                reason = "stop"
            elif len(self.tokens) >= self.max_new_tokens:
                reason = "length"
        if reason is not None:
            # as one piece: the text must not depend on how it grew
            written = self.tokens[:-1] if token in eos or token in self.sampling.stop_token_ids else self.tokens
            self.finish(decode_after(self.request.input_ids[-_CONTEXT_TOKENS:], written, tokenizer), reason)

    def finish(self, text: str, reason: FinishReason) -> None:
        """Set the generation, its text cut where the first stop string stands."""
        ends = [text.find(stop) for stop in self.sampling.stop if stop in text]
        text = text[: min(ends)] if ends else text
        self.generation = Generation(self.request.key, text, len(self.request.input_ids), len(self.tokens), reason)

    def _extend_text(self, tokenizer: PreTrainedTokenizerBase) -> None:
        before = (self.request.input_ids + self.tokens[: self._settled])[-_CONTEXT_TOKENS:]
        piece = decode_after(before, self.tokens[self._settled :], tokenizer)
        self.text = self._settled_text + piece
        if len(self.tokens) - self._settled >= _UNSETTLED_TOKENS and not piece.endswith("\ufffd"):
            self._settled, self._settled_text = len(self.tokens), self.text


class RunningBatch:
    """A left-padded batch over one key-value cache.

    `join` reads prompts, `step` gives each row its next token. Rows that have finished are no longer in `rows`.

    Args:
        mixed: rows may join while others run. The cache then keeps all keys of layers with a sliding window. False
            for models whose cache cannot be put together from parts (see `can_mix`): all rows join at once.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        eos: Sequence[int],
        pieces: Callable[[], dict[int, str]],
        mixed: bool,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.eos = eos
        self.pieces = pieces
        self.mixed = mixed
        self.rows: list[Row] = []
        self._takes = set(inspect.signature(model.forward).parameters)
        self._cache = DynamicCache()
        self._mask = torch.empty(0, 0, dtype=torch.long)
        """[B, T], 1 where the cache holds a row's own keys"""

    @torch.inference_mode()
    def join(self, rows: Sequence[Row]) -> None:
        """Read the rows' prompts and give each its first token."""
        if self.rows and not self.mixed:
            raise ValueError("rows can join only while no others run")
        device = self.model.get_input_embeddings().weight.device
        prompts = [row.input_ids for row in rows]
        length = max(map(len, prompts))
        pad = self.eos[0] if self.eos else 0
        input_ids = torch.tensor([[pad] * (length - len(ids)) + ids for ids in prompts], device=device)
        mask = torch.tensor([[0] * (length - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
        cache = DynamicCache() if self.mixed else DynamicCache(config=self.model.config)
        logits = self._forward(input_ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), cache)
        if self.rows:
            cache, mask = _put_together(self._cache, self._mask, cache, mask)
        self._cache, self._mask = cache, mask
        joined = list(rows)
        self._choose(logits, joined)
        self._keep([*self.rows, *joined])

    @torch.inference_mode()
    def step(self) -> None:
        """Give each row its next token."""
        rows = self.rows
        device = self._mask.device
        input_ids = torch.tensor([[row.tokens[-1]] for row in rows], device=device)
        positions = self._mask.sum(-1, keepdim=True)
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(rows), 1)], dim=1)
        self._choose(self._forward(input_ids, self._mask, positions, self._cache), rows)
        self._keep(rows)

    @torch.inference_mode()
    def leave(self, rows: Collection[Row]) -> None:
        """Drop rows that nobody waits for any more."""
        for row in rows:
            row.finish(row.text, "cancelled")
        self._keep(self.rows)

    def _forward(
        self, input_ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: DynamicCache
    ) -> torch.Tensor:
        """Logits of the last position: [B, V], float32."""
        extra = {"position_ids": positions, "logits_to_keep": 1}
        output = self.model(
            input_ids=input_ids,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **{name: value for name, value in extra.items() if name in self._takes},
        )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _choose(self, logits: torch.Tensor, rows: Sequence[Row]) -> None:
        for index, row in enumerate(rows):
            if row.sampling.constrained:
                allowed = allowed_tokens(row.tokens, self.pieces(), row.request.prefill, row.request.num_answers)
                if allowed is not None:
                    kept = logits[index, allowed]
                    logits[index] = float("-inf")
                    logits[index, allowed] = kept
        for row, token in zip(rows, choose_tokens(logits, rows), strict=True):
            row.add(token, self.eos, self.tokenizer)

    def _keep(self, rows: Sequence[Row]) -> None:
        """Drop finished rows, their keys and values too."""
        kept = [index for index, row in enumerate(rows) if row.generation is None]
        self.rows = [rows[index] for index in kept]
        if not kept:
            self._cache, self._mask = DynamicCache(), self._mask[:0, :0]
        elif len(kept) < len(rows):
            # on the CPU, as the cache's layers may lie on several devices
            indices = torch.tensor(kept)
            self._cache.reorder_cache(indices)
            self._mask = self._mask[indices]


def can_mix(model: PreTrainedModel) -> bool:
    """Whether the model's cache holds nothing but keys and values, a place a token, so that rows can join and leave."""
    layers = DynamicCache(config=model.config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


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


def _put_together(
    first: DynamicCache, first_mask: torch.Tensor, second: DynamicCache, second_mask: torch.Tensor
) -> tuple[DynamicCache, torch.Tensor]:
    """Both caches' rows in one, as short as the longest row allows."""
    length = max(int(first_mask.sum(-1).max()), int(second_mask.sum(-1).max()))
    for ours, theirs in zip(first.layers, second.layers, strict=True):
        if ours.is_initialized:
            ours.keys = torch.cat([_to_length(ours.keys, length, -2), _to_length(theirs.keys, length, -2)])
            ours.values = torch.cat([_to_length(ours.values, length, -2), _to_length(theirs.values, length, -2)])
    return first, torch.cat([_to_length(first_mask, length, -1), _to_length(second_mask, length, -1)])


def _to_length(tensor: torch.Tensor, length: int, dim: int) -> torch.Tensor:
    """Padding added or taken away on the left of `dim`."""
    missing = length - tensor.shape[dim]
    if missing <= 0:
        return tensor.narrow(dim, -missing, length)
    shape = list(tensor.shape)
    shape[dim] = missing
    return torch.cat([tensor.new_zeros(shape), tensor], dim=dim)


def _begun(text: str, stop: str) -> str:
    """The longest end of the text that a stop string may begin with."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return stop[:size]
    return ""
