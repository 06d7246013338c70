"""Batched generation with transformers, for any causal language model."""

from __future__ import annotations

import inspect
import random
import warnings
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache

from judgelm.encoding import EncodedPrompt, decode_after, encode_prompt
from judgelm.engine import FinishReason, Generation, OnText, Request, Sampling
from judgelm.engine.score_line import ScoreLineProcessor, score_pieces
from judgelm.jsonl import InputError
from judgelm.sample import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BATCH_TOKENS = 16384
_BATCH_TOKENS_CPU_SCORES = 2048
"""on a CPU the prompts are all the work with scores only, and two or three at once already fill it"""
_TYPICAL_NEW_TOKENS = 256
"""what a judgement with reasons takes; planning with the limit of 2048 would leave batches almost empty"""
_CONTEXT_TOKENS = 4
"""prompt tokens kept in front when a generation is decoded"""


@dataclass
class _Row:
    """One request in a running batch."""

    request: Request
    max_new_tokens: int
    random: random.Random
    tokens: list[int] = field(default_factory=list)

    @property
    def context(self) -> list[int]:
        return self.request.input_ids[-_CONTEXT_TOKENS:]


class HFEngine:
    """Left-padded batches by length under a token budget; rows leave the batch as they finish.

    Args:
        model: in evaluation mode, on its device or devices.
        batch_tokens: most tokens, padding and expected new ones included, that one batch holds; None chooses.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_tokens: int | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.batch_tokens = batch_tokens
        self.context_length = _context_length(model)
        self.description: Mapping[str, str | int] = {
            "engine": "hf",
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": str(model.device),
            "attention": model.config._attn_implementation,
            "context_length": self.context_length,
        }
        self._eos = _eos_ids(model, tokenizer)
        self._forward_takes = set(inspect.signature(model.forward).parameters)
        self._pieces: dict[int, str] | None = None

    def fit(self, sample: Sample, task: str, max_new_tokens: int) -> EncodedPrompt:
        """See `Engine.fit`. A quarter of the context is room enough for the reasons of the published judges."""
        room = min(max_new_tokens, self.context_length // 4)
        return encode_prompt(sample, task, self.tokenizer, self.context_length - room)

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        *,
        done: Collection[str] = (),
        on_text: OnText | None = None,
    ) -> Iterator[Generation]:
        """See `Engine.generate`. Out of memory halves the batch and goes on, with a warning."""
        batches = deque(self.plan(requests, sampling))
        finished = set(done)
        while batches:
            batch = batches.popleft()
            if all(request.key in finished for request in batch):
                continue
            try:
                for generation in self._run(batch, sampling, on_text):
                    if generation.key not in finished:
                        finished.add(generation.key)
                        yield generation
                continue
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
            # outside of the handler, so that the traceback's tensors are freed
            torch.cuda.empty_cache()
            if len(batch) == 1:
                key, num_tokens = batch[0].key, len(batch[0].input_ids)
                warnings.warn(f"out of memory with question_id {key} alone ({num_tokens} tokens)", stacklevel=2)
                finished.add(key)
                yield Generation(key, "", num_tokens, 0, "out_of_memory")
                continue
            self.batch_tokens = max(1, _size(batch, sampling) // 2)
            warnings.warn(f"out of memory with {len(batch)} prompts at once, going on with half", stacklevel=2)
            waiting = [request for rest in (batch, *batches) for request in rest if request.key not in finished]
            batches = deque(self.plan(waiting, sampling))

    def plan(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Request]]:
        """Batches of like length, longest first, so that memory is short at the start or never."""
        limit = self._batch_limit(sampling)
        batches: list[list[Request]] = []
        for request in sorted(requests, key=lambda request: -len(request.input_ids)):
            if batches and _size([*batches[-1], request], sampling) <= limit:
                batches[-1].append(request)
            else:
                batches.append([request])
        return batches

    def _batch_limit(self, sampling: Sampling) -> int:
        if self.batch_tokens is not None:
            return self.batch_tokens
        short = sampling.max_new_tokens < _TYPICAL_NEW_TOKENS
        return _BATCH_TOKENS_CPU_SCORES if short and self.model.device.type == "cpu" else _BATCH_TOKENS

    @torch.inference_mode()
    def _run(self, batch: Sequence[Request], sampling: Sampling, on_text: OnText | None) -> Iterator[Generation]:
        device = self.model.get_input_embeddings().weight.device
        rows = [self._start(request, sampling) for request in batch]
        length = max(len(row.request.input_ids) for row in rows)
        pad = self._eos[0] if self._eos else 0
        input_ids = torch.tensor(
            [[pad] * (length - len(row.request.input_ids)) + row.request.input_ids for row in rows], device=device
        )
        mask = torch.tensor(
            [[0] * (length - len(row.request.input_ids)) + [1] * len(row.request.input_ids) for row in rows],
            device=device,
        )
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        processor = self._processor(rows) if sampling.constrained else None
        cache = DynamicCache(config=self.model.config)
        while rows:
            logits = self._forward(input_ids, mask, positions, cache)
            if processor is not None:
                generated = torch.tensor([row.tokens for row in rows], dtype=torch.long)
                logits = processor(generated, logits)
            tokens = _choose(logits, rows, sampling.temperature)
            keep = []
            for index, (row, token) in enumerate(zip(rows, tokens, strict=True)):
                row.tokens.append(token)
                generation = self._finish(row, sampling)
                if generation is not None:
                    yield generation
                else:
                    keep.append(index)
                if on_text is not None:
                    on_text(row.request.key, generation.text if generation else self._text(row))
            if not keep:
                return
            if len(keep) < len(rows):
                rows = [rows[index] for index in keep]
                # on the CPU, as the cache's layers may lie on several devices
                kept = torch.tensor(keep)
                cache.batch_select_indices(kept)
                mask, positions = mask[kept], positions[kept]
                if processor is not None:
                    processor.select(keep)
            input_ids = torch.tensor([[row.tokens[-1]] for row in rows], device=device)
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            positions = positions[:, -1:] + 1

    def _start(self, request: Request, sampling: Sampling) -> _Row:
        room = self.context_length - len(request.input_ids)
        if room < 1:
            raise ValueError(f"prompt {request.key} fills the context of {self.context_length} tokens")
        return _Row(request, min(sampling.max_new_tokens, room), random.Random(f"{sampling.seed}:{request.key}"))

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
            **{name: value for name, value in extra.items() if name in self._forward_takes},
        )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _processor(self, rows: Sequence[_Row]) -> ScoreLineProcessor:
        if self._pieces is None:
            self._pieces = score_pieces(self.tokenizer)
        requests = [row.request for row in rows]
        return ScoreLineProcessor(self._pieces, [r.prefill for r in requests], [r.num_answers for r in requests])

    def _finish(self, row: _Row, sampling: Sampling) -> Generation | None:
        reason: FinishReason
        text = None
        if row.tokens[-1] in self._eos or (sampling.stop is not None and sampling.stop in (text := self._text(row))):
            reason = "stop"
        elif len(row.tokens) >= row.max_new_tokens:
            reason = "length"
        else:
            return None
        text = self._text(row) if text is None else text
        if sampling.stop is not None:
            text = text.split(sampling.stop, 1)[0]
        return Generation(row.request.key, text, len(row.request.input_ids), len(row.tokens), reason)

    def _text(self, row: _Row) -> str:
        tokens = row.tokens[:-1] if row.tokens[-1] in self._eos else row.tokens
        return decode_after(row.context, tokens, self.tokenizer)


def _choose(logits: torch.Tensor, rows: Sequence[_Row], temperature: float) -> list[int]:
    """One token a row: the likeliest, or drawn by the row's own random numbers, whatever the batch."""
    if temperature == 0:
        greedy: list[int] = logits.argmax(dim=-1).tolist()
        return greedy
    if logits.device.type == "mps":
        logits = logits.cpu()  # it has no float64
    cumulative = torch.softmax(logits / temperature, dim=-1).double().cumsum(dim=-1)
    drawn = torch.tensor([[row.random.random()] for row in rows], dtype=torch.float64, device=logits.device)
    tokens = (cumulative <= drawn * cumulative[:, -1:]).sum(dim=-1)
    sampled: list[int] = tokens.clamp(max=logits.shape[-1] - 1).tolist()
    return sampled


def _size(batch: Sequence[Request], sampling: Sampling) -> int:
    """Tokens a batch holds once its judgements are written."""
    longest = max(len(request.input_ids) for request in batch)
    return len(batch) * (longest + min(sampling.max_new_tokens, _TYPICAL_NEW_TOKENS))


def _eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in (*ids, tokenizer.eos_token_id) if token is not None})


def _context_length(model: PreTrainedModel) -> int:
    """Most tokens the model was made for; architectures name it differently."""
    config = model.config.get_text_config().to_dict()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        if isinstance(config.get(name), int):
            length: int = config[name]
            return length
    raise InputError(f"a model of type {config['model_type']} does not say how long its context is")


def _is_out_of_memory(error: RuntimeError) -> bool:
    words = ("can't allocate memory", "MPS backend out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)
