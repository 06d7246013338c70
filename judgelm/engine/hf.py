"""Batched generation with transformers, for any causal language model."""

from __future__ import annotations

import random
import warnings
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from judgelm.encoding import EncodedPrompt, encode_followup, encode_prompt
from judgelm.engine import Generation, OnText, Request, Sampling
from judgelm.engine.running import Row, RunningBatch
from judgelm.engine.score_line import score_pieces
from judgelm.jsonl import InputError
from judgelm.sample import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_TOKENS = 16384
_BATCH_TOKENS_CPU_SCORES = 2048
"""on a CPU the prompts are all the work with scores only, and two or three at once already fill it"""
TYPICAL_NEW_TOKENS = 256
"""what a judgement with reasons takes; planning with the limit of 2048 would leave batches almost empty"""


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
        self._pieces: dict[int, str] | None = None

    def fit(self, sample: Sample, task: str, max_new_tokens: int) -> EncodedPrompt:
        """See `Engine.fit`. A quarter of the context is room enough for the reasons of the published judges."""
        return encode_prompt(sample, task, self.tokenizer, self._most_prompt_tokens(max_new_tokens))

    def fit_followup(
        self,
        sample: Sample,
        task: str,
        judgement: str,
        turns: Sequence[tuple[str, str]],
        question: str,
        max_new_tokens: int,
    ) -> EncodedPrompt:
        """The prompt of a further question; see `encode_followup`."""
        most = self._most_prompt_tokens(max_new_tokens)
        return encode_followup(sample, task, judgement, turns, question, self.tokenizer, most)

    def _most_prompt_tokens(self, max_new_tokens: int) -> int:
        return self.context_length - min(max_new_tokens, self.context_length // 4)

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
                if not is_out_of_memory(error):
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
        short = sampling.max_new_tokens < TYPICAL_NEW_TOKENS
        return _BATCH_TOKENS_CPU_SCORES if short and self.model.device.type == "cpu" else BATCH_TOKENS

    def _run(self, requests: Sequence[Request], sampling: Sampling, on_text: OnText | None) -> Iterator[Generation]:
        batch = self.open_batch()
        rows = [self.start(request, sampling) for request in requests]
        batch.join(rows)
        while rows:
            for row in rows:
                if row.generation is not None:
                    yield row.generation
                if on_text is not None:
                    on_text(row.request.key, row.generation.text if row.generation else row.text)
            rows = batch.rows
            if rows:
                batch.step()

    def open_batch(self, mixed: bool = False) -> RunningBatch:
        """An empty batch; see `RunningBatch`."""
        return RunningBatch(self.model, self.tokenizer, self._eos, self.pieces, mixed)

    def start(self, request: Request, sampling: Sampling) -> Row:
        """A row that can join a batch. Raises ValueError where the prompt fills the context."""
        room = self.context_length - len(request.input_ids)
        if room < 1:
            raise ValueError(f"prompt {request.key} fills the context of {self.context_length} tokens")
        return Row(
            request, sampling, min(sampling.max_new_tokens, room), random.Random(f"{sampling.seed}:{request.key}")
        )

    def pieces(self) -> dict[int, str]:
        """What a score line can be made of; see `score_pieces`."""
        if self._pieces is None:
            self._pieces = score_pieces(self.tokenizer)
        return self._pieces


def _size(batch: Sequence[Request], sampling: Sampling) -> int:
    """Tokens a batch holds once its judgements are written."""
    longest = max(len(request.input_ids) for request in batch)
    return len(batch) * (longest + min(sampling.max_new_tokens, TYPICAL_NEW_TOKENS))


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


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the error says that memory was short."""
    words = ("can't allocate memory", "MPS backend out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)
