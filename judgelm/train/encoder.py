"""A sample and its judgement -> the token ids that are learnt from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from judgelm.criteria import READABLE
from judgelm.encoding import encode, encode_prompt, num_appended
from judgelm.errors import InputError
from judgelm.prompt import render_prompt
from judgelm.score_lines import find_score_line
from judgelm.train.sample import Variant

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class EncodedExample(NamedTuple):
    """A prompt and the judgement that is to be learnt."""

    input_ids: list[int]
    """[T]: prompt, judgement, EOS"""
    num_prompt: int
    """tokens of the prompt: they are shown, not learnt"""
    num_score_line: int
    """tokens of the judgement's score line, its newline included; 0 where it does not come first"""


class ExampleEncoder:
    """Encodes training examples of the tasks pair and grade in at most `max_tokens` tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> None:
        if tokenizer.eos_token_id is None:
            raise InputError("the tokenizer has no EOS token, so a judge could not learn where a judgement ends")
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.eos: int = tokenizer.eos_token_id

    @property
    def fingerprint(self) -> str:
        """Changes with the tokenizer and the length."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        rules = backend.to_str() if backend else json.dumps(self.tokenizer.get_vocab(), sort_keys=True)
        # rows in a cache of earlier versions have what was appended too
        appended = f"without {num_appended(self.tokenizer)}:" if num_appended(self.tokenizer) else ""
        return hashlib.sha256(f"{appended}{self.max_tokens}:{self.eos}:{rules}".encode()).hexdigest()

    def count_tokens(self, examples: Sequence[Variant]) -> list[int]:
        """Tokens of each prompt and judgement, EOS included, before any shortening."""
        if not examples:
            return []
        texts = [render_prompt(each.sample, each.task, each.aspect) + each.text for each in examples]
        own = 1 - num_appended(self.tokenizer)
        return [len(ids) + own for ids in self.tokenizer(texts, split_special_tokens=True).input_ids]

    def fits_without_answers(self, variant: Variant) -> bool:
        """Whether shortening the answers, or leaving out a dialogue's turns, can make room, in any order of answers."""
        sample, dialogue = variant.sample, variant.sample.dialogue
        if dialogue is None:
            bare = replace(sample, answers=("",) * len(sample.answers))
        else:
            bare = replace(sample, dialogue=dialogue.keeping([{}] * len(dialogue.earlier)))
        # exchanging "Assistant 1" and "Assistant 2" in the reasons may change the count by a token
        return self.count_tokens([variant._replace(sample=bare)])[0] + 8 <= self.max_tokens

    def encode(self, variant: Variant) -> EncodedExample:
        """Prompt and judgement as the judge will read and write them; answers are shortened as in judging.

        Raises PromptTooLong where the judgement, question, reference and instruction alone do not fit.
        """
        sample, _, aspect = variant
        prompt = render_prompt(sample, variant.task, aspect)
        prompt_ids = encode(prompt, self.tokenizer)
        target_ids, ends = self.follow(prompt, prompt_ids, variant.text)
        first_line = score_line_end(variant)
        num_score_line = sum(end <= first_line for end in ends) if first_line else 0
        room = self.max_tokens - len(target_ids) - 1
        if len(prompt_ids) > room:
            prompt_ids = encode_prompt(sample, variant.task, self.tokenizer, room, aspect).input_ids
        return EncodedExample([*prompt_ids, *target_ids, self.eos], len(prompt_ids), num_score_line)

    def follow(self, prompt: str, prompt_ids: list[int], text: str) -> tuple[list[int], list[int]]:
        """A text's tokens as they follow the prompt's, and the character of the text at which each of them ends."""
        encoded = self.tokenizer(prompt + text, split_special_tokens=True, return_offsets_mapping=True)
        num = len(encoded.input_ids) - num_appended(self.tokenizer)
        ids, ends, skipped = encoded.input_ids[:num], [end for _, end in encoded.offset_mapping[:num]], len(prompt)
        if ids[: len(prompt_ids)] == prompt_ids:
            ids, ends = ids[len(prompt_ids) :], ends[len(prompt_ids) :]
        else:
            # a token would reach over the border, but in judging the prompt stands alone: so must it here
            encoded = self.tokenizer(
                text, split_special_tokens=True, return_offsets_mapping=True, add_special_tokens=False
            )
            ids, ends, skipped = encoded.input_ids, [end for _, end in encoded.offset_mapping], 0
        return ids, [end - skipped for end in ends]


def score_line_end(variant: Variant) -> int:
    """How many characters hold the scores, newline included, where a judgement begins with them; else 0."""
    judgement, scale = variant.text, variant.aspect.scale if variant.aspect else READABLE
    line = find_score_line(judgement, len(variant.sample.answers), scale)
    if line is None or judgement[: line.begin].strip():
        return 0
    newline = judgement.find("\n", line.end)
    return (len(judgement) if newline < 0 else newline) + 1
