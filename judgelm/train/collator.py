"""Examples -> one batch, with a label for each target."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from judgelm.criteria import Scale
from judgelm.train.attention import Branch
from judgelm.train.consistency import ScoreTree
from judgelm.train.encoder import EncodedExample
from judgelm.train.examples import BothExamples

IGNORED = -100
"""label of a token that is not learnt"""


@dataclass(frozen=True, slots=True)
class Collator:
    """Examples -> one batch for a causal language model.

    `labels` [B, K] are already shifted and stand beside `logits_to_keep` [K], the positions whose logits predict them:
    the prompt's logits are never computed. Where the model cannot leave logits out, K = T.
    """

    pad: int
    packing: bool = False
    """one row [1, T] of all examples, each with its own positions and attending to itself alone, without padding"""
    narrow: bool = True
    """whether the model's forward takes `logits_to_keep`"""
    score_weight: float = 1.0
    """of the score line's tokens in the loss"""

    def __call__(self, examples: Sequence[EncodedExample]) -> dict[str, Any]:
        ids, labels, is_score = zip(*map(_to_tensors, examples), strict=True)
        if self.packing:
            batch = _borders([len(each) for each in ids]) | {"input_ids": torch.cat(ids)[None]}
            return batch | self.targets(torch.cat(labels)[None], torch.cat(is_score)[None])
        # no mask: padding stands on the right, where a causal model never looks from a real token
        batch = {"input_ids": pad_sequence(list(ids), batch_first=True, padding_value=self.pad)}
        padded = pad_sequence(list(labels), batch_first=True, padding_value=IGNORED)
        return batch | self.targets(padded, pad_sequence(list(is_score), batch_first=True))

    def targets(
        self, labels: Int[Tensor, "B T"], is_score: Bool[Tensor, "B T"], num_read: int = 0
    ) -> dict[str, Tensor]:
        """The labels where logits are computed: where there are targets, and at so many last positions besides."""
        batch = {"labels": labels}
        if self.narrow:
            needed = (labels != IGNORED).any(dim=0)
            needed[len(needed) - num_read :] = True
            kept = needed.nonzero().flatten()
            batch = {"labels": labels[:, kept], "logits_to_keep": kept}
            is_score = is_score[:, kept]
        if self.score_weight != 1.0:
            batch["loss_weights"] = torch.where(is_score, self.score_weight, 1.0)
        return batch


@dataclass(frozen=True, slots=True)
class PairCollator:
    """Rows in both orders -> one packed batch, behind whose examples the trees of score lines stand.

    Beside what a packing `Collator` gives there are `branches`, which prompt each tree follows; `comparisons`, where
    the logits of both orders of a pair stand; and `is_second` [1, K], whether a target is of the exchanged order.
    """

    collator: Collator
    trees: Mapping[Scale, ScoreTree]

    def __call__(self, rows: Sequence[BothExamples]) -> dict[str, Any]:
        examples = [example for row in rows for example in row.examples]
        ids, labels, is_score = zip(*map(_to_tensors, examples), strict=True)
        batch = _borders([len(each) for each in ids])
        forest = self._plant(rows, batch["cu_seq_lens_q"].tolist())
        behind = sum(map(len, forest.tokens))
        batch["input_ids"] = torch.cat([*ids, *forest.tokens])[None]
        batch["position_ids"] = torch.cat([batch["position_ids"][0], *forest.positions])[None]
        batch["branches"] = forest.branches
        targets = self.collator.targets(
            pad(torch.cat(labels)[None], (0, behind), value=IGNORED),
            pad(torch.cat(is_score)[None], (0, behind)),
            behind,
        )
        seconds = [n > 0 for row in rows for n in range(len(row.examples))]
        is_second = torch.tensor(seconds).repeat_interleave(torch.tensor([len(each) for each in ids]))
        is_second = pad(is_second, (0, behind))
        kept = targets.get("logits_to_keep", torch.arange(len(is_second)))
        batch["is_second"] = is_second[kept][None]
        batch["comparisons"] = [
            (scale, torch.searchsorted(kept, torch.stack(pairs))) for scale, pairs in forest.places.items()
        ]
        return batch | targets

    def _plant(self, rows: Sequence[BothExamples], borders: Sequence[int]) -> _Forest:
        """A tree for each order of the rows that are compared."""
        forest, begins, end = _Forest(), iter(borders), borders[-1]
        for row in rows:
            read = []
            for example, begin in zip(row.examples, begins, strict=False):
                if row.scale is None:
                    continue
                tree, prompt_end = self.trees[row.scale], begin + example.num_prompt
                forest.tokens.append(tree.tokens)
                forest.positions.append(example.num_prompt - 1 + tree.depths)
                forest.branches.append((begin, prompt_end, tree.sees))
                read.append(torch.tensor([prompt_end - 1, *range(end, end + len(tree.tokens))]))
                end += len(tree.tokens)
            if row.scale is not None:
                forest.places[row.scale].append(torch.stack(read))
        return forest


@dataclass(frozen=True, slots=True)
class _Forest:
    """The trees of a batch, in the order in which they stand."""

    tokens: list[Int[Tensor, " N"]] = field(default_factory=list)
    positions: list[Int[Tensor, " N"]] = field(default_factory=list)
    branches: list[Branch] = field(default_factory=list)
    places: dict[Scale, list[Int[Tensor, "2 places"]]] = field(default_factory=lambda: defaultdict(list))
    """for each pair, where both orders are read in the packed row: at the prompt's end, then at the nodes"""


def _borders(lengths: Sequence[int]) -> dict[str, Any]:
    """Where packed examples begin and end, under the names that transformers' flash attention takes."""
    ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
    return {
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        **{"cu_seq_lens_q": ends, "cu_seq_lens_k": ends},
        **{"max_length_q": max(lengths), "max_length_k": max(lengths)},
    }


def _to_tensors(example: EncodedExample) -> tuple[Int[Tensor, " T"], Int[Tensor, " T"], Bool[Tensor, " T"]]:
    """Token ids, and for each position the token to be predicted there and whether it belongs to the score line."""
    ids, first = torch.tensor(example.input_ids), example.num_prompt - 1
    labels, is_score = torch.full_like(ids, IGNORED), torch.zeros_like(ids, dtype=torch.bool)
    labels[first:-1] = ids[first + 1 :]
    is_score[first : first + example.num_score_line] = True
    return ids, labels, is_score
