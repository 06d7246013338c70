"""How differently a judge scores two answers in one order and in the other, as a term of the loss.

What is compared are the probabilities of all score lines after the prompt, mirrored for one of the orders. A judge may
well find that "8 6" and "6 8" are both likely, so the scores of one answer alone, or given the other score of one
line, say nothing about the swap: whole lines do.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from judgelm.criteria import PUBLISHED, Scale
from judgelm.distribution import MOST_LINES, line_text, score_lines
from judgelm.engine.hf.line_tree import LineTree
from judgelm.engine.score_line import line_tokens
from judgelm.errors import InputError
from judgelm.train.encoder import score_line_end
from judgelm.train.rows import TrainingRows
from judgelm.train.sample import TrainingSample, Variant

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Comparisons = Sequence[tuple[Scale, Int[Tensor, "pairs 2 places"]]]
"""for each scale, the places among the logits at which both orders of its pairs are read: prompt's end, then nodes"""


def find_compared_scale(variant: Variant) -> Scale | None:
    """The scale on which a row's scores are compared between both orders.

    None where they are not: for a single answer, where the scores do not stand right behind the prompt, and for a scale
    with more lines than are read at once.
    """
    scale = variant.aspect.scale if variant.aspect else PUBLISHED
    if len(variant.sample.answers) != 2 or len(scale.scores) ** 2 > MOST_LINES:
        return None
    return scale if score_line_end(variant) else None


class ScoreTree:
    """All lines of two scores behind a prompt, as tokens that are read beside the judgement.

    Each line goes on to where it differs from all others. Raises ValueError where two of them have the same tokens.
    """

    def __init__(self, scale: Scale, tokenizer: PreTrainedTokenizerBase) -> None:
        lines = score_lines(scale=scale)
        tree = LineTree(_cut(line_tokens([line_text(line) for line in lines], "", tokenizer)))
        self.tokens = torch.tensor([node[-1] for node in tree.nodes], dtype=torch.long)
        """[N], one a node"""
        self.depths = torch.tensor([len(node) for node in tree.nodes], dtype=torch.long)
        """[N], from 1 on: tokens from the prompt's end to the node"""
        self.sees = tree.mask() == 0
        """[N, N]"""
        longest = max(map(len, tree.steps))
        filled = [[*steps, *[(0, -1)] * (longest - len(steps))] for steps in tree.steps]
        self._steps = torch.tensor(filled).permute(2, 0, 1)
        """[2, lines, longest]: where each token of a line is read from, and the token; -1 behind its end"""
        numbers = {line: number for number, line in enumerate(lines)}
        self._mirrored = torch.tensor([numbers[second, first] for first, second in lines])
        """[lines], the number of each line with its scores exchanged"""

    def divergences(
        self, logits: Float[Tensor, "K V"], places: Int[Tensor, "pairs 2 places"]
    ) -> Float[Tensor, " pairs"]:
        """Jensen-Shannon divergence of each pair's orders: 0 where they say the same, ln 2 at most."""
        first, second = self._log_shares(logits[places]).unbind(1)
        second = second[:, self._mirrored.to(second.device)]
        middle = torch.logaddexp(first, second) - math.log(2)
        found: Tensor = 0.5 * (first.exp() * (first - middle) + second.exp() * (second - middle)).sum(dim=-1)
        return found

    def _log_shares(self, logits: Float[Tensor, "pairs 2 places V"]) -> Float[Tensor, "pairs 2 lines"]:
        """Of each line, the logarithm of its share of all lines."""
        logits = logits.float()
        places, tokens = self._steps.to(logits.device)
        known = tokens >= 0
        each = logits[:, :, places, tokens.clamp(min=0)] - logits.logsumexp(dim=-1)[:, :, places]
        found: Tensor = (each * known).sum(dim=-1).log_softmax(dim=-1)
        return found


def _cut(lines: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Each line as far as no other begins alike: "8 1" goes on in "8 10", so its newline counts; that of "8 7" not."""
    begun = Counter(line[:length] for line in lines for length in range(1, len(line) + 1))
    found = []
    for line in lines:
        length = next((n for n in range(1, len(line) + 1) if begun[line[:n]] == 1), None)
        if length is None:
            raise ValueError("two score lines have the same tokens")
        found.append(line[:length])
    return found


def plant_trees(sets: Sequence[TrainingRows], tokenizer: PreTrainedTokenizerBase) -> tuple[dict[Scale, ScoreTree], str]:
    """The trees of all scales in the rows, and a line on how many of the first set's are compared.

    Raises InputError where none of these is, and for a tokenizer that cannot write score lines.
    """
    scales = [Counter(_find_scale(rows[row]) for row in range(len(rows))) for rows in sets]
    trained, num = sets[0], len(sets[0])
    compared = num - scales[0][None]
    line = f"{compared} of {num} rows have two answers and scores that come first"
    if not compared:
        raise InputError(f"--swap_consistency: {trained.lines.path}: {line}, so there is nothing to compare")
    trees = {}
    for scale in set().union(*scales):
        if scale is None:
            continue
        try:
            trees[scale] = ScoreTree(scale, tokenizer)
        except ValueError:
            raise InputError(
                f"--swap_consistency: the tokenizer cannot write score lines, two of those from {scale} are alike"
            ) from None
    return trees, f"swap consistency: {line}"


def _find_scale(row: TrainingSample) -> Scale | None:
    """On which a row is compared as it is shown, or would be with its reference."""
    found = (find_compared_scale(row.shown(with_reference=each)) for each in row.references)
    return next((scale for scale in found if scale is not None), None)


class SwapTerm:
    """The term of the loss: `weight` times the mean divergence of the global batch's pairs; and the mean for the log.

    Args:
        trees: of each scale in the rows.
    """

    def __init__(self, weight: float, trees: dict[Scale, ScoreTree]) -> None:
        self.weight = weight
        self.trees = trees
        self.num_pairs: Tensor | None = None
        """in the global batch; None where each batch stands alone"""
        self._sums: dict[bool, Tensor] = {}
        """in training or not: [2], sum and number of divergences"""

    def __call__(self, logits: Float[Tensor, "1 K V"], comparisons: Comparisons, training: bool) -> Float[Tensor, ""]:
        """This batch's part of the term, from the logits at all positions that were kept."""
        found = [self.trees[scale].divergences(logits[0], places) for scale, places in comparisons]
        divergences = torch.cat(found) if found else torch.zeros(0, device=logits.device)
        num = torch.tensor(len(divergences), device=logits.device)
        own = torch.stack([divergences.detach().sum(), num.float()])
        self._sums[training] = self._sums[training] + own if training in self._sums else own
        if training and self.num_pairs is not None:
            num = self.num_pairs
        return self.weight * divergences.sum() / num.clamp(min=1)

    def take(self, training: bool, device: torch.device) -> Float[Tensor, " 2"]:
        """Sum and number of the divergences since they were taken last."""
        return self._sums.pop(training, torch.zeros(2)).to(device)


def count_pairs(comparisons: Comparisons) -> int:
    """How many rows are compared."""
    return sum(len(places) for _, places in comparisons)
