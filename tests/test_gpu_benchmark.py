"""`benchmarks.gpu` without a GPU: the whole way at small size, and what it says where it cannot go it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
import torch
from forked import python
from judging import Scripted

from benchmarks import gpu
from benchmarks.gpu_ways import measure, settings_of
from benchmarks.made_up import SMOLLM2, VICUNA_7B
from judgelm import Judge, Sample
from judgelm.errors import InputError


def test_a_dry_run_goes_the_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "gpu.json"
    monkeypatch.setattr(sys, "executable", python())
    argv = ["gpu", "--dry-run", "--ways", "sdpa", "flash", "--output", str(output), "--work", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", argv)
    assert gpu.main() == 0
    report = json.loads(output.read_text())
    assert (report["dry_run"], report["pairs"], report["bfloat16_peak_flops"]) == (True, 20, None)
    assert set(report["summary"]) == {"sdpa", "flash"}
    for way, rates in report["summary"].items():
        assert (rates["scores"]["rows"], rates["reasons"]["rows"]) == (20, 2), way
        assert rates["scores"]["all_rows_done"]
        assert rates["scores"]["share_of_bfloat16_peak"] is None
        assert 600 < rates["scores"]["prompt_tokens_per_sample"] < 800
        last = report["ways"][way]["modes"]["scores"][-1]
        assert rates["scores"]["samples_per_s"] == pytest.approx(20 / last["seconds"])
    found = {way: said["engine"]["attention"] for way, said in report["ways"].items()}
    assert found == {"sdpa": "packed", "flash": "sdpa"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU on this machine")
def test_without_a_gpu_it_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--output", str(tmp_path / "gpu.json"), "--work", str(tmp_path)])
    assert gpu.main() == 2
    said = capsys.readouterr()
    assert said.err == (
        "benchmarks.gpu: PyTorch finds no GPU on this machine (--dry-run goes the whole way on a CPU)\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_disk_too_small_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 5 << 30}))
    with pytest.raises(InputError, match="needs 14 GiB, and 5 are free"):
        gpu.prepare(tmp_path / "judge", VICUNA_7B)
    assert list((tmp_path / "judge").iterdir()) == []


def test_a_way_that_ends_or_hangs_fails_alone_and_keeps_what_it_said() -> None:
    line = '{"mode": "scores", "seconds": 2.0, "rows": 4, "of": 20, "prompt_tokens": 2800, "new_tokens": 16}'
    ended = gpu.run_way([sys.executable, "-c", f"print('{line}'); raise SystemExit(3)"], time.time() + 600)
    assert ended["failed"] == "no row of reasons, exit code 3"
    rates = gpu.summarise(ended, VICUNA_7B, 989e12)
    assert list(rates) == ["scores"]
    assert (rates["scores"]["samples_per_s"], rates["scores"]["seconds_for_5000"]) == (2.0, 2500.0)
    assert not rates["scores"]["all_rows_done"]
    hanging = gpu.run_way([sys.executable, "-c", "import time; time.sleep(600)"], time.time())
    assert hanging["failed"] == "no row of scores, reasons, exit code -9"


def test_a_mode_whose_time_is_up_ends_at_a_row() -> None:
    judge = Judge(Scripted({str(number): "8 7\n" for number in range(9)}))
    samples = [Sample(number, "2 + 2?", ("4", "5")) for number in range(9)]
    done = list(measure(judge, samples, settings_of("scores", dry_run=False), until=0.0))
    assert [(each["rows"], each["of"]) for each in done] == [(1, 9)]
    done = list(measure(judge, samples, settings_of("scores", dry_run=False), until=time.time() + 600))
    assert done[-1]["rows"] == 9


def test_shares_are_of_what_the_maker_of_the_device_says() -> None:
    names = ("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA H200", "NVIDIA A100-SXM4-80GB", "NVIDIA L40S")
    assert [gpu.peak_of(name) for name in names] == [989e12, 756e12, 989e12, 312e12, 362e12]
    assert gpu.peak_of("NVIDIA GeForce RTX 4090") is None
    # Llama 7B's own numbers: all weights, and 2 FLOP a weight and token where attention is short
    assert VICUNA_7B.parameters == 6_738_415_616
    assert VICUNA_7B.flops(1, 1, 0) == pytest.approx(2 * 6_476_005_376, rel=1e-3)
    assert SMOLLM2.matrices + SMOLLM2.vocabulary * SMOLLM2.hidden == pytest.approx(134_500_000, rel=1e-3)
