"""Ways of judging against one another, interleaved in one run.

    judgelm merge --adapter tiny --output-dir build/tiny-merged
    python -m benchmarks.judge --data PAIRS.jsonl --model build/tiny-merged --output benchmarks/judge_scores.json

Each way is a process of its own (so that peak memory is its own, and vLLM, OpenVINO and llama.cpp can have
environments of their own); they take turns, a block of prompts at a time, so that noise of the machine meets all. Same
weights, greedy. See benchmarks/ways.py for what each way does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.made_up import SMOLLM2
from benchmarks.provenance import current_commit, this_machine
from benchmarks.ways import MODES
from judgelm.files import write_text
from judgelm.jsonl import read_lines
from judgelm.judge.description import versions
from judgelm.prompt import render_prompt
from judgelm.sample import Sample

ROOT = Path(__file__).resolve().parent.parent
MAX_PROMPT_TOKENS = 1000


@dataclass
class Block:
    """One block of prompts, judged one way."""

    samples: int
    prompts: int
    seconds: float
    prompt_tokens: int
    new_tokens: int
    peak_memory_mib: int


class Process:
    """A way of judging that waits for blocks.

    `name` is WAY, WAY:DTYPE or WAY:DTYPE:both, which is both orders; after an @ stands how many samples of each block
    it judges.
    """

    def __init__(self, name: str, model: str, mode: str, python: str) -> None:
        name, _, most = name.partition("@")
        way, dtype, orders = [*name.split(":"), "", ""][:3]
        self.most = int(most) if most else None
        self.name = name
        self.both = orders == "both"
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [python, "-m", "benchmarks.ways", way, model, dtype or "bfloat16", mode]
        start = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=ROOT
        )
        if self._read() != "ready":
            raise SystemExit(f"{name} did not start")
        self.start_s = time.perf_counter() - start
        print(f"{name}: ready after {self.start_s:.1f} s", flush=True)

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def judge(self, prompts: list[str]) -> Block:
        """Wait until the block is judged."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"prompts": prompts}) + "\n")
        self.process.stdin.flush()
        return Block(samples=len(prompts), prompts=len(prompts), **json.loads(self._read()))

    def end(self) -> None:
        """Let it go."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


def pick_samples(path: str, count: int, tokenizer: Any, least: int = 0, most: int = MAX_PROMPT_TOKENS) -> list[Sample]:
    """`count` samples drawn by a fixed seed whose prompts have `least` to `most` tokens; again from the start where
    there are fewer.
    """
    lines = list(read_lines(path))
    random.Random(0).shuffle(lines)
    chosen: list[Sample] = []
    for line in lines:
        sample = Sample.from_record({**line.record, "question_id": len(chosen)})
        if least <= len(tokenizer(render_prompt(sample)).input_ids) <= most:
            chosen.append(sample)
        if len(chosen) == count:
            return chosen
    if not chosen:
        raise SystemExit(f"{path}: no prompt has {least} to {most} tokens")
    return [chosen[k % len(chosen)] for k in range(count)]


def pick_all_pairs(path: str, count: int, tokenizer: Any, models: int) -> list[Sample]:
    """`count` samples, all pairs of `models` answers to each question, questions drawn by a fixed seed; answers so long
    that a prompt would have more than MAX_PROMPT_TOKENS are left out. Again from the start where there are fewer.
    """
    answers: dict[str, dict[str, None]] = {}
    for line in read_lines(path):
        sample = Sample.from_record({**line.record, "question_id": 0})
        answers.setdefault(sample.question, {}).update(dict.fromkeys(sample.answers))
    questions = sorted(answers)
    random.Random(0).shuffle(questions)
    chosen: list[Sample] = []
    for question in questions:
        fitting = [
            each for each in answers[question] if len(tokenizer(question + each).input_ids) < MAX_PROMPT_TOKENS / 2 - 80
        ]
        if len(fitting) >= models:
            for pair in itertools.combinations(random.Random(question).sample(fitting, models), 2):
                chosen.append(Sample(len(chosen), question, pair))
    if not chosen:
        raise SystemExit(f"{path}: no question has {models} answers that are short enough")
    return [chosen[k % len(chosen)] for k in range(count)]


def with_long_reference(sample: Sample) -> Sample:
    """With a reference as long as both answers are without the question: what both orders share is half the prompt."""
    answers = " ".join(sample.answers)
    return sample.with_reference(answers[: max(0, len(answers) - len(sample.question))])


def prompts_of(samples: list[Sample], both: bool) -> list[str]:
    """The prompts, in one order or both."""
    shown = [each for sample in samples for each in ((sample, sample.swapped()) if both else (sample,))]
    return [render_prompt(sample) for sample in shown]


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


def summarise(blocks: list[Block], peaks: list[float]) -> dict[str, float]:
    """Medians over the blocks of one way, and totals."""
    rates = [block.samples / block.seconds for block in blocks]
    shares = [
        SMOLLM2.flops(block.prompts, block.prompt_tokens, block.new_tokens) / block.seconds / peak
        for block, peak in zip(blocks, peaks, strict=True)
    ]
    seconds = sum(block.seconds for block in blocks)
    return {
        "samples_per_s": statistics.median(rates),
        "slowest_block": min(rates),
        "fastest_block": max(rates),
        "prompt_tokens_per_s": sum(block.prompt_tokens for block in blocks) / seconds,
        "new_tokens_per_s": sum(block.new_tokens for block in blocks) / seconds,
        "new_tokens_per_sample": sum(block.new_tokens for block in blocks) / sum(block.samples for block in blocks),
        "share_of_bfloat16_matmul_peak": statistics.median(shares),
        "peak_memory_mib": max(block.peak_memory_mib for block in blocks),
    }


def main() -> None:
    """Measure, then write raw numbers and summary."""
    from transformers import AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="JSON Lines with question_body, answer1_body, answer2_body")
    parser.add_argument("--model", required=True, help="folder of the model, an adapter merged into it")
    parser.add_argument("--output", required=True, help="raw numbers and summary, JSON")
    parser.add_argument("--mode", choices=tuple(MODES), default="scores")
    parser.add_argument(
        "--ways",
        nargs="+",
        metavar="WAY[:DTYPE[:both]][@N]",
        default=["published:float32@10", "published@10", "padded", "ours"],
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--block", type=int, default=40, help="prompts of a round")
    parser.add_argument(
        "--all-pairs",
        type=int,
        metavar="N",
        help="all pairs of N answers to each question, as a ranking of N models asks",
    )
    parser.add_argument("--references", action="store_true", help="question and reference are half of every prompt")
    parser.add_argument("--prompt-tokens", type=int, nargs=2, metavar=("LEAST", "MOST"), default=[0, MAX_PROMPT_TOKENS])
    parser.add_argument("--vllm-python", help="interpreter of the environment with vLLM")
    parser.add_argument("--openvino-python", help="interpreter of the environment with OpenVINO GenAI")
    parser.add_argument("--openvino-model", help="model folder for OpenVINO, exported")
    parser.add_argument("--llama-python", help="interpreter of the environment with llama.cpp")
    parser.add_argument("--gguf", help="model file for llama.cpp")
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    if args.all_pairs is None:
        samples = pick_samples(args.data, args.rounds * args.block, tokenizer, *args.prompt_tokens)
    else:
        samples = pick_all_pairs(args.data, args.rounds * args.block, tokenizer, args.all_pairs)
    if args.references:
        samples = [with_long_reference(sample) for sample in samples]
    pythons = {"vllm": args.vllm_python, "openvino": args.openvino_python, "llama_cpp": args.llama_python}
    models = {"openvino": args.openvino_model, "llama_cpp": args.gguf}
    processes = []
    for name in args.ways:
        way = name.partition("@")[0].partition(":")[0]
        if models.get(way, args.model) is None:
            parser.error(f"{way} needs a model of its own: --openvino-model FOLDER, or for llama_cpp --gguf FILE")
        process = Process(name, models.get(way, args.model), args.mode, pythons.get(way) or sys.executable)
        processes.append(process)
    commit = current_commit()
    blocks: dict[str, list[Block]] = {process.name: [] for process in processes}
    peaks: list[float] = []
    for turn in range(args.rounds):
        peaks.append(matmul_peak("bfloat16"))
        for process in processes:
            begin = turn * args.block
            part = samples[begin : begin + min(args.block, process.most or args.block)]
            block = process.judge(prompts_of(part, process.both))
            block.samples = len(part)
            blocks[process.name].append(block)
            print(f"{turn + 1}/{args.rounds} {process.name}: {block.samples / block.seconds:.3f} samples/s", flush=True)
        report = {
            "command": f"python -m benchmarks.judge {' '.join(sys.argv[1:])}",
            "commit": commit,
            "versions": versions(),
            "machine": this_machine(),
            "samples_a_round": args.block,
            "rounds": len(peaks),
            "start_s": {process.name: round(process.start_s, 2) for process in processes},
            "bfloat16_matmul_peak_flops": peaks,
            "summary": {name: summarise(found, peaks) for name, found in blocks.items()},
            "blocks": {name: [asdict(block) for block in found] for name, found in blocks.items()},
        }
        write_text(args.output, json.dumps(report, indent=1) + "\n")
    for process in processes:
        process.end()
    print(json.dumps(report["summary"], indent=2))


if __name__ == "__main__":
    main()
