"""A model's context: how long it is, where a text in it ends, and the prompts that are made to fit."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from judgelm.criteria import Aspect
from judgelm.encoding import EncodedPrompt, encode_followup, encode_prompt
from judgelm.engine.interface import Request, Sampling
from judgelm.engine.reasoning import Reasoning
from judgelm.engine.row import Row
from judgelm.engine.schema_text import SchemaText
from judgelm.engine.score_line import score_pieces
from judgelm.errors import InputError, SettingError
from judgelm.prompt import Turns
from judgelm.prompt_form import NO_CHAT, PUBLISHED_FORM, PromptForm
from judgelm.sample import Sample, refuse_images

if TYPE_CHECKING:
    from transformers import GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase

_CLOSING = 16
"""tokens of a closing tag and a blank line, and of one that is begun"""
_LONGEST = 1 << 30
"""tokens of a context that can be meant"""


class ContextEngine:
    """What the engines share that know a model's tokenizer, its context and the tokens that end a text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context_length: int, eos: Sequence[int]) -> None:
        self.tokenizer = tokenizer
        self.context_length = context_length
        self.eos = eos
        self.pieces: Callable[[], dict[int, str]] = functools.cache(functools.partial(score_pieces, tokenizer))
        """what a score line can be made of; see `score_pieces`"""

    def fit(
        self,
        sample: Sample,
        task: str,
        max_new_tokens: int,
        aspect: Aspect | None = None,
        form: PromptForm = PUBLISHED_FORM,
    ) -> EncodedPrompt:
        """See `Engine.fit`. A quarter of the context is room enough for the reasons of the published judges.

        Raises SettingError where a model is to think that is not asked in chat, and InputError for images.
        """
        refuse_images(sample)
        if form.reasoning and not form.chat:
            raise SettingError("reasoning", NO_CHAT)
        return encode_prompt(sample, task, self.tokenizer, self._most_prompt_tokens(max_new_tokens), aspect, form)

    def fit_followup(
        self,
        sample: Sample,
        task: str,
        judgement: str,
        turns: Turns,
        question: str,
        max_new_tokens: int,
        form: PromptForm = PUBLISHED_FORM,
    ) -> EncodedPrompt:
        """The prompt of a further question; see `encode_followup`."""
        most = self._most_prompt_tokens(max_new_tokens)
        return encode_followup(sample, task, judgement, turns, question, self.tokenizer, most, form)

    def _most_prompt_tokens(self, max_new_tokens: int) -> int:
        return self.context_length - min(max_new_tokens, self.context_length // 4)

    def start(self, request: Request, sampling: Sampling) -> Row:
        """A row that can generate. Raises ValueError where the prompt fills the context, and InputError for a schema
        that texts cannot be held to.
        """
        room = self.context_length - len(request.input_ids)
        if room < min(1, sampling.max_new_tokens):
            raise ValueError(f"prompt {request.key} fills the context of {self.context_length} tokens")
        draw = random.Random(f"{sampling.seed}:{request.seed_key}")
        if request.reasoning:
            # the text after the thoughts needs room too, and so do the tokens that close them
            thoughts = max(1, min(sampling.most_thoughts, room // 2))
            most = max(1, min(sampling.max_new_tokens, room - thoughts - _CLOSING))
            return Row(request, sampling, most, draw, reasoning=Reasoning(request.reasoning, thoughts))
        most = min(sampling.max_new_tokens, room)
        schema_text = None if sampling.json_schema is None else self.start_schema_text(sampling.json_schema)
        thoughts = min(sampling.most_thoughts, room - most)
        return Row(request, sampling, most, draw, most_thoughts=thoughts, schema_text=schema_text)

    def start_schema_text(self, schema: str) -> SchemaText:
        """Raises InputError for an engine that holds no text to a schema, and for a schema that it cannot take."""
        raise InputError("this engine holds no text to a schema")


def find_eos_ids(config: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a text, by the model's generation settings and by its tokenizer."""
    configured = config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in (*ids, tokenizer.eos_token_id) if token is not None})


def find_context_length(config: PretrainedConfig) -> int:
    """Most tokens the model was made for, stretched positions counted; architectures name it differently."""
    config = config.get_text_config()
    settings = config.to_dict()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        length = settings.get(name)
        if length is not None:
            if type(length) is not int or not 1 <= length <= _LONGEST:
                raise InputError(f"config.json: {name}: expected a whole number of tokens from 1 on, found {length}")
            return _stretched(length, settings.get("rope_parameters"))
    raise InputError(f"a model of type {settings['model_type']} does not say how long its context is")


def _stretched(length: int, rope: object) -> int:
    """A context's length where rotary positions are stretched by a factor.

    llama3 and longrope state the stretched length, and so does a model with a rope for each kind of layer. linear and
    dynamic stretch the stated one, as yarn does the original one; where that was raised already the longer counts.
    """
    if not isinstance(rope, dict) or rope.get("rope_type") not in ("linear", "dynamic", "yarn"):
        return length
    factor, original = rope.get("factor"), rope.get("original_max_position_embeddings") or length
    if not isinstance(factor, int | float) or not 1 <= factor <= _LONGEST or type(original) is not int:
        return length
    if rope["rope_type"] != "yarn" and original < length:
        return length
    return min(_LONGEST, max(length, int(original * factor)))
