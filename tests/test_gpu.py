"""What needs a GPU: skipped without one; scripts/check_gpu.sh runs these, and says what it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_samples, write_jsonl
from judging import run_command
from test_engine import by_key, requests
from test_packed import both_orders

from judgelm.distribution import line_text, score_lines
from judgelm.engine.hf.engine import HFEngine
from judgelm.engine.interface import Sampling
from judgelm.models.folder import find_model
from judgelm.models.loading import load_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")


def engine_on(device: str, folder: Path, dtype: str = "float32") -> HFEngine:
    return HFEngine(*load_model(find_model(str(folder)), dtype=dtype, device=device))


def test_the_gpu_writes_what_the_cpu_writes(model_folder: Path) -> None:
    engines = [engine_on(device, model_folder) for device in ("cpu", "cuda")]
    assert all(engine.packs for engine in engines)
    for sampling in (Sampling(max_new_tokens=24), Sampling(max_new_tokens=24, constrained=True)):
        cpu, gpu = (by_key(engine.generate(both_orders(engine, 8), sampling)) for engine in engines)
        assert cpu == gpu


def test_the_gpu_finds_score_lines_as_likely_as_the_cpu(model_folder: Path) -> None:
    lines = [line_text(scores) for scores in score_lines()]
    found = []
    for device in ("cpu", "cuda"):
        engine = engine_on(device, model_folder)
        found.append({one.key: one.log_probs for one in engine.score(requests(engine, 6), lines)})
    for key, log_probs in found[0].items():
        assert found[1][key] == pytest.approx(log_probs, abs=1e-3)


def test_shared_beginnings_change_little_in_bfloat16(model_folder: Path) -> None:
    engine = engine_on("cuda", model_folder, "bfloat16")
    asked = both_orders(engine, 8)
    together = by_key(engine.generate(asked, Sampling(max_new_tokens=1)))
    alone = {request.key: next(engine.generate([request], Sampling(max_new_tokens=1))) for request in asked}
    assert sum(together[key].text == alone[key].text for key in alone) >= len(alone) - 2


def test_memory_that_runs_out_halves_the_batch(model_folder: Path) -> None:
    engine = engine_on("cuda", model_folder)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + (64 << 20)) / total))
    engine.batch_tokens = 1 << 20
    try:
        with pytest.warns(UserWarning, match="out of memory"):
            found = by_key(engine.generate(requests(engine, 256), Sampling(max_new_tokens=8)))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(found) == 256


def test_the_embedded_judge_judges_on_the_gpu(tmp_path: Path) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", [sample.to_record() for sample in make_samples(40)])
    for scoring in ("greedy", "expected"):
        argv: list[Any] = ["judge", "--device", "cuda", "--question-file", questions, "--scores-only",
                           "--scoring", scoring, "--output-dir", tmp_path / scoring]  # fmt: skip
        assert run_command([str(word) for word in argv]) == 0
        run = json.loads((tmp_path / scoring / "run.json").read_text())
        assert run["sessions"][0]["engine"]["device"].startswith("cuda")
        assert run["counts"]["forward"]["failed"] == 0


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs on this machine")
def test_a_model_is_spread_over_two_gpus(model_folder: Path) -> None:
    model, tokenizer = load_model(find_model(str(model_folder)), dtype="float32", num_gpus=2)
    spread = HFEngine(model, tokenizer)
    alone = engine_on("cuda", model_folder)
    asked = requests(alone, 8)
    sampling = Sampling(max_new_tokens=16)
    assert by_key(spread.generate(asked, sampling)) == by_key(alone.generate(asked, sampling))
