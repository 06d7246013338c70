"""How `judgelm judge` grows with the number of rows: seconds and memory of the whole command, start and files included.

    python -m benchmarks.scale --tokenizer build/tiny-base --work build/scale --output benchmarks/scale.json

The model has two layers and random weights, so that what surrounds it shows: reading, planning, writing, sorting. Rows
are random words drawn by a fixed seed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.provenance import current_commit, this_machine
from judgelm.files import write_text
from judgelm.jsonl import Record, write_lines
from judgelm.judge.description import versions

WORDS = [
    "apple",
    "river",
    "stone",
    "music",
    "planet",
    "window",
    "garden",
    "letter",
    "number",
    "reason",
    "answer",
    "table",
    "light",
    "water",
    "method",
]


def rows(count: int) -> Iterator[Record]:
    """Samples with answers of 10 to 40 words."""
    draw = random.Random(0)

    def text(least: int, most: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(least, most)))

    for number in range(count):
        answers = {f"answer{k}_body": text(10, 40) for k in (1, 2)}
        yield {"question_id": number, "question_body": text(5, 20) + "?", **answers}


def build_model(folder: Path, tokenizer: str) -> None:
    """Two layers, 64 wide, random."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    known = AutoTokenizer.from_pretrained(tokenizer)
    config = LlamaConfig(
        vocab_size=len(known),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=known.bos_token_id,
        eos_token_id=known.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    known.save_pretrained(folder)


def judge(model: Path, questions: Path, output: Path) -> dict[str, Any]:
    """Run the command that users run."""
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "judgelm", "judge", "--model", str(model), "--question-file", str(questions)]
    command += ["--output-dir", str(output), "--orders", "forward", "--scoring", "expected"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {status}")
    return {"seconds": round(time.perf_counter() - start, 2), "peak_memory_mib": usage.ru_maxrss // 1024}


def main() -> None:
    """Measure, then write raw numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True, help="folder of a model whose tokenizer is used")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 1_000, 10_000, 100_000])
    args = parser.parse_args()
    build_model(args.work / "model", args.tokenizer)
    commit = current_commit()
    report: dict[str, Any] = {
        "command": f"python -m benchmarks.scale {' '.join(sys.argv[1:])}",
        "commit": commit,
        "versions": versions(),
        "machine": this_machine(),
        "rows": {},
    }
    for count in args.rows:
        questions = args.work / f"{count}.jsonl"
        write_lines(questions, rows(count))
        report["rows"][count] = judge(args.work / "model", questions, args.work / str(count))
        print(count, report["rows"][count], flush=True)
        write_text(args.output, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
