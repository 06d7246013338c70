"""A 7B judge in the form in which the paper's were released, loaded on a CPU: memory, time, and one pair judged.

    python -m benchmarks.big --work build/big --output benchmarks/big.json
    python -m benchmarks.big --layers 4 --work build/big --output build/big.json

Makes a folder of Vicuna 7B's shape (13.5 GB: sharded pytorch_model-*.bin in float16, SentencePiece tokenizer, config of
transformers 4.28; random weights), loads it in bfloat16 and in 8 bits, each in a process of its own, and removes the
folder. Memory is what a process holds above what it held before loading, Python and its libraries.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.made_up import TWO_LAYERS, VICUNA_7B, Shape, make_pairs, write_folder
from benchmarks.provenance import current_commit, this_machine
from judgelm.errors import InputError
from judgelm.files import write_text
from judgelm.judge.description import versions

WAYS: dict[str, str | None] = {"bfloat16": None, "int8": "int8"}
_STORED = "float16"
_SPARE = 2 << 30
"""bytes of disk and memory that are left to others"""


def weights_in_memory(shape: Shape, quantization: str | None) -> int:
    """Bytes: in 8 bits the matrices take one each, and two for the scale of a row."""
    if quantization is None:
        return 2 * shape.parameters
    return 2 * (shape.parameters - shape.matrices) + shape.matrices + 2 * shape.rows


def memory() -> dict[str, int]:
    """Bytes that this process holds and the most that it held since `forget_peak`; `anonymous` without mapped files."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    names = {"VmRSS": "now", "VmHWM": "peak", "RssAnon": "anonymous"}
    return {called: int(lines[name].split()[0]) << 10 for name, called in names.items()}


def forget_peak() -> None:
    """The peak of `memory` begins anew."""
    Path("/proc/self/clear_refs").write_text("5")


def measure(folder: str, shape: Shape, quantization: str | None) -> dict[str, Any]:
    """Load as `judgelm judge --dtype bfloat16` does and judge a pair of about 700 tokens, scores only."""
    # transformers imports a model's module when it is first used
    import transformers.models.llama.modeling_llama  # noqa: F401

    import judgelm.engine.hf.engine  # noqa: F401
    from judgelm import Judge
    from judgelm.judge.settings import JudgeSettings

    forget_peak()
    before = memory()["now"]
    begin = time.perf_counter()
    judge = Judge.load(folder, dtype="bfloat16", device="cpu", quantization=quantization, prompt_format="plain")
    loaded_s, loaded = time.perf_counter() - begin, memory()
    pairs = list(make_pairs(judge.engine.tokenizer, shape, 1))  # type: ignore[attr-defined]
    begin = time.perf_counter()
    settings = JudgeSettings(scores_only=True, temperature=0.0, max_new_tokens=4)
    (judged,) = judge.run(pairs, ("forward",), settings)
    assert judged.generation is not None
    weights = weights_in_memory(shape, quantization)
    return {
        "load_s": loaded_s,
        "judge_s": time.perf_counter() - begin,
        "prompt_tokens": judged.generation.num_prompt_tokens,
        "new_tokens": judged.generation.num_tokens,
        "weights_mib": weights >> 20,
        "before_mib": before >> 20,
        "peak_while_loading_mib": (loaded["peak"] - before) >> 20,
        "peak_to_weights": (loaded["peak"] - before) / weights,
        "held_when_loaded_mib": (loaded["now"] - before) >> 20,
        "peak_with_judging_mib": (memory()["peak"] - before) >> 20,
    }


def check_room(work: Path, shape: Shape) -> None:
    """Raises InputError where disk or memory are too small."""
    work.mkdir(parents=True, exist_ok=True)
    needed = 2 * shape.parameters + _SPARE
    memory_lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) << 10 for line in memory_lines if line.startswith("MemAvailable"))
    found = {"disk": shutil.disk_usage(work).free, "memory": available}
    for what, free in found.items():
        if free < needed:
            raise InputError(f"{work}: {needed >> 30} GiB of {what} are needed, and {free >> 30} are free")


def run(shape: Shape, work: Path, output: Path, command: str) -> None:
    """Make, measure, remove; raw numbers are written after each way. Raises InputError where there is no room."""
    check_room(work, shape)
    commit = current_commit()
    begin = time.perf_counter()
    report: dict[str, Any] = {
        "command": command,
        "commit": commit,
        "versions": versions(),
        "machine": this_machine(),
        "layers": shape.layers,
        "parameters": shape.parameters,
        "stored": _STORED,
        "ways": {},
    }
    with tempfile.TemporaryDirectory(dir=work, prefix="judge-") as made:
        folder = Path(made)
        write_folder(folder, shape, _STORED, released=True)
        report["write_s"] = time.perf_counter() - begin
        report["folder_mib"] = sum(file.stat().st_size for file in folder.iterdir()) >> 20
        for way, quantization in WAYS.items():
            if quantization is not None and importlib.util.find_spec("torchao") is None:
                print(f"{way}: left out: torchao is not installed", flush=True)
                continue
            fresh = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=fresh) as alone:
                report["ways"][way] = alone.submit(measure, str(folder), shape, quantization).result()
            write_text(output, json.dumps(report, indent=1) + "\n")
            print(f"{way}: {json.dumps(report['ways'][way])}", flush=True)


def main() -> int:
    """0, or 2 where there is no room."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="raw numbers, JSON")
    parser.add_argument("--work", type=Path, default=Path("build/big"), help="where the judge lies while it is needed")
    parser.add_argument("--layers", type=int, default=VICUNA_7B.layers, help="fewer make a smaller judge of that width")
    parser.add_argument("--dry-run", action="store_true", help="two narrow layers: no measurement")
    args = parser.parse_args()
    shape = TWO_LAYERS if args.dry_run else replace(VICUNA_7B, layers=args.layers)
    try:
        run(shape, args.work, args.output, f"python -m benchmarks.big {' '.join(sys.argv[1:])}")
    except InputError as error:
        print(f"benchmarks.big: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
