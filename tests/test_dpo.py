"""`judgelm train --method dpo`: a judge learns to prefer one text to another (TRL, extra `rl`)."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import QUIET, make_samples, train_byte_tokenizer, write_jsonl
from forked import run_forked

from judgelm.errors import InputError
from judgelm.prompt import render_prompt
from judgelm.train.encoder import ExampleEncoder
from judgelm.train.preferences import PreferenceRows
from judgelm.train.settings import parse

needs_trl = pytest.mark.skipif(find_spec("trl") is None, reason="needs the extra rl")


def pairs(count: int, begin: int = 0) -> list[dict[str, Any]]:
    """The judge's own texts: that the first answer is better is preferred, whatever the answers are."""
    samples = make_samples(begin + count)[begin:]
    return [
        {
            "question_id": n,
            "prompt": render_prompt(sample),
            "chosen": f"{7 + n % 3} {2 + n % 2}\nAssistant 1 is better.",
            "rejected": f"{2 + n % 2} {7 + n % 3}\nAssistant 2 is better.",
            "margin": 5.0,
        }
        for n, sample in enumerate(samples)
    ]


def logged(output: Path, name: str) -> list[float]:
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return [entry[name] for entry in history if name in entry]


@pytest.fixture
def start(tmp_path: Path, model_folder: Path) -> Any:
    """Train on 12 pairs in processes of their own, with 6 others as the evaluation."""
    files = {
        "--data_path": write_jsonl(tmp_path / "pairs.jsonl", pairs(12)),
        "--eval_data_path": write_jsonl(tmp_path / "held.jsonl", pairs(6, begin=20)),
        "--model_name_or_path": model_folder,
    }
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "HF_HUB_DISABLE_TELEMETRY": "1"}

    def run(output: Path, script: str, *flags: object, processes: int = 1, code: int = 0, **variables: str) -> str:
        report = tmp_path / "report"
        report.mkdir(exist_ok=True)
        given = [part for name, value in files.items() if name not in flags for part in (name, value)]
        more = ("--method", "dpo", "--eval_strategy", "epoch", "--eval_on_start", True, "--output_dir", output)
        command = ("tests/fsdp_on_cpu.py", report, f"judgelm/train/{script}.py", *given, *more, *flags, *QUIET)
        # TRL, which takes longer to import than to train with here, once for all of them
        result = run_forked(command, environment | variables, processes, imported=("trl.trainer.dpo_trainer",))
        assert (result.returncode == 0) == (code == 0), result.stderr
        return result.stderr

    return run


def judges(model: Path, tmp_path: Path) -> None:
    samples = write_jsonl(tmp_path / "questions.jsonl", [sample.to_record() for sample in make_samples(3)])
    command = ("-m", "judgelm", "judge", "--model", model, "--question-file", samples, "--scores-only", "--constrained",
               "--output-dir", tmp_path / f"judged-{model.name}")  # fmt: skip
    result = run_forked(command, {**os.environ, "PYTHONWARNINGS": "ignore"}, 1)
    assert result.returncode == 0, result.stderr


@needs_trl
def test_the_margin_of_pairs_that_were_not_seen_rises(tmp_path: Path, start: Any) -> None:
    """A whole model, in one process and in two: from no margin over what it was, to a clear one."""
    flags = (
        "--num_train_epochs",
        4,
        "--learning_rate",
        1e-3,
        "--save_strategy",
        "no",
        "--lr_scheduler_type",
        "constant",
    )
    shapes = {"alone": (1, 4), "two": (2, 2)}
    for name, (processes, batch) in shapes.items():
        said = start(tmp_path / name, "train", *flags, "--per_device_train_batch_size", batch, processes=processes)
        assert "12 of 12 pairs are trained on; skipped: alike 0, too long 0, without a prompt 0" in said
        margins = logged(tmp_path / name, "eval_rewards/margins")
        assert len(margins) == 5
        assert margins[0] == pytest.approx(0, abs=1e-6)
        assert margins[-1] > 0.5
        assert margins[-1] > margins[1]
        assert logged(tmp_path / name, "eval_rewards/accuracies")[-1] == 1.0
    assert logged(tmp_path / "two", "loss") == pytest.approx(logged(tmp_path / "alone", "loss"), rel=1e-2)
    card = (tmp_path / "alone/README.md").read_text()
    assert "preferences (DPO), beta 0.1" in card
    assert "12 of 12 pairs" in card
    assert "margin of the preferred texts in the evaluation, last" in card
    judges(tmp_path / "alone", tmp_path)


@needs_trl
def test_an_adapter_is_killed_goes_on_and_is_trained_further(tmp_path: Path, start: Any) -> None:
    flags = ("--num_train_epochs", 2, "--per_device_train_batch_size", 3, "--learning_rate", 1e-2, "--save_steps", 3)
    start(tmp_path / "undisturbed", "train_lora", *flags)
    start(tmp_path / "killed", "train_lora", *flags, code=1, DIE_AT_STEP="5")
    assert "going on from" in start(tmp_path / "killed", "train_lora", *flags)
    first, second = (tmp_path / name / "adapter_model.safetensors" for name in ("killed", "undisturbed"))
    assert first.read_bytes() == second.read_bytes()
    assert logged(tmp_path / "killed", "loss") == pytest.approx(logged(tmp_path / "undisturbed", "loss"), abs=1e-6)
    margins = logged(tmp_path / "killed", "eval_rewards/margins")
    assert margins[-1] > 0.5
    # another beta is another training
    said = start(tmp_path / "killed", "train_lora", *flags, "--dpo_beta", 0.2, code=2)
    assert "holds a training with dpo_beta 0.1, found 0.2" in said.splitlines()[-1]

    # further: what it is held to is the adapter as it was, of which nothing is left behind
    further = tmp_path / "further"
    start(further, "train_lora", "--model_name_or_path", tmp_path / "killed", *flags)
    again = logged(further, "eval_rewards/margins")
    assert again[0] == pytest.approx(0, abs=1e-6)
    assert again[-1] > 0
    assert not (further / "ref").exists()
    judges(further, tmp_path)


def test_pairs_are_encoded_as_the_judge_reads_and_writes_them(tmp_path: Path) -> None:
    tokenizer = train_byte_tokenizer()
    encoder = ExampleEncoder(tokenizer, 400)
    records = pairs(3)
    records += [
        records[0] | {"rejected": records[0]["chosen"]},
        records[1] | {"chosen": "8 7\n" + "why " * 400},
        records[2] | {"prompt": ""},
    ]
    rows = PreferenceRows.load(str(write_jsonl(tmp_path / "pairs.jsonl", records)), encoder)
    lines = rows.lines()
    assert lines[0] == "3 of 6 pairs are trained on; skipped: alike 1, too long 1, without a prompt 1"
    for row, record in enumerate(records[:3]):
        prompt, chosen, rejected = (rows.columns[name][row] for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
        assert prompt == tokenizer(record["prompt"]).input_ids
        for ids, text in ((chosen, record["chosen"]), (rejected, record["rejected"])):
            assert ids[-1] == tokenizer.eos_token_id
            assert tokenizer.decode(prompt + ids[:-1], skip_special_tokens=True) == record["prompt"] + text
    # Parquet, packed and a list hold the same
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(records), tmp_path / "pairs.parquet")
    (tmp_path / "pairs.json.gz").write_bytes(gzip.compress(json.dumps(records).encode()))
    for name in ("pairs.parquet", "pairs.json.gz"):
        assert PreferenceRows.load(str(tmp_path / name), encoder).columns == rows.columns


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--method", "ppo"], "--method ppo: expected sft or dpo"),
        (["--dpo_beta", "0.5"], "--dpo_beta goes with --method dpo alone"),
        (["--method", "dpo", "--dpo_beta", "0"], "--dpo_beta: expected a number above 0, found 0.0"),
        (["--method", "dpo", "--dpo_beta", "nan"], "--dpo_beta: expected a number above 0, found nan"),
        (["--method", "dpo", "--packing", "True"], "--packing does not go with --method dpo"),
        (["--method", "dpo", "--pretokenize"], "--pretokenize does not go with --method dpo"),
        (["--method", "dpo", "--swap_aug_ratio", "0.5"], "--swap_aug_ratio does not go with --method dpo"),
        (["--method", "dpo", "--reference_prob", "0.5"], "--reference_prob does not go with --method dpo"),
        (["--method", "dpo", "--score_loss_weight", "5"], "--score_loss_weight does not go with --method dpo"),
        (["--method", "dpo", "--swap_consistency", "1"], "--swap_consistency does not go with --method dpo"),
        (["--method", "dpo", "--lora_dropout", "0.1"], "--lora_dropout does not go with --method dpo"),
        (["--method", "dpo", "--columns", "question=a"], "--columns does not go with --method dpo"),
    ],
)
def test_flags_that_do_not_go_together_end_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], expected: str
) -> None:
    monkeypatch.setattr("judgelm.train.settings.find_spec", lambda name: object())
    with pytest.raises(InputError) as error:
        parse(["--data_path", "pairs.jsonl", "--output_dir", str(tmp_path / "out"), *flags, *QUIET], lora=True)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_without_trl_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("judgelm.train.settings.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"--method dpo needs TRL, .* \(pip install 'judgelm\[rl\]'\)"):
        parse(["--data_path", "p.jsonl", "--output_dir", str(tmp_path / "out"), "--method", "dpo", *QUIET], lora=True)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([{"prompt": "p", "chosen": "8 7"}], r"pairs.jsonl:1: field 'rejected' is missing \(found: prompt, chosen\)"),
        ([*pairs(1), {"prompt": [], "chosen": "", "rejected": "x"}], "pairs.jsonl:2: field 'prompt' must be str"),
        ([pairs(1)[0] | {"chosen": "8 7\n\ud83d"}], "pairs.jsonl:1: a text has half a surrogate pair"),
        ([pairs(1)[0] | {"rejected": pairs(1)[0]["chosen"]}], r"no pair can be trained on \(found: 1 alike\)"),
    ],
)
def test_files_without_pairs_end_in_one_line(tmp_path: Path, records: Sequence[dict[str, Any]], expected: str) -> None:
    encoder = ExampleEncoder(train_byte_tokenizer(), 2048)
    with pytest.raises(InputError, match=expected):
        PreferenceRows.load(str(write_jsonl(tmp_path / "pairs.jsonl", records)), encoder)
    with pytest.raises(InputError, match="no such file"):
        PreferenceRows.load(str(tmp_path / "nowhere.jsonl"), encoder)
