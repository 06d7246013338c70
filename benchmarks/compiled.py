"""What compiling parts of the layers saves, against the model as it is, in turns.

    python -m benchmarks.compiled --data examples/pairs.jsonl --output benchmarks/compiled.json

One process on one thread holds the model twice. What counts is the time that it computes, not what passes, so that
other work of the machine counts little: reading prompts, and writing on, a token of each row a step.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import torch

from benchmarks.provenance import current_commit, this_machine
from judgelm import Judge
from judgelm.encoding import encode_prompt
from judgelm.engine.hf.engine import HFEngine
from judgelm.engine.interface import Request, Sampling
from judgelm.files import write_text
from judgelm.judge.description import versions
from judgelm.samples import read_samples


def seconds(work: Callable[[], None]) -> float:
    """Of computing, those of processes that were started included."""
    before = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    work()
    after = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in zip(before, after, strict=True))


def measure(engine: HFEngine, asked: list[Request], steps: int) -> tuple[float, float]:
    """Seconds for the prompts, and for each step after them."""
    batch = engine.open_batch(mixed=True)
    rows = [engine.start(request, Sampling(max_new_tokens=10 * steps)) for request in asked]

    def read() -> None:
        for row in rows:
            batch.join([row])

    reading = seconds(read)
    each = []
    for _ in range(steps):
        start = time.process_time()
        batch.step()
        each.append(time.process_time() - start)
    return reading, statistics.median(each)


def main() -> None:
    """Measure, then write raw numbers and the ratios of medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="judge samples")
    parser.add_argument("--model", default="tiny-base")
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"], metavar="DTYPE")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", required=True, help="raw numbers and summary, JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for dtype in args.dtypes:
        engines = {name: Judge.load(args.model, dtype=dtype, device="cpu", constrained=False).engine for name in "ab"}
        plain, compiled = engines["a"], engines["b"]
        assert isinstance(plain, HFEngine)
        assert isinstance(compiled, HFEngine)
        prompts = [encode_prompt(each, "pair", plain.tokenizer, 1500) for each in read_samples(args.data)[: args.rows]]
        asked = [Request(str(k), each.text, each.input_ids) for k, each in enumerate(prompts)]
        with tempfile.TemporaryDirectory() as empty:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = empty
            compiling = seconds(compiled.parts.compile)
        ways: dict[str, HFEngine] = {"eager": plain, "compiled": compiled}
        raw: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for turn in range(args.rounds + 1):
            for name, engine in ways.items():
                once = measure(engine, asked, args.steps)
                if turn:
                    raw[name].append(once)
                print(dtype, turn, name, [round(each, 4) for each in once], flush=True)
        medians = {
            name: [statistics.median(column) for column in zip(*runs, strict=True)] for name, runs in raw.items()
        }
        found[dtype] = {
            "compile_cpu_seconds": compiling,
            "compiled": compiled.description["compiled"],
            "prompt_tokens": sum(len(request.input_ids) for request in asked),
            "reading_s_and_step_s": raw,
            "eager_to_compiled": [a / b for a, b in zip(medians["eager"], medians["compiled"], strict=True)],
        }
        print(dtype, found[dtype]["eager_to_compiled"], compiling, flush=True)
    commit = current_commit()
    report = {
        "command": f"python -m benchmarks.compiled {' '.join(sys.argv[1:])}",
        "commit": commit,
        "versions": versions(),
        "machine": {**this_machine(), "threads": torch.get_num_threads()},
        "capabilities": {name: value for name, value in torch.cpu.get_capabilities().items() if value is True},
        "rows": args.rows,
        "found": found,
    }
    write_text(args.output, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
