"""All score lines as a tree behind a prompt, so that one forward pass gives the probability of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from judgelm.engine.hf.attention import LinesPass
from judgelm.engine.hf.packed import forward_packed, tree_kinds
from judgelm.engine.hf.rope import LengthRope
from judgelm.engine.hf.tree import Tree
from judgelm.engine.interface import LineScores, Request

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LineTree:
    """What may follow a prompt if one of some lines does: a node for each token but the last one of a line.

    Args:
        lines: tokens of each line, one at least.
    """

    def __init__(self, lines: Sequence[tuple[int, ...]]) -> None:
        begun = {line[:length] for line in lines for length in range(1, len(line))}
        self.nodes = sorted(begun, key=lambda node: (len(node), node))
        """[N], the tokens that lead to each node, itself included; what leads to a node stands before it"""
        places = {node: place for place, node in enumerate(self.nodes, start=1)} | {(): 0}
        self.steps = [[(places[line[:length]], line[length]) for length in range(len(line))] for line in lines]
        """for each line, where each of its tokens is read from (0: the prompt's end, k: node k - 1), and the token"""

    def mask(self) -> Float[Tensor, "N N"]:
        """0 where a node (row) sees another (column), -inf elsewhere: it sees itself and what leads to it."""
        sees = [[node[: len(other)] == other for other in self.nodes] for node in self.nodes]
        hidden = ~torch.tensor(sees, dtype=torch.bool).view(len(self.nodes), len(self.nodes))
        return torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))

    def log_probs(self, logits: Float[Tensor, "places V"]) -> list[float]:
        """Of each line, from the logits at the prompt's end and at the N nodes."""
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


@torch.inference_mode()
def score_prompts(
    model: PreTrainedModel, rope: LengthRope, requests: Sequence[Request], tree: LineTree
) -> list[LineScores]:
    """The probability of each of the tree's lines after each prompt, in one forward pass."""
    depths = [0, *map(len, tree.nodes)]
    kinds = [
        [rope.kind_of_prompt(len(request.input_ids), len(request.input_ids) + depth) for depth in depths]
        for request in requests
    ]
    # a prompt that grows over a border of its rope is read once on each side
    lengths = [
        {kind: len(request.input_ids) + depth for kind, depth in zip(own, depths, strict=True)}
        for request, own in zip(requests, kinds, strict=True)
    ]
    texts = [(request.input_ids, n) for request, own in zip(requests, lengths, strict=True) for n in own.values()]
    parts = _branch_logits(model, rope, texts, tree)
    found = []
    for request, own, needed in zip(requests, lengths, kinds, strict=True):
        sides = dict(zip(own, parts, strict=False))
        logits = next(iter(sides.values()))
        if len(sides) > 1:
            logits = torch.stack([sides[kind][place] for place, kind in enumerate(needed)])
        found.append(LineScores(request.key, tuple(tree.log_probs(logits)), len(request.input_ids)))
    return found


def _branch_logits(
    model: PreTrainedModel, rope: LengthRope, texts: Sequence[tuple[list[int], int]], tree: LineTree
) -> Iterator[Float[Tensor, "places V"]]:
    """Of each prompt, with the length that its text will have, the logits at its end and at the nodes."""
    device = model.get_input_embeddings().weight.device
    nums, lengths = [len(ids) for ids, _ in texts], [length for _, length in texts]
    kinds = [rope.kind_of_prompt(num, length) for num, length in zip(nums, lengths, strict=True)]
    prompts = Tree([ids for ids, _ in texts], kinds=kinds)
    input_ids, positions, places = list(prompts.input_ids), list(prompts.position_ids), []
    token_kinds = tree_kinds(rope, prompts, nums, lengths)
    for num, length, leaf in zip(nums, lengths, prompts.leaves, strict=True):
        begin = len(input_ids)
        places += [leaf.end - 1, *range(begin, begin + len(tree.nodes))]
        input_ids += [node[-1] for node in tree.nodes]
        following = [num + len(node) - 1 for node in tree.nodes]
        positions += following
        token_kinds += rope.kinds(num, length, following)
    ids, at, ends = (torch.tensor(numbers, device=device) for numbers in (input_ids, positions, places))
    with rope.using([token_kinds]):
        logits = forward_packed(model, ids, at, ends, LinesPass(prompts, tree.mask()))
    return iter(logits.chunk(len(texts)))
