"""Ways of causal attention on a CPU, interleaved in one run: by them `judgelm.engine.hf.attention` chooses.

    python -m benchmarks.attention --output benchmarks/attention.json

A machine without AVX512 is imitated with ATEN_CPU_CAPABILITY=avx2 and ONEDNN_MAX_CPU_ISA=AVX2 in the environment; the
report says what was set. What is measured is one layer's attention over one prompt, or over the last part of one whose
beginning is shared and was read before: the time that one thread computes, so that other work here counts little.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.provenance import current_commit, this_machine
from benchmarks.turns import core_milliseconds
from judgelm.engine.hf.attention import _causal_by_torch, _causal_in_blocks
from judgelm.files import write_text
from judgelm.judge.description import versions
from judgelm.models.devices import keep_freed_memory

SHAPES = {"135M": (9, 3, 64), "7B": (32, 8, 128)}
"""query heads, key heads and their width, as models of these sizes have them"""
LENGTHS = (50, 100, 200, 300, 500, 730, 1000, 1500, 2000)
SHARED = (0.0, 0.5, 0.9)
"""parts of a prompt that were read before"""
_SET = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")


def repeated(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """torch's own, each query head with keys of its own."""
    groups = query.shape[0] // key.shape[0]
    return _causal_by_torch(query, key.repeat_interleave(groups, 0), value.repeat_interleave(groups, 0))


WAYS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "blocks": _causal_in_blocks,
    "torch": _causal_by_torch,
    "torch_repeated": repeated,
}


@torch.inference_mode()
def measure(
    shape: tuple[int, int, int], length: int, shared: float, dtype: torch.dtype, rounds: int
) -> dict[str, float]:
    """Median milliseconds of a core that each way takes."""
    heads, kv_heads, width = shape
    count = max(1, round(length * (1 - shared)))
    # as a layer has them: a token's heads side by side
    query, key, value = (
        torch.randn(num, of, width).to(dtype).transpose(0, 1)
        for num, of in ((count, heads), (length, kv_heads), (length, kv_heads))
    )
    query = query * width**-0.5
    return core_milliseconds({name: partial(way, query, key, value) for name, way in WAYS.items()}, rounds)


def main() -> None:
    """Measure, then write raw numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], metavar="DTYPE")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=tuple(SHAPES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", required=True, help="raw numbers, JSON")
    args = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    found = []
    for dtype in args.dtypes:
        for shape in args.shapes:
            for shared in SHARED:
                for length in LENGTHS:
                    milliseconds = measure(SHAPES[shape], length, shared, getattr(torch, dtype), args.rounds)
                    found.append({"dtype": dtype, "shape": shape, "shared": shared, "length": length, **milliseconds})
                    print(found[-1], flush=True)
    commit = current_commit()
    report = {
        "command": f"python -m benchmarks.attention {' '.join(sys.argv[1:])}",
        "commit": commit,
        "versions": versions(),
        "machine": {**this_machine(), "threads": torch.get_num_threads()},
        "capabilities": {name: value for name, value in torch.cpu.get_capabilities().items() if value is True},
        "environment": {name: os.environ[name] for name in _SET if name in os.environ},
        "rounds": args.rounds,
        "median_ms_of_one_core": found,
    }
    write_text(args.output, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
