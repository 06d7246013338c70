"""A model's context: how long it is, where a text in it ends, and the prompts that are made to fit."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from judgelm.encoding import EncodedPrompt, encode_followup, encode_prompt
from judgelm.engine import Request, Sampling
from judgelm.engine.running import Row
from judgelm.engine.score_line import score_pieces
from judgelm.jsonl import InputError
from judgelm.sample import Sample

if TYPE_CHECKING:
    from transformers import GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase


class ContextEngine:
    """What the engines share that hold a model's tokenizer and know its context."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context_length: int) -> None:
        self.tokenizer = tokenizer
        self.context_length = context_length
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

    def start(self, request: Request, sampling: Sampling) -> Row:
        """A row that can generate. Raises ValueError where the prompt fills the context."""
        room = self.context_length - len(request.input_ids)
        if room < 1:
            raise ValueError(f"prompt {request.key} fills the context of {self.context_length} tokens")
        draw = random.Random(f"{sampling.seed}:{request.seed_key}")
        most = min(sampling.max_new_tokens, room)
        return Row(request, sampling, most, draw, most_thoughts=min(sampling.most_thoughts, room - most))

    def pieces(self) -> dict[int, str]:
        """What a score line can be made of; see `score_pieces`."""
        if self._pieces is None:
            self._pieces = score_pieces(self.tokenizer)
        return self._pieces


def find_eos_ids(config: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a text, by the model's generation settings and by its tokenizer."""
    configured = config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in (*ids, tokenizer.eos_token_id) if token is not None})


def find_context_length(config: PretrainedConfig) -> int:
    """Most tokens the model was made for; architectures name it differently."""
    settings = config.get_text_config().to_dict()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        if isinstance(settings.get(name), int):
            length: int = settings[name]
            return length
    raise InputError(f"a model of type {settings['model_type']} does not say how long its context is")
