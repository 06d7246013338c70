"""Text -> token ids: the only place that knows about BOS, special tokens and shortening."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from judgelm.chat_template import Message, Piece, find_chat_template
from judgelm.criteria import Aspect
from judgelm.dialogue import LeftOut, Shortened, Turn
from judgelm.images import Placed
from judgelm.prompt import RESPONSE, TASKS, Turns, followup_parts, render_followup
from judgelm.prompt_form import PUBLISHED_FORM, PromptForm
from judgelm.sample import Sample
from judgelm.thinking import close_thoughts, find_opening, opened_thoughts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_Written = tuple[str, list[int]]
"""a prompt and its token ids, [T]"""


class PromptTooLong(Exception):
    """The prompt does not fit even with empty answers, or with nothing before a dialogue's last question."""

    def __init__(self, num_tokens: int, max_tokens: int, what: str = "question, reference and instruction") -> None:
        super().__init__(f"{what} alone take {num_tokens} tokens of {max_tokens}")


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt that fits the context."""

    text: str
    input_ids: list[int]
    """[T]"""
    shortened: Shortened | None
    """None where nothing was cut"""
    images: tuple[Placed, ...] = ()
    """those in the text, of an engine that shows them"""


def encode(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids by the tokenizer's own rule for BOS, and never with an EOS behind them, as the text is to be continued;
    names of special tokens inside the text stay plain text.
    """
    ids: list[int] = tokenizer(text, split_special_tokens=True).input_ids
    return ids[: len(ids) - num_appended(tokenizer)]


def encode_pieces(pieces: Sequence[Piece], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of a text in parts that brings its own first token; special tokens are read where a part may."""
    ids: list[int] = []
    for text, special in pieces:
        ids += tokenizer(text, add_special_tokens=False, split_special_tokens=not special).input_ids
    return ids


def num_appended(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many tokens (EOS, SEP) the tokenizer puts behind each text by its own rule."""
    bare = tokenizer(RESPONSE, add_special_tokens=False).input_ids
    whole = tokenizer(RESPONSE).input_ids
    starts = range(len(whole) - len(bare) + 1) if bare else ()
    return next((len(whole) - s - len(bare) for s in starts if whole[s : s + len(bare)] == bare), 0)


def encode_prompt(
    sample: Sample,
    task: str,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    aspect: Aspect | None = None,
    form: PromptForm = PUBLISHED_FORM,
) -> EncodedPrompt:
    """Render and encode a sample in at most `max_tokens` tokens.

    Where it is too long the answers are shortened at their ends, all to the same number of tokens (a shorter answer
    stays whole); question, reference and instruction are never cut. Of a dialogue the oldest turns are left out, and
    its answers stay whole. Raises PromptTooLong where that is not enough.
    """

    def write(shown: Sample) -> _Written:
        return _write(shown, task, tokenizer, aspect, form)

    prompt, input_ids = write(sample)
    if len(input_ids) <= max_tokens:
        return EncodedPrompt(prompt, input_ids, None)
    if sample.dialogue is not None:
        return _leave_out(sample, write, tokenizer, max_tokens)

    ends = [_token_ends(answer, tokenizer) for answer in sample.answers]

    def cut_to(cap: int) -> EncodedPrompt:
        answers = [
            answer if len(end) <= cap else answer[: end[cap - 1]] if cap else ""
            for answer, end in zip(sample.answers, ends, strict=True)
        ]
        cut = tuple(max(0, len(end) - cap) for end in ends)
        return EncodedPrompt(*write(replace(sample, answers=tuple(answers))), cut)

    best = cut_to(0)
    if len(best.input_ids) > max_tokens:
        raise PromptTooLong(len(best.input_ids), max_tokens)
    return _most_that_fits(cut_to, best, max(map(len, ends)), max_tokens)


def _most_that_fits(
    make: Callable[[int], EncodedPrompt], least: EncodedPrompt, too_much: int, max_tokens: int
) -> EncodedPrompt:
    """That of the largest number below `too_much` which fits; `least` is that of 0, and does."""
    low, high, best = 0, too_much, least
    while high - low > 1:
        middle = (low + high) // 2
        attempt = make(middle)
        if len(attempt.input_ids) <= max_tokens:
            low, best = middle, attempt
        else:
            high = middle
    return best


def _write(
    sample: Sample, task: str, tokenizer: PreTrainedTokenizerBase, aspect: Aspect | None, form: PromptForm
) -> _Written:
    """The prompt and its token ids. As a chat it is the user's message, and the assistant's begins with the prefill.

    Raises ValueError where the tokenizer has no chat template that takes it.
    """
    prompt = form.render(sample, task, aspect)
    if not form.chat:
        return prompt, encode(prompt, tokenizer)
    asked = {"role": "user", "content": form.message(prompt, task)}
    return encode_chat([asked], TASKS[task].prefill, tokenizer, form.reasoning)


def encode_chat(
    messages: Sequence[Message], begun: str, tokenizer: PreTrainedTokenizerBase, reasoning: bool
) -> _Written:
    """A chat in the tokenizer's own template, in which the assistant's turn has begun, with thoughts or without any.

    Raises ValueError where there is no template that takes it.
    """
    *pieces, (end, special) = find_chat_template(tokenizer).render(messages, enable_thinking=reasoning)
    if not reasoning:
        end += close_thoughts(end)
    elif not opened_thoughts(end):
        end += f"{find_opening(str(tokenizer.chat_template))}\n"
    pieces.append((end + begun, special))
    return "".join(text for text, _ in pieces), encode_pieces(pieces, tokenizer)


def _leave_out(
    sample: Sample, write: Callable[[Sample], _Written], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> EncodedPrompt:
    """The newest turns of a dialogue, as many as fit, of each conversation as many as of the others; of those before
    them the ends, all to the same number of tokens.
    """
    dialogue = sample.dialogue
    assert dialogue is not None
    earlier = dialogue.earlier
    ends = [[_token_ends(turn.text, tokenizer) for _, turn in turns] for turns in earlier]

    def keep(turns: int, tokens: int = 0) -> EncodedPrompt:
        """So many turns, and so many tokens of the next."""
        kept, gone, lost = [], [], []
        for all_turns, all_ends in zip(earlier, ends, strict=True):
            shown = dict(all_turns[:turns])
            lost.append(sum(map(len, all_ends[turns:])))
            if tokens and turns < len(all_turns):
                (place, turn), end = all_turns[turns], all_ends[turns]
                left = max(0, len(end) - tokens)
                shown[place] = Turn(turn.role, turn.text[end[left - 1] if left else 0 :])
                lost[-1] += left - len(end)
            kept.append(shown)
            gone.append(len(all_turns) - len(shown))
        cut = LeftOut(tuple(gone), tuple(lost))
        return EncodedPrompt(*write(replace(sample, dialogue=dialogue.keeping(kept))), cut)

    bare = keep(0)
    if len(bare.input_ids) > max_tokens:
        raise PromptTooLong(len(bare.input_ids), max_tokens, "last question, answers, reference and instruction")
    whole = _most_that_fits(keep, bare, max(map(len, earlier)), max_tokens)
    assert isinstance(whole.shortened, LeftOut)
    turns = max(len(all_turns) - gone for all_turns, gone in zip(earlier, whole.shortened.turns, strict=True))
    cut = max(len(all_ends[turns]) for all_ends in ends if turns < len(all_ends))
    return _most_that_fits(partial(keep, turns), whole, cut, max_tokens)


def encode_followup(
    sample: Sample,
    task: str,
    judgement: str,
    turns: Turns,
    question: str,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    form: PromptForm = PUBLISHED_FORM,
) -> EncodedPrompt:
    """The prompt of a further question about a judgement, in at most `max_tokens` tokens.

    Between turns stands the tokenizer's own EOS; the same characters in what people wrote stay plain text. The sample's
    answers are shortened where that is needed. Raises PromptTooLong where it is not enough.
    """

    def continued(prompt: str) -> tuple[str, list[int]]:
        if form.chat:
            said = [(form.message(prompt, task), TASKS[task].prefill + judgement), *turns, (question, None)]
            roles = zip(("user", "assistant") * len(said), (text for pair in said for text in pair), strict=True)
            messages = [{"role": role, "content": text} for role, text in roles if text is not None]
            return encode_chat(messages, "", tokenizer, reasoning=False)
        first, *rest = followup_parts(prompt, judgement, turns, question)
        ids = encode(first, tokenizer)
        for part in rest:
            eos = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
            ids += eos + tokenizer(part, split_special_tokens=True, add_special_tokens=False).input_ids
        return render_followup(prompt, judgement, turns, question), ids

    # a token may reach over the border of prompt and judgement
    room = max_tokens - len(continued("")[1]) - 2
    # as a text that is continued, or the user's first message
    plain = replace(form, chat=False)
    prompt = encode_prompt(sample, task, tokenizer, room, form=plain)
    return EncodedPrompt(*continued(prompt.text), prompt.shortened)


def _token_ends(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """For each token of the text alone, where it ends, in characters."""
    offsets = tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True
    ).offset_mapping
    return [end for _, end in offsets]


def decode_after(context_ids: list[int], generated_ids: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of generated tokens as it continues the prompt whose last tokens are `context_ids`.

    Decoded alone, a SentencePiece tokenizer would drop the space in front: "10" + " 7" would read "107".
    """
    before = tokenizer.decode(context_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    both = tokenizer.decode(context_ids + generated_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(both[len(before) :])
