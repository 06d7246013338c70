"""Constrained decoding: the first line can be nothing but a score line, for any model and tokenizer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from transformers import LogitsProcessor

from judgelm.encoding import decode_after, encode
from judgelm.errors import SettingError
from judgelm.prompt import RESPONSE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PIECE = re.compile(r"[0-9]*[ \n]?[0-9]*\n?")
_SCORES = tuple(str(score) for score in range(1, 11))


class ScoreLineProcessor(LogitsProcessor):  # type: ignore[misc]
    """Sets the logits of every token to -inf that would leave "s1 s2 .. sN" + newline, each s from 1 to 10.

    What follows the newline is free. A row's score line is `prefills[row]` and its generated tokens.

    Args:
        pieces: token id -> text, for the tokens a score line can be made of (see `score_pieces`).
        prefills: one a row, the part of the score line that stands in the prompt.
        num_answers: one a row.
        prompt_length: how many of `input_ids`' columns are prompt.
    """

    def __init__(
        self, pieces: dict[int, str], prefills: Sequence[str], num_answers: Sequence[int], prompt_length: int = 0
    ) -> None:
        self.pieces = pieces
        self.rows = list(zip(prefills, num_answers, strict=True))
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """input_ids: [B, T], scores: [B, V] -> [B, V]."""
        result = scores.clone()
        for row, generated in enumerate(input_ids[:, self.prompt_length :].tolist()):
            allowed = allowed_tokens(generated, self.pieces, *self.rows[row])
            if allowed is not None:
                result[row] = float("-inf")
                result[row, allowed] = scores[row, allowed]
        return result


def allowed_tokens(
    generated: Sequence[int], pieces: dict[int, str], prefill: str, num_answers: int
) -> list[int] | None:
    """The tokens that may follow `generated` in a score line; None where the line has ended and all are free."""
    line = prefill
    for token in generated:
        line += pieces[token]
        if "\n" in line:
            return None
    return [token for token, piece in pieces.items() if _continues(line + piece, num_answers)]


@lru_cache(maxsize=4096)
def _continues(line: str, num_answers: int) -> bool:
    """Whether `line` is a score line, newline included, or can still become one."""
    body, newline, rest = line.partition("\n")
    if rest:
        return False
    parts = body.split(" ")
    if any(part not in _SCORES for part in parts[:-1]) or len(parts) > num_answers:
        return False
    last = parts[-1]
    if newline:
        return len(parts) == num_answers and last in _SCORES
    return any(score.startswith(last) for score in _SCORES)


def score_pieces(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """The tokens whose text, after "### Response:", is made of digits, one space or a newline.

    Raises InputError where the tokenizer cannot write a score line.
    """
    context = encode(RESPONSE, tokenizer)
    special = set(tokenizer.all_special_ids)
    pieces = {}
    for token in range(len(tokenizer)):
        if token in special:
            continue
        raw = tokenizer.convert_ids_to_tokens(token)
        # cheap sieve before the exact text: letters other than <0x0A>'s cannot be part of a score line
        if raw is None or len(raw) > 8 or (any(c.isascii() and c.isalpha() for c in raw) and raw != "<0x0A>"):
            continue
        text = decode_after(context, [token], tokenizer)
        if text and _PIECE.fullmatch(text):
            pieces[token] = text
    missing = [name for name, text in (("digits", "1"), ("space", " "), ("newline", "\n")) if not _has(pieces, text)]
    if missing:
        raise SettingError(
            "constrained", f"decoding cannot be used: the tokenizer has no token for {', '.join(missing)}"
        )
    return pieces


def _has(pieces: dict[int, str], text: str) -> bool:
    return any(text in piece for piece in pieces.values())


def line_tokens(lines: Sequence[str], prefill: str, tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, ...]]:
    """The tokens of each line as they follow a prompt, which ends in "### Response:" and the prefill."""
    context = RESPONSE + prefill
    before = encode(context, tokenizer)
    found = []
    for line in lines:
        ids = encode(context + line, tokenizer)
        if ids[: len(before)] == before:
            ids = ids[len(before) :]
        else:
            # a token would reach over the border, but the prompt stands alone: so must the line
            ids = tokenizer(line, split_special_tokens=True, add_special_tokens=False).input_ids
        found.append(tuple(ids))
    return found


class LineTree:
    """What may follow a prompt if one of some lines does: a node for each token but the last one of a line.

    Args:
        lines: tokens of each line, one at least.
    """

    def __init__(self, lines: Sequence[tuple[int, ...]]) -> None:
        self.lines = lines
        begun = {line[:length] for line in lines for length in range(1, len(line))}
        self.nodes = sorted(begun, key=lambda node: (len(node), node))
        """[N], the tokens that lead to each node, itself included; what leads to a node stands before it"""
        places = {node: place for place, node in enumerate(self.nodes, start=1)} | {(): 0}
        self.steps = [[(places[line[:length]], line[length]) for length in range(len(line))] for line in lines]
        """for each line, where each of its tokens is read from (0: the prompt's end, k: node k - 1), and the token"""

    def mask(self) -> torch.Tensor:
        """[N, N], 0 where a node (row) sees another (column), -inf elsewhere: it sees itself and what leads to it."""
        sees = [[node[: len(other)] == other for other in self.nodes] for node in self.nodes]
        hidden = ~torch.tensor(sees, dtype=torch.bool).view(len(self.nodes), len(self.nodes))
        return torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))

    def log_probs(self, logits: torch.Tensor) -> list[float]:
        """Of each line, from the logits [1 + N, V] at the prompt's end and at the nodes."""
        # in single precision: in double this sum over the vocabulary took longer than a small model
        normaliser = logits.float().logsumexp(dim=-1).double()
        places, tokens = (
            torch.tensor([step[part] for line in self.steps for step in line], device=logits.device) for part in (0, 1)
        )
        each = (logits[places, tokens].double() - normaliser[places]).tolist()
        found, start = [], 0
        for line in self.steps:
            found.append(sum(each[start : start + len(line)]))
            start += len(line)
        return found
