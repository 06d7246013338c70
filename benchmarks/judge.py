"""Batched judging against a one-by-one `generate` loop, interleaved in one run.

    python -m benchmarks.judge --data DATA.jsonl --output benchmarks/judge_scores.json --modes scores

Each way of working is a process of its own (so that peak memory is its own); the two take turns, a block of prompts at
a time, so that noise of the machine meets both. Same weights, same data type, greedy, the same constrained score line.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import resource
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from judgelm.jsonl import read_lines, write_text
from judgelm.llm_judge.run import versions
from judgelm.sample import Sample

MODES = {"scores": (True, 64), "reasons": (False, 256)}
"""mode -> (scores only, most new tokens)"""
MAX_PROMPT_TOKENS = 1000


@dataclass
class Block:
    """One block of prompts, judged one way."""

    seconds: float
    samples: int
    prompt_tokens: int
    new_tokens: int
    peak_memory_mib: int


def pick_samples(path: str, count: int) -> list[Sample]:
    """`count` samples drawn by a fixed seed whose prompts are not longer than MAX_PROMPT_TOKENS."""
    from transformers import AutoTokenizer

    from judgelm.prompt import render_prompt
    from judgelm.tiny import tiny_folder

    tokenizer = AutoTokenizer.from_pretrained(tiny_folder())
    lines = list(read_lines(path))
    random.Random(0).shuffle(lines)
    chosen: list[Sample] = []
    for line in lines:
        record = {**line.record, "question_id": len(chosen)}
        sample = Sample.from_record(record)
        if len(tokenizer(render_prompt(sample)).input_ids) <= MAX_PROMPT_TOKENS:
            chosen.append(sample)
        if len(chosen) == count:
            break
    return chosen


def batched(judge: Any, samples: list[Sample], scores_only: bool, most: int) -> tuple[int, int]:
    """Ours: the hf engine as `judgelm judge` runs it."""
    from judgelm.llm_judge.judge import JudgeSettings

    settings = JudgeSettings("pair", scores_only, 0.0, most, 0, True)
    done = [j.generation for j in judge.run(samples, ["forward"], settings) if j.generation]
    return sum(g.num_prompt_tokens for g in done), sum(g.num_tokens for g in done)


def one_by_one(judge: Any, samples: list[Sample], scores_only: bool, most: int) -> tuple[int, int]:
    """The published way: a prompt at a time, text decoded and searched for the stop string at every step."""
    import torch
    from transformers import LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

    from judgelm.engine.score_line import ScoreLineProcessor, score_pieces
    from judgelm.prompt import render_prompt

    model, tokenizer = judge.engine.model, judge.engine.tokenizer
    pieces = score_pieces(tokenizer)
    stop = "\n" if scores_only else "</s>"

    class Stop(StoppingCriteria):
        def __init__(self, start: int) -> None:
            self.start = start

        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> bool:
            return stop in tokenizer.decode(input_ids[0, self.start :], skip_special_tokens=True)

    prompt_tokens = new_tokens = 0
    for sample in samples:
        ids = torch.tensor([tokenizer(render_prompt(sample)).input_ids])
        with torch.inference_mode():
            output = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=most,
                logits_processor=LogitsProcessorList([ScoreLineProcessor(pieces, [""], [2], ids.shape[1])]),
                stopping_criteria=StoppingCriteriaList([Stop(ids.shape[1])]),
            )
        prompt_tokens += ids.shape[1]
        new_tokens += output.shape[1] - ids.shape[1]
    return prompt_tokens, new_tokens


WAYS = {"one_by_one": one_by_one, "batched": batched}


def worker(connection: Connection, way: str, mode: str, dtype: str) -> None:
    """Load the model, then judge each block that comes and answer with its Block."""
    from judgelm import Judge

    judge = Judge.load("tiny", dtype=dtype)
    scores_only, most = MODES[mode]
    warm_up = [Sample(0, "What is 2 + 2?", ("4", "5"))]
    WAYS[way](judge, warm_up, scores_only, min(most, 16))
    connection.send("ready")
    while samples := connection.recv():
        start = time.perf_counter()
        prompt_tokens, new_tokens = WAYS[way](judge, samples, scores_only, most)
        seconds = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        connection.send(Block(seconds, len(samples), prompt_tokens, new_tokens, memory))


def matmul_peak(dtype: str, size: int = 2048, repeats: int = 20) -> float:
    """The best FLOP/s of a square matrix product here."""
    import torch

    a = torch.randn(size, size).to(getattr(torch, dtype))
    best = 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        a @ a
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def useful_flops(block: Block) -> float:
    """Floating point operations SmolLM2-135M needs: matrices, causal attention, a row of logits a new token."""
    hidden, layers, inner, kv, vocabulary = 576, 30, 1536, 192, 49152
    matrices = layers * (2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * inner)
    tokens = block.prompt_tokens + block.new_tokens
    length = tokens / block.samples
    attention = layers * 2 * hidden * length * tokens
    return 2 * matrices * tokens + attention + 2 * hidden * vocabulary * block.new_tokens


def summarise(blocks: list[Block], peak: float) -> dict[str, float]:
    """Totals over all blocks of one way in one mode."""
    seconds = sum(b.seconds for b in blocks)
    return {
        "samples_per_s": sum(b.samples for b in blocks) / seconds,
        "prompt_tokens_per_s": sum(b.prompt_tokens for b in blocks) / seconds,
        "new_tokens_per_s": sum(b.new_tokens for b in blocks) / seconds,
        "peak_memory_mib": max(b.peak_memory_mib for b in blocks),
        "share_of_matmul_peak": sum(map(useful_flops, blocks)) / seconds / peak,
        "seconds": seconds,
    }


def measure(mode: str, samples: list[Sample], block: int, dtype: str) -> Iterator[dict[str, list[Block]]]:
    """Both ways over all samples, a block each in turn; yields all there is after each turn."""
    context = multiprocessing.get_context("spawn")
    ends: dict[str, Connection] = {}
    for way in WAYS:
        ends[way], theirs = context.Pipe()
        context.Process(target=worker, args=(theirs, way, mode, dtype), daemon=True).start()
        ends[way].recv()
    blocks: dict[str, list[Block]] = {way: [] for way in WAYS}
    for start in range(0, len(samples), block):
        for way, end in ends.items():
            end.send(samples[start : start + block])
            blocks[way].append(end.recv())
            print(mode, way, f"{start + block}/{len(samples)}", f"{blocks[way][-1].seconds:.1f} s", flush=True)
        yield blocks
    for end in ends.values():
        end.send(None)


def main() -> None:
    """Measure, then write raw numbers and summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="JSON Lines with question_body, answer1_body, answer2_body")
    parser.add_argument("--output", required=True, help="raw numbers and summary, JSON")
    parser.add_argument("--num-prompts", type=int, default=200)
    parser.add_argument("--block", type=int, default=20, help="prompts before the other way takes its turn")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    args = parser.parse_args()
    samples = pick_samples(args.data, args.num_prompts)
    settings = f"--num-prompts {args.num_prompts} --block {args.block} --dtype {args.dtype}"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    report: dict[str, Any] = {
        "command": f"python -m benchmarks.judge {settings}",
        "commit": commit,
        "versions": versions(),
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
        "matmul_peak_flops": [],
        "modes": {},
    }
    for mode in args.modes:
        for blocks in measure(mode, samples, args.block, args.dtype):
            # the processor's speed changes with what else the host does: the peak is taken again after every turn
            report["matmul_peak_flops"].append(matmul_peak(args.dtype))
            peak = statistics.median(report["matmul_peak_flops"])
            summary = {way: summarise(found, peak) for way, found in blocks.items()}
            judged = sum(b.samples for b in blocks["batched"])
            report["modes"][mode] = {
                "prompts": judged,
                "mean_prompt_tokens": sum(b.prompt_tokens for b in blocks["batched"]) / judged,
                "summary": summary,
                "ratio_samples_per_s": summary["batched"]["samples_per_s"] / summary["one_by_one"]["samples_per_s"],
                "blocks": {way: [asdict(b) for b in found] for way, found in blocks.items()},
            }
            write_text(Path(args.output), json.dumps(report, indent=1) + "\n")
    print(json.dumps({mode: part["summary"] for mode, part in report["modes"].items()}, indent=2))


if __name__ == "__main__":
    main()
