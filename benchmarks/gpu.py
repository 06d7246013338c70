"""A 7B judge on one GPU: 5,000 pairs of about 700 tokens, scores only and (one in ten) with reasons.

    python -m benchmarks.gpu --output benchmarks/gpu.json
    python -m benchmarks.gpu --dry-run --output build/gpu.json

Makes a judge of Vicuna 7B's shape with random weights and has it judge in several ways, each a process of its own
(benchmarks/gpu_ways.py says which); what is not installed is left out. All of it takes at most `--minutes`: a way whose
part of the time is over ends at a row, and rates are those of the rows that were done. `--dry-run` goes the whole way
on a CPU, with two layers and 20 pairs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu_ways import MODES, WAYS
from benchmarks.made_up import TWO_LAYERS, VICUNA_7B, Shape, write_folder
from benchmarks.provenance import current_commit
from judgelm.errors import InputError
from judgelm.files import write_text
from judgelm.judge.description import versions

ROOT = Path(__file__).resolve().parent.parent
PEAKS = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
}
"""part of a device's name -> bfloat16 FLOP/s of its matrix units as its maker says, without sparsity; the first one
that fits counts
"""
_BY_ITSELF = 0.85
"""of a way's time: then it ends at a row; at the end of its time it is ended"""
_SPARE_BYTES = 2 << 30


def peak_of(device: str) -> float | None:
    """The device's FLOP/s, None where they are not known."""
    return next((peak for name, peak in PEAKS.items() if name in device), None)


def missing(way: str, vllm_python: str | None, dry_run: bool) -> str | None:
    """Why a way cannot be gone here; None where it can."""
    if way == "flash" and not dry_run and importlib.util.find_spec("flash_attn") is None:
        return "flash-attn is not installed"
    if way == "vllm" and vllm_python is None and importlib.util.find_spec("vllm") is None:
        return "vLLM is not installed (--vllm-python names the interpreter of another environment)"
    return None


def run_way(command: list[str], until: float) -> dict[str, Any]:
    """What a way's process said until it ended, or was ended because its time was over; `failed` where a mode has
    nothing.
    """
    found: dict[str, Any] = {"modes": {mode: [] for mode in MODES}}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment, start_new_session=True
    ) as process:
        # its own session: what it started goes too
        alarm = threading.Timer(max(0.0, until - time.time()), lambda: os.killpg(process.pid, signal.SIGKILL))
        alarm.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                record = json.loads(line)
                if "mode" in record:
                    found["modes"][record.pop("mode")].append(record)
                else:
                    found |= record
            found["exit_code"] = process.wait()
        finally:
            alarm.cancel()
    empty = [mode for mode, lines in found["modes"].items() if not lines]
    if empty:
        found["failed"] = f"no row of {', '.join(empty)}, exit code {found['exit_code']}"
    return found


def summarise(found: dict[str, Any], shape: Shape, peak: float | None) -> dict[str, Any]:
    """Rates of each mode, from its last line."""
    rates = {}
    for mode, lines in found["modes"].items():
        if not lines:
            continue
        last = lines[-1]
        per_s = last["rows"] / last["seconds"]
        flops = shape.flops(last["rows"], last["prompt_tokens"], last["new_tokens"]) / last["seconds"]
        rates[mode] = {
            "samples_per_s": per_s,
            "rows": last["rows"],
            "all_rows_done": last["rows"] == last["of"],
            "seconds_for_5000": 5000 / per_s,
            "prompt_tokens_per_sample": last["prompt_tokens"] / last["rows"],
            "share_of_bfloat16_peak": None if peak is None else flops / peak,
        }
    return rates


def device_here() -> tuple[str, int] | None:
    """Name and bytes of the first GPU, None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    found = torch.cuda.get_device_properties(0)
    return str(found.name), int(found.total_memory)


def prepare(folder: Path, shape: Shape) -> None:
    """The judge's folder, made where it is not there yet. Raises InputError where the disk is too small."""
    if (folder / "model.safetensors.index.json").is_file():
        # it is written last
        return
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = 2 * shape.parameters + _SPARE_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(f"{folder}: the made-up judge needs {needed >> 30} GiB, and {free >> 30} are free")
    write_folder(folder, shape, "bfloat16")


def measure(args: argparse.Namespace, command: str) -> bool:
    """Write raw numbers after each way; whether all ways had a result. Raises InputError without a GPU."""
    begin = time.time()
    device = ("cpu", 0) if args.dry_run else device_here()
    if device is None:
        raise InputError("PyTorch finds no GPU on this machine (--dry-run goes the whole way on a CPU)")
    shape, count = (TWO_LAYERS, 20) if args.dry_run else (VICUNA_7B, 5000)
    folder = args.work / ("dry-run" if args.dry_run else "vicuna-7b")
    commit = current_commit()
    left_out = {way: why for way in args.ways if (why := missing(way, args.vllm_python, args.dry_run))}
    for way, why in left_out.items():
        print(f"{way}: left out: {why}", flush=True)
    prepare(folder, shape)
    peak = peak_of(device[0])
    report: dict[str, Any] = {
        "command": command,
        "commit": commit,
        "versions": versions(),
        "machine": {"platform": platform.platform(), "device": device[0], "device_memory_mib": device[1] >> 20},
        "dry_run": args.dry_run,
        "bfloat16_peak_flops": peak,
        "pairs": count,
        "left_out": left_out,
        "prepare_s": round(time.time() - begin, 1),
        "summary": {},
        "ways": {},
    }
    ways = [way for way in args.ways if way not in left_out]
    for number, way in enumerate(ways):
        now = time.time()
        seconds = (begin + 60 * args.minutes - now) / (len(ways) - number)
        python = (args.vllm_python if way == "vllm" else None) or sys.executable
        call = [python, "-m", "benchmarks.gpu_ways", way, str(folder.resolve()), str(count)]
        found = run_way([*call, str(now + _BY_ITSELF * seconds), *["--dry-run"] * args.dry_run], now + seconds)
        report["ways"][way], report["summary"][way] = found, summarise(found, shape, peak)
        write_text(args.output, json.dumps(report, indent=1) + "\n")
        print(f"{way}: {json.dumps(report['summary'][way])} {found.get('failed', '')}", flush=True)
    return not any("failed" in found for found in report["ways"].values())


def main() -> int:
    """0 where all was measured, 1 where a way failed, 2 where nothing can be measured here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="raw numbers and summary, JSON")
    parser.add_argument("--work", type=Path, default=Path("build/gpu"), help="where the made-up judge lies or is put")
    parser.add_argument("--minutes", type=float, default=10.0, help="that all of it may take")
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=list(WAYS))
    parser.add_argument("--vllm-python", help="interpreter of the environment with vLLM")
    parser.add_argument("--dry-run", action="store_true", help="on a CPU, two layers and 20 pairs: no measurement")
    args = parser.parse_args()
    try:
        return int(not measure(args, f"python -m benchmarks.gpu {' '.join(sys.argv[1:])}"))
    except InputError as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
