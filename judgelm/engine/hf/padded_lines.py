"""The probability of each score line for models whose attention cannot be packed: lines as rows over a copied cache."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from judgelm.engine.hf.line_tree import LineTree
from judgelm.engine.hf.padded import forward_padded
from judgelm.engine.hf.rope import LengthRope
from judgelm.engine.interface import LineScores, Request

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_Node = tuple[int, ...]


@torch.inference_mode()
def score_prompt(
    model: PreTrainedModel, rope: LengthRope, request: Request, tree: LineTree, most_tokens: int
) -> LineScores:
    """The probability of each of the tree's lines after one prompt; at most so many tokens are kept at once."""
    num = len(request.input_ids)
    lengths = [num, *(num + len(node) for node in tree.nodes)]
    kinds = [rope.kind_of_prompt(num, length) for length in lengths]
    # a prompt that grows over a border of its rope is read once on each side
    longest = dict(zip(kinds, lengths, strict=True))
    together = max(1, most_tokens // max(lengths))
    sides = {
        kind: _node_logits(model, rope, request.input_ids, length, tree, together) for kind, length in longest.items()
    }
    logits = torch.stack([sides[kind][place] for place, kind in enumerate(kinds)])
    return LineScores(request.key, tuple(tree.log_probs(logits)), num)


def _node_logits(
    model: PreTrainedModel, rope: LengthRope, prompt: list[int], length: int, tree: LineTree, together: int
) -> list[Float[Tensor, " V"]]:
    """At the prompt's end and at the tree's nodes, for texts that grow to `length` tokens."""
    device = model.get_input_embeddings().weight.device
    cache, num = DynamicCache(config=model.config), len(prompt)

    def read(rows: Sequence[Sequence[int]], begin: int, kept: DynamicCache) -> Float[Tensor, "B V"]:
        ids = torch.tensor(rows, device=device)
        end = begin + ids.shape[1]
        positions = torch.arange(begin, end, device=device).expand(len(rows), -1)
        mask = torch.ones(len(rows), end, dtype=torch.long, device=device)
        kinds = [rope.kinds(num, length, range(begin, end))] * len(rows)
        return forward_padded(model, rope, ids, mask, positions, kept, kinds)

    found: dict[_Node, Float[Tensor, " V"]] = {(): read([prompt], 0, cache)[0]}
    begun = {node[:-1] for node in tree.nodes}
    paths = [node for node in tree.nodes if node not in begun]
    for start in range(0, len(paths), together):
        chunk = paths[start : start + together]
        copied = copy.deepcopy(cache)
        copied.reorder_cache(torch.zeros(len(chunk), dtype=torch.long))
        # a token at a time, as some layers remember no more than that beside their state
        for depth in range(max(map(len, chunk))):
            tokens = [[path[min(depth, len(path) - 1)]] for path in chunk]
            for path, logits in zip(chunk, read(tokens, num + depth, copied), strict=True):
                if depth < len(path):
                    found[path[: depth + 1]] = logits
    return [found[node] for node in [(), *tree.nodes]]
