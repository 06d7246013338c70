"""Requests that generate together: they join a running batch at any step and leave it as they finish."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from judgelm.engine.context import ContextEngine
from judgelm.engine.hf.rope import LengthRope
from judgelm.engine.interface import TokenLikelihood
from judgelm.engine.row import Row

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class RunningBatch(ABC):
    """Rows of one model; `mixed` where rows may join while others run.

    `join` is the prefill of new rows, `step` decodes a token of each. Rows that have finished are no longer in `rows`.
    """

    mixed = True

    def __init__(self, model: PreTrainedModel, engine: ContextEngine, rope: LengthRope) -> None:
        self.model = model
        self.engine = engine
        self.rope = rope
        self.rows: list[Row] = []
        self.device = model.get_input_embeddings().weight.device

    @torch.inference_mode()
    def join(self, rows: Sequence[Row]) -> None:
        """Prefill: read the rows' prompts and give each its first token."""
        self._choose(self._prefill(rows), rows)
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
            self._choose(self._decode(), self.rows)
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
    def _prefill(self, rows: Sequence[Row]) -> Float32[Tensor, "B V"]:
        """Read all that new rows have, behind those that are here; the logits of their last positions."""

    @abstractmethod
    def _decode(self) -> Float32[Tensor, "B V"]:
        """Read what the rows have more than before; the logits of their last positions."""

    @abstractmethod
    def _drop(self, kept: Sequence[int]) -> list[int]:
        """Forget all but the rows that are kept; in which order these stand now."""

    def _choose(self, logits: Float[Tensor, "B V"], rows: Sequence[Row]) -> None:
        add_tokens(logits, rows, self.engine)

    def _keep(self, rows: Sequence[Row]) -> None:
        kept = [index for index, row in enumerate(rows) if row.generation is None]
        self.rows = [rows[index] for index in (kept if len(kept) == len(rows) else self._drop(kept))]


def add_tokens(logits: Float[Tensor, "B V"], rows: Sequence[Row], engine: ContextEngine) -> None:
    """Give each row its next token, one that it may have."""
    # before what is not allowed is hidden
    asked = [index for index, row in enumerate(rows) if row.sampling.logprobs is not None]
    log_probs = dict(zip(asked, logits[asked].float().log_softmax(dim=-1), strict=True)) if asked else {}
    for index, row in enumerate(rows):
        allowed = row.allowed(engine.pieces)
        if allowed is not None:
            kept = logits[index, allowed]
            logits[index] = float("-inf")
            logits[index, allowed] = kept
    for index, (row, token) in enumerate(zip(rows, choose_tokens(logits, rows), strict=True)):
        if index in log_probs:
            row.likelihoods.append(_likelihood(token, log_probs[index], row.sampling.logprobs or 0))
        row.add(token, engine.eos, engine.tokenizer)


def _likelihood(token: int, log_probs: Float[Tensor, " V"], count: int) -> TokenLikelihood:
    values, tokens = log_probs.topk(min(count, len(log_probs)))
    top = tuple(zip(tokens.tolist(), values.tolist(), strict=True))
    return TokenLikelihood(token, float(log_probs[token]), top)


def choose_tokens(logits: Float[Tensor, "B V"], rows: Sequence[Row]) -> list[int]:
    """One token a row: the likeliest, or drawn by the row's own random numbers."""
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


def _nucleus(probabilities: Float64[Tensor, "B V"], top_p: Sequence[float]) -> Float64[Tensor, "B V"]:
    """Each row's likeliest tokens that together reach its top_p; the others get 0."""
    if all(p >= 1 for p in top_p):
        return probabilities
    values, order = probabilities.sort(dim=-1, descending=True)
    before = values.cumsum(dim=-1) - values
    values[before >= probabilities.new_tensor(top_p)[:, None]] = 0
    # the likeliest stays, however small top_p is
    values[:, 0] = probabilities.gather(-1, order[:, :1])[:, 0]
    return torch.zeros_like(probabilities).scatter(-1, order, values)
