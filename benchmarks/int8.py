"""What `--quantization` and prepacked weights cost and change: the embedded judge in several ways that take turns.

    python -m benchmarks.int8 --data PAIRS.jsonl --output benchmarks/int8.json
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 python -m benchmarks.int8 ..

The second line is a processor without AVX512-bf16, played by one that has it. Scores only, greedy; `--dtype` is that of
both, and of the products of the one with 8 bits.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

from benchmarks.judge import pick_samples
from benchmarks.provenance import current_commit, this_machine
from judgelm import Judge, Sample
from judgelm.files import write_text
from judgelm.judge.description import versions
from judgelm.judge.settings import JudgeSettings
from judgelm.judgement import Outcome

_STORED = "stored"
WAYS: dict[str, tuple[str | None, str]] = {
    "whole": (None, "off"),
    _STORED: (None, "off"),
    "int8": ("int8", "off"),
    "int8_dynamic": ("int8_dynamic", "off"),
    "compiled": ("int8_dynamic", "on"),
}
"""`--quantization` and `--compile`; `stored`: with weights as they lie in the file, not as oneDNN reads them"""
_ISA = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")


def judge_block(judge: Judge, samples: list[Sample]) -> tuple[float, dict[str, Outcome | None]]:
    """Seconds, and the outcome of each sample by its key. Raises SystemExit where one is there twice."""
    settings = JudgeSettings(scores_only=True, scoring="greedy", temperature=0.0).settled(judge.constrained, "plain")
    begin = time.perf_counter()
    found = {each.sample.key: each.judgement.outcome for each in judge.run(samples, ("forward",), settings)}
    seconds = time.perf_counter() - begin
    if len(found) < len(samples):
        raise SystemExit(f"{len(samples)} samples are needed for a round, and there are {len(found)} that fit")
    return seconds, found


def main() -> None:
    """Measure, then write raw numbers and summary."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="JSON Lines with question_body, answer1_body, answer2_body")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--output", required=True, help="raw numbers and summary, JSON")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=tuple(WAYS), help="the first is compared with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--block", type=int, default=24, help="samples of a round")
    args = parser.parse_args()
    judges = {}
    for way in args.ways:
        quantization, kernels = WAYS[way]
        with patch("judgelm.engine.hf.engine.prepack") if way == _STORED else nullcontext():
            judges[way] = Judge.load(
                args.model, dtype=args.dtype, device="cpu", quantization=quantization, compile=kernels
            )
    first, *others = args.ways
    tokenizer = judges[first].engine.tokenizer  # type: ignore[attr-defined]
    samples = pick_samples(args.data, args.rounds * args.block, tokenizer)
    seconds: dict[str, list[float]] = {way: [] for way in judges}
    outcomes: dict[str, dict[str, Outcome | None]] = {way: {} for way in judges}
    for judge in judges.values():
        judge_block(judge, samples[:2])
    for turn in range(args.rounds):
        for way, judge in judges.items():
            took, found = judge_block(judge, samples[turn * args.block : (turn + 1) * args.block])
            seconds[way].append(took)
            outcomes[way] |= found
            print(f"{turn + 1}/{args.rounds} {way}: {args.block / took:.3f} samples/s", flush=True)
    same = {way: [outcome is outcomes[way][key] for key, outcome in outcomes[first].items()] for way in others}
    rates = {way: [args.block / took for took in taken] for way, taken in seconds.items()}
    commit = current_commit()
    machine = this_machine()
    report: dict[str, Any] = {
        "command": f"python -m benchmarks.int8 {' '.join(sys.argv[1:])}",
        "environment": {name: os.environ[name] for name in _ISA if name in os.environ},
        "commit": commit,
        "versions": versions(),
        "machine": {**machine, "torch": torch.backends.cpu.get_cpu_capability()},
        "samples": len(samples),
        "samples_per_s": {way: statistics.median(each) for way, each in rates.items()},
        "speed": {
            way: statistics.median(b / a for a, b in zip(rates[first], rates[way], strict=True)) for way in others
        },
        "same_outcomes": {way: sum(each) / len(each) for way, each in same.items()},
        "seconds": seconds,
    }
    write_text(args.output, json.dumps(report, indent=1) + "\n")
    print(json.dumps({name: report[name] for name in ("samples_per_s", "speed", "same_outcomes")}))


if __name__ == "__main__":
    main()
