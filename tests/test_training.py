"""Trainings of a model of two layers, in processes of their own: what users run, only small."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, QUIET, ROOT, build_model, train_byte_tokenizer, training_record, write_jsonl
from forked import free_port, python, run_forked

from judgelm.jsonl import read_json

PUBLISHED = [
    *("--bf16", "True", "--per_device_train_batch_size", "1", "--per_device_eval_batch_size", "1"),
    *("--evaluation_strategy", "no", "--save_strategy", "steps", "--save_total_limit", "1"),
    *("--weight_decay", "0.", "--warmup_ratio", "0.03", "--lr_scheduler_type", "cosine", "--logging_steps", "1"),
    *("--fsdp", "full_shard auto_wrap offload", "--fsdp_transformer_layer_cls_to_wrap", "LlamaDecoderLayer"),
    *("--tf32", "True", "--model_max_length", "2048", "--gradient_checkpointing", "True"),
    *("--run_name", "7B-full-model", "--swap_aug_ratio", "0.5", "--ref_drop_ratio", "0.5"),
]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cache = tmp_path_factory.mktemp("cache")
    caches = {"HF_DATASETS_CACHE": str(cache / "datasets"), "JUDGELM_CACHE": str(cache / "judgelm")}
    return {**os.environ, **caches, "PYTHONWARNINGS": "ignore"}


def start(
    environment: dict[str, str], processes: int, *command: object, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a training script, in as many processes."""
    return run_forked(command, environment | variables, processes)


def losses(output: Path) -> list[float]:
    state = json.loads((output / "trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


def weights(file: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(file)


def assert_same_weights(one: Path, other: Path, atol: float) -> None:
    import torch

    first, second = weights(one / "model.safetensors"), weights(other / "model.safetensors")
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=0, atol=atol)


def judges(model: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """Assert that the folder judges as any model does."""
    fields = ("question_id", "question_body", "answer1_body", "answer2_body")
    samples = [{key: training_record(n)[key] for key in fields} for n in range(3)]
    questions = write_jsonl(tmp_path / "questions.jsonl", samples)
    out = tmp_path / "judged"
    result = start(environment, 1, "-m", "judgelm", "judge", "--model", model, "--question-file", questions,
                   "--output-dir", out, "--scores-only", "--constrained")  # fmt: skip
    assert result.returncode == 0, result.stderr
    records = [json.loads(line) for line in (out / "forward.jsonl").read_text().splitlines()]
    assert len(records) == 3
    assert all(record["pred_parse"] == "ok" for record in records)


def test_published_command_trains_with_fsdp_and_resumes_and_judges(
    tmp_path: Path, model_folder: Path, train_file: Path, environment: dict[str, str]
) -> None:
    """Two processes through the real train_mem.py, with FSDP2 for real; see tests/fsdp_on_cpu.py."""
    flags = ["--model_name_or_path", model_folder, "--data_path", train_file, "--num_train_epochs", "3",
             "--learning_rate", "1e-3", "--gradient_accumulation_steps", "2", "--save_steps", "5",
             *PUBLISHED, *QUIET]  # fmt: skip

    def fsdp(output: Path, **variables: str) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
        report = tmp_path / f"report-{output.name}"
        report.mkdir(exist_ok=True)
        result = start(environment, 2, "tests/fsdp_on_cpu.py", report, "judgelm/train/train_mem.py", "--output_dir",
                       output, *flags, CALL_IT_FSDP="1", **variables)  # fmt: skip
        return result, [json.loads(file.read_text()) for file in sorted(report.glob("rank*.json"))]

    whole = tmp_path / "whole"
    result, ranks = fsdp(whole)
    assert result.returncode == 0, result.stderr
    assert len(ranks) == 2
    for rank in ranks:
        assert rank["fsdp"]
        assert rank["kinds"] == ["DTensor"], "the parameters are not sharded: this was no FSDP"
        assert rank["local_bytes"] == pytest.approx(rank["whole_bytes"] / 2, rel=0.05)
        assert "FSDPLlamaDecoderLayer" in rank["wrapped"]
    curve = losses(whole)
    assert len(curve) == 12
    assert sum(curve[-3:]) < sum(curve[:3]) - 1

    # killed in the middle of epoch 2, after the checkpoint of step 5 in epoch 2: the same curve and the same weights
    resumed = tmp_path / "resumed"
    result, _ = fsdp(resumed, DIE_AT_STEP="7")
    assert result.returncode != 0
    assert [folder.name for folder in resumed.glob("checkpoint-*")] == ["checkpoint-5"]
    result, _ = fsdp(resumed)
    assert result.returncode == 0, result.stderr
    assert "going on from" in result.stderr
    assert losses(resumed) == pytest.approx(curve, abs=1e-5)
    assert_same_weights(resumed, whole, atol=1e-6)

    # one process without FSDP, the same global batch: bfloat16 rounds gradients differently when they are reduced
    single = [*flags]
    single[single.index("--gradient_accumulation_steps") + 1] = "4"
    result = start(environment, 1, "judgelm/train/train_mem.py", "--output_dir", tmp_path / "alone", *single)
    assert result.returncode == 0, result.stderr
    assert "--fsdp has no effect" in result.stderr
    assert losses(tmp_path / "alone") == pytest.approx(curve, abs=0.02)
    # in float32 not only the curve but the weights are the same
    flags[flags.index("--bf16") + 1] = single[single.index("--bf16") + 1] = "False"
    result, _ = fsdp(tmp_path / "whole32")
    assert result.returncode == 0, result.stderr
    assert (
        start(environment, 1, "judgelm/train/train_mem.py", "--output_dir", tmp_path / "alone32", *single).returncode
        == 0
    )
    assert losses(tmp_path / "alone32") == pytest.approx(losses(tmp_path / "whole32"), rel=1e-4)
    assert_same_weights(tmp_path / "alone32", tmp_path / "whole32", atol=1e-4)
    judges(whole, tmp_path, environment)

    # a sharded checkpoint cannot be gone on from in one process
    result = start(environment, 1, "judgelm/train/train_mem.py", "--output_dir", whole, *single, "--bf16", "True")
    assert result.returncode == 2
    assert "is a sharded checkpoint: go on with --fsdp on GPUs" in result.stderr.splitlines()[-1]


def test_an_adapter_is_trained_with_fsdp(tmp_path: Path, train_file: Path, environment: dict[str, str]) -> None:
    """Frozen bfloat16 weights and float32 matrices in the same shards, embeddings tied; the adapter is saved alone."""
    tied, output, report = tmp_path / "tied", tmp_path / "out", tmp_path / "report"
    report.mkdir()
    build_model(tied, train_byte_tokenizer(), tied=True)
    result = start(environment, 2, "tests/fsdp_on_cpu.py", report, "judgelm/train/train_lora.py", "--output_dir",
                   output, "--model_name_or_path", tied, "--data_path", train_file, "--num_train_epochs", "4",
                   "--learning_rate", "1e-2", *PUBLISHED, *QUIET, CALL_IT_FSDP="1")  # fmt: skip
    assert result.returncode == 0, result.stderr
    for file in report.glob("rank*.json"):
        assert json.loads(file.read_text())["kinds"] == ["DTensor"]
    curve = losses(output)
    assert sum(curve[-3:]) < sum(curve[:3])
    names = weights(output / "adapter_model.safetensors")
    assert names
    assert all("lora_" in name for name in names)
    judges(output, tmp_path, environment)


def test_other_architectures_are_trained(tmp_path: Path, train_file: Path, environment: dict[str, str]) -> None:
    """GPT-NeoX, with the log in TensorBoard's files too; a model that cannot be packed says so."""
    from transformers import BloomConfig, BloomForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM

    tokenizer = train_byte_tokenizer()
    small = {"vocab_size": len(tokenizer), "hidden_size": 32, "eos_token_id": 1, "bos_token_id": 0}
    config = GPTNeoXConfig(**small, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    GPTNeoXForCausalLM(config).save_pretrained(tmp_path / "neox")
    BloomForCausalLM(BloomConfig(**small, n_layer=1, n_head=2)).save_pretrained(tmp_path / "bloom")
    for name in ("neox", "bloom"):
        tokenizer.save_pretrained(tmp_path / name)

    def train(name: str, *flags: object) -> subprocess.CompletedProcess[str]:
        return start(environment, 1, "judgelm/train/train.py", "--model_name_or_path", tmp_path / name, "--data_path",
                     train_file, "--output_dir", tmp_path / f"{name}-out", "--num_train_epochs", "3",
                     "--per_device_train_batch_size", "8", "--learning_rate", "1e-2", *flags, *QUIET)  # fmt: skip

    result = train("neox", "--packing", "True", "--report_to", "tensorboard")
    assert result.returncode == 0, result.stderr
    assert losses(tmp_path / "neox-out")[-1] < losses(tmp_path / "neox-out")[0]
    assert list((tmp_path / "neox-out").rglob("events.out.tfevents*"))
    result = train("bloom", "--packing", "True")
    assert result.returncode == 2
    assert "a BloomForCausalLM cannot be packed" in result.stderr.splitlines()[-1]
    result = train("bloom")
    assert result.returncode == 0, result.stderr
    assert losses(tmp_path / "bloom-out")[-1] < losses(tmp_path / "bloom-out")[0]


def test_a_judge_learns_to_grade_by_criteria_from_columns_of_other_names(
    tmp_path: Path, model_folder: Path, environment: dict[str, str]
) -> None:
    aspect = {"name": "kind", "text": "Is it kind?"}
    criteria = {"name": "manners", "scale": [1, 3], "aspects": [aspect]}
    rows = [
        {
            "n": n,
            "asked": "Hello?",
            "said": ("thanks", "no")[n % 2],
            "gpt4": ("3\nKind.", "1\nRude.")[n % 2],
            "criteria": criteria,
        }
        for n in range(32)
    ]
    train, output = write_jsonl(tmp_path / "train.jsonl", rows), tmp_path / "out"
    names = "question_id=n,question=asked,answer=said,judgement=gpt4"
    result = start(environment, 1, "-m", "judgelm", "train", "--model_name_or_path", model_folder, "--data_path", train,
                   "--columns", names, "--output_dir", output, "--num_train_epochs", "5", "--learning_rate", "1e-2",
                   "--per_device_train_batch_size", "8", "--save_strategy", "no", *QUIET)  # fmt: skip
    assert result.returncode == 0, result.stderr
    curve = losses(output)
    assert curve[-1] < curve[0] / 4
    asked = [
        {"question_id": n, "question_body": "Hello?", "answer_body": text} for n, text in enumerate(("thanks", "no"))
    ]
    questions = write_jsonl(tmp_path / "questions.jsonl", asked)
    (tmp_path / "criteria.yaml").write_text(json.dumps(criteria))
    result = start(environment, 1, "-m", "judgelm", "judge", "--model", output, "--question-file", questions, "--task",
                   "grade", "--criteria", tmp_path / "criteria.yaml", "--scoring", "expected", "--orders", "forward",
                   "--output-dir", tmp_path / "judged")  # fmt: skip
    assert result.returncode == 0, result.stderr
    kind, unkind = (json.loads(line) for line in (tmp_path / "judged/forward.jsonl").read_text().splitlines())
    assert kind["pred_scale"] == [1, 3]
    assert kind["pred_expected_scores"][0] > 2.5 > 1.5 > unkind["pred_expected_scores"][0]
    assert min(kind["pred_score_line_mass"], unkind["pred_score_line_mass"]) > 0.5


def test_a_run_that_silently_became_ddp_is_told_apart(
    tmp_path: Path, model_folder: Path, train_file: Path, environment: dict[str, str]
) -> None:
    """The published command on two CPU processes exits 0, says that FSDP had no effect, and is not sharded."""
    output, report = tmp_path / "out", tmp_path / "report"
    report.mkdir()
    result = start(environment, 2, "tests/fsdp_on_cpu.py", report, "judgelm/train/train_mem.py",
                   f"--model_name_or_path={model_folder}", "--data_path", train_file, f"--output_dir={output}",
                   "--num_train_epochs", "1", "--gradient_accumulation_steps", "4", "--save_steps", "1000",
                   "--learning_rate", "2e-5", *PUBLISHED)  # fmt: skip
    assert result.returncode == 0, result.stderr
    for word in ("--evaluation_strategy", "--warmup_ratio", "--fsdp_transformer_layer_cls_to_wrap", "--tf32", "flash"):
        assert sum(line.startswith("judgelm: note:") and word in line for line in result.stderr.splitlines()) == 1
    assert "note: --fsdp has no effect without a GPU" in result.stderr
    for file in report.glob("rank*.json"):
        rank = json.loads(file.read_text())
        assert not rank["fsdp"]
        assert rank["kinds"] == ["Tensor"]
        assert rank["local_bytes"] == rank["whole_bytes"]
    card = (output / "README.md").read_text()
    assert "16 of 16 rows" in card
    assert "swap augmentation | 0.5" in card


def test_published_shell_script_trains(
    tmp_path: Path, model_folder: Path, train_file: Path, environment: dict[str, str]
) -> None:
    """The 13B script, which runs the 7B one: two processes on the CPU; 33B asks for its machines."""
    folder = ROOT / "scripts" / "train_judgelm"
    variables = {
        "BASE_MODEL_PATH": str(model_folder),
        "DATA_PATH": str(train_file),
        "OUTPUT_PATH": str(tmp_path / "out"),
        "N_PROC_PER_NODE": "2",
        "GRADIENT_ACCUMULATION_STEPS": "4",
        "NUM_TRAIN_EPOCHS": "1",
        "MASTER_PORT": str(free_port()),
        "TORCHRUN": f"{python()} -m torch.distributed.run",
    }

    def script(size: str) -> subprocess.CompletedProcess[str]:
        (file,) = folder.glob(f"train_{size}_*.sh")
        return subprocess.run(
            ["bash", str(file)], capture_output=True, text=True, timeout=PATIENCE_S, env=environment | variables
        )

    result = script("13b")
    assert result.returncode == 0, result.stderr
    assert len(losses(tmp_path / "out")) == 2
    result = script("33b")
    assert result.returncode != 0
    assert "several machines need NODE_RANK" in result.stderr


def test_batch_accumulation_and_ranks_are_interchangeable(
    tmp_path: Path, model_folder: Path, train_file: Path, environment: dict[str, str]
) -> None:
    """The same global batch of 8 gives the same curve and weights, in float32 to 1e-4, packed or padded."""
    shapes = {
        "1x8": (1, 1, 8, False),
        "8x1": (1, 8, 1, False),
        "2 ranks x 4": (2, 4, 1, False),
        "packed": (1, 8, 1, True),
    }
    curves = {}
    for name, (processes, batch, accumulation, packing) in shapes.items():
        output = tmp_path / name.replace(" ", "")
        result = start(environment, processes, "judgelm/train/train_xformers.py", "--model_name_or_path", model_folder,
                       "--data_path", train_file, "--output_dir", output, "--num_train_epochs", "3",
                       "--per_device_train_batch_size", batch, "--gradient_accumulation_steps", accumulation,
                       "--learning_rate", "1e-3", "--swap_aug_ratio", "0.5", "--reference_prob", "0.5",
                       "--packing", packing, "--save_strategy", "no", *QUIET)  # fmt: skip
        assert result.returncode == 0, result.stderr
        curves[name] = losses(output)
        assert len(curves[name]) == 6
        assert curves[name] == pytest.approx(curves["1x8"], rel=1e-4), name
        assert_same_weights(output, tmp_path / "1x8", atol=1e-4)
    assert curves["1x8"][-1] < curves["1x8"][0]


def test_killed_and_resumed_equals_undisturbed(
    tmp_path: Path, model_folder: Path, train_file: Path, environment: dict[str, str]
) -> None:
    """LoRA, one process, killed twice: once in the middle of an epoch, once while a checkpoint was being saved."""
    import torch

    def train(output: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        report = tmp_path / "report"
        report.mkdir(exist_ok=True)
        return start(environment, 1, "tests/fsdp_on_cpu.py", report, "judgelm/train/train_lora.py",
                     "--model_name_or_path", model_folder, "--data_path", train_file, "--output_dir", output,
                     "--num_train_epochs", "3", "--per_device_train_batch_size", "4", "--save_steps", "3",
                     "--learning_rate", "1e-2", "--swap_aug_ratio", "0.5", "--lora_r", "4", "--lora_dropout", "0.1",
                     "--lora_first_layer", "1", *QUIET, **variables)  # fmt: skip

    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert train(undisturbed).returncode == 0
    assert train(killed, DIE_AT_STEP="5").returncode != 0
    assert train(killed, DIE_AT_STEP="8").returncode != 0
    # a checkpoint whose last file is missing was being written
    shutil.copytree(killed / "checkpoint-6", killed / "checkpoint-9")
    (killed / "checkpoint-9" / "trainer_state.json").unlink()
    result = train(killed)
    assert result.returncode == 0, result.stderr
    assert "checkpoint-9 was left unfinished and is passed over" in result.stderr
    assert "going on from" in result.stderr
    assert "checkpoint-6" in result.stderr
    assert losses(killed) == pytest.approx(losses(undisturbed), abs=1e-6)
    first, second = (folder / "adapter_model.safetensors" for folder in (killed, undisturbed))
    assert first.read_bytes() == second.read_bytes()
    assert losses(killed)[-1] < losses(killed)[0]
    names = set(weights(first))
    assert names
    assert all(".layers.1." in name for name in names)

    # the same folder with other settings is refused, and nothing in it is touched
    before = sorted(file.name for file in killed.iterdir())
    result = start(environment, 1, "judgelm/train/train_lora.py", "--model_name_or_path", model_folder,
                   "--data_path", train_file, "--output_dir", killed, "--num_train_epochs", "3",
                   "--learning_rate", "2e-2", *QUIET)  # fmt: skip
    assert result.returncode == 2
    assert "holds a training with" in result.stderr.splitlines()[-1]
    assert sorted(file.name for file in killed.iterdir()) == before

    # the adapter is trained further: from where it was, with its own rank, on its base
    further = tmp_path / "further"
    result = start(environment, 1, "judgelm/train/train_lora.py", "--model_name_or_path", killed,
                   "--data_path", train_file, "--output_dir", further, "--num_train_epochs", "1",
                   "--per_device_train_batch_size", "4", "--learning_rate", "1e-3", "--swap_aug_ratio", "0.5",
                   "--train_sampling_strategy", "sequential", *QUIET)  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "is trained further" in result.stderr
    assert losses(further)[0] == pytest.approx(losses(killed)[-1], rel=0.1)
    assert losses(further)[0] < losses(killed)[0]
    trained, before_it = (weights(folder / "adapter_model.safetensors") for folder in (further, killed))
    assert {name: w.shape for name, w in trained.items()} == {name: w.shape for name, w in before_it.items()}
    assert any(not torch.equal(trained[name], before_it[name]) for name in trained)
    assert read_json(further / "adapter_config.json")["base_model_name_or_path"] == str(model_folder.resolve())

    # the adapter judges as it is, and merged
    judges(killed, tmp_path / "adapter", environment)
    merged = tmp_path / "merged"
    result = start(environment, 1, "-m", "judgelm", "merge", "--adapter", killed, "--output-dir", merged)
    assert result.returncode == 0, result.stderr
    assert not (merged / "adapter_config.json").exists()
    judges(merged, tmp_path / "merged-run", environment)
    again = start(environment, 1, "-m", "judgelm", "merge", "--adapter", killed, "--output-dir", merged)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_evaluation_rope_scaling_and_pretokenize(tmp_path: Path, train_file: Path, environment: dict[str, str]) -> None:
    """A model of 256 tokens is stretched to 2048, its loss on other rows is measured, and the result judges."""
    short = build_model(tmp_path / "short", train_byte_tokenizer(), context=256)
    rows = write_jsonl(tmp_path / "eval.jsonl", [training_record(number) for number in range(100, 106)])
    output = tmp_path / "out"
    result = start(environment, 1, "-m", "judgelm", "train", "--model_name_or_path", short, "--data_path", train_file,
                   "--eval_data_path", rows, "--eval_strategy", "epoch", "--output_dir", output,
                   "--num_train_epochs", "2", "--per_device_train_batch_size", "8", "--learning_rate", "1e-3",
                   "--pretokenize", "--report_to", "none", "--save_strategy", "no", *QUIET)  # fmt: skip
    assert result.returncode == 0, result.stderr
    config = json.loads((output / "config.json").read_text())
    assert config["max_position_embeddings"] == 2048
    assert config["rope_parameters"]["rope_type"] == "linear"
    assert config["rope_parameters"]["factor"] == 8.0
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    measured = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert len(measured) == 2
    assert measured[1] < measured[0]
    judges(output, tmp_path, environment)


def test_several_processes_are_started_by_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    from judgelm import cli

    started: list[list[str]] = []

    def call(command: list[str]) -> int:
        started.append(command)
        return 3

    monkeypatch.setattr(subprocess, "call", call)
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "--lora", "--nproc", "2", "--data_path", "rows.jsonl", "--output_dir", "trained"])
    assert ended.value.code == 3
    script = str(ROOT / "judgelm" / "train" / "train_lora.py")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    assert started == [[*torchrun, script, "--data_path", "rows.jsonl", "--output_dir", "trained"]]


def test_train_data_check(tmp_path: Path, environment: dict[str, str], model_folder: Path) -> None:
    good = [training_record(number, reference=False) for number in range(10)]
    records = [*good, good[0] | {"question_id": 77}, training_record(90) | {"text": "error"},
               training_record(91) | {"text": "no scores here"}, training_record(92, words=400)]  # fmt: skip
    file = write_jsonl(tmp_path / "rows.jsonl", records)
    spelled = training_record(3) | {"question_body": "  question  3?\n"}
    validation = write_jsonl(tmp_path / "val.jsonl", [spelled, training_record(50)])

    def check(*flags: object) -> subprocess.CompletedProcess[str]:
        return start(environment, 1, "-m", "judgelm", "train-data", "check", file, *flags)

    result = check("--tokenizer", model_folder, "--model-max-length", "700", "--validation-file", validation)
    assert result.returncode == 1
    assert "rows 14, trained on 12; skipped: teacher error 1, no scores 1, too long 0" in result.stdout
    assert "same question and answers again 1" in result.stdout
    assert "shortened 1" in result.stdout
    assert "validation: 1 of 2 questions stand in the training file too" in result.stdout
    assert "skipped: 14.3 %, expected at most 5 %" in result.stderr
    assert "overlap: 50.0 %" in result.stderr
    assert check("--max-skipped", "20").returncode == 0
    assert start(environment, 1, "-m", "judgelm", "train-data", "check", "nowhere.jsonl").returncode == 2
