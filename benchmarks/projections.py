"""Projections of a layer that read the same input, as several products and as one, interleaved in one run.

    python -m benchmarks.projections --output benchmarks/projections.json

Queries, keys and values, and the two halves of an MLP, in the shapes of SmolLM2-135M, for one token up to whole
prompts: the time that one thread computes. By it the engine leaves a model's projections as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

from benchmarks.provenance import current_commit, this_machine
from benchmarks.turns import core_milliseconds
from judgelm.files import write_text
from judgelm.judge.description import versions
from judgelm.models.devices import keep_freed_memory

HIDDEN = 576
PARTS = {"queries, keys, values": (576, 192, 192), "halves of the MLP": (1536, 1536)}
"""outputs of the products"""
TOKENS = (1, 8, 16, 32, 640, 4096)
_LEAST_TOKENS = 4096
"""read in each measurement, so that it lasts"""


@torch.inference_mode()
def measure(sizes: tuple[int, ...], tokens: int, dtype: torch.dtype, rounds: int) -> dict[str, float]:
    """Median milliseconds of a core for one input, by several products and by one, whose outputs are parts of it."""
    states = torch.randn(tokens, HIDDEN).to(dtype)
    weights = [torch.randn(size, HIDDEN).to(dtype) for size in sizes]
    together = torch.cat(weights)
    ways: dict[str, Callable[[], list[Tensor]]] = {
        "several": lambda: [linear(states, weight) for weight in weights],
        "one": lambda: list(torch.split(linear(states, together), list(sizes), dim=-1)),
    }
    return core_milliseconds(ways, rounds, times=-(-_LEAST_TOKENS // tokens))


def main() -> None:
    """Measure, then write raw numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], metavar="DTYPE")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", required=True, help="raw numbers, JSON")
    args = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    found = []
    for dtype in args.dtypes:
        for name, sizes in PARTS.items():
            for tokens in TOKENS:
                milliseconds = measure(sizes, tokens, getattr(torch, dtype), args.rounds)
                found.append({"dtype": dtype, "projections": name, "tokens": tokens, **milliseconds})
                print(found[-1], flush=True)
    report = {
        "command": f"python -m benchmarks.projections {' '.join(sys.argv[1:])}",
        "commit": current_commit(),
        "versions": versions(),
        "machine": {**this_machine(), "threads": torch.get_num_threads()},
        "rounds": args.rounds,
        "median_ms_of_one_core": found,
    }
    write_text(args.output, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
