"""What a training refuses, each in one line and before any long work, and how it reads its flags."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import QUIET, Runner, build_model, train_byte_tokenizer, training_record, write_jsonl

from judgelm.errors import InputError


@pytest.fixture
def train_here(tmp_path: Path, model_folder: Path, train_file: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a training in this process, up to its first mistake."""
    import datasets

    from judgelm.train.settings import parse
    from judgelm.train.training import train

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setenv("JUDGELM_CACHE", str(tmp_path / "judgelm"))

    def run(*flags: object, lora: bool = False) -> None:
        given = {str(flag) for flag in flags}
        required = {"--model_name_or_path": model_folder, "--data_path": train_file, "--output_dir": tmp_path / "out"}
        for name, value in required.items():
            if name not in given:
                flags = (*flags, name, value)
        train(parse([*map(str, flags), *QUIET], lora))

    return run


def no_eos(folder: Path) -> None:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        file = folder / name
        if file.is_file():
            config = json.loads(file.read_text())
            config.pop("eos_token", None)
            file.write_text(json.dumps(config))


# D27 of docs/differences.md
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--data_path", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--model_name_or_path", "./nowhere"], "model ./nowhere: no such folder"),
        (["--swap_aug_ratio", "1.5"], "--swap_aug_ratio is a probability"),
        (["--ref_drop_ratio", "0.5", "--reference_prob", "0.5"], "say the same: give one of them"),
        (["--fsdp", "half_shard auto_wrap"], "--fsdp half_shard: expected full_shard"),
        (
            ["--fsdp", "full_shard auto_wrap", "--fsdp_transformer_layer_cls_to_wrap", "OPTDecoderLayer"],
            "has no such class (its layers are LlamaDecoderLayer)",
        ),
        (["--model_max_length", "100"], "no row can be trained on (found: 16 too_long)"),
        (["--eval_strategy", "epoch"], "--eval_strategy epoch needs --eval_data_path"),
        (["--label_smoothing_factor", "0.1"], "a judge is trained without label smoothing"),
        (["--no_such_flag", "1"], "unknown flags: --no_such_flag 1"),
        (["stray"], "expected a flag first, found 'stray'"),
        (["--resume_from_checkpoint", "nowhere"], "--resume_from_checkpoint nowhere: no such folder"),
        (["--resume_from_checkpoint", "True"], "holds no whole checkpoint"),
        (["--score_loss_weight", "0"], "expected a number above 0"),
        (["--fp16", "True"], "--fp16 needs a GPU"),
        (["--warmup_ratio", "1.0"], "--warmup_ratio: expected a share from 0 to below 1, found 1.0"),
        (["--report_to", "tensorboard,paper"], "--report_to paper: expected none or some of"),
        (["--eval_data_path", "nowhere.jsonl"], "--eval_data_path nowhere.jsonl: no such file"),
        (["--rope_scaling", "dynamic"], "expected linear or yarn"),
        (["--deepspeed", "nowhere.json"], "--deepspeed nowhere.json: no such file"),
        (["--deepspeed", "README.md"], "--deepspeed README.md:1: not JSON"),
        (["--deepspeed", "{x"], "--deepspeed: not JSON that can be read"),
        (["--lr_scheduler_kwargs", "{x"], "--lr_scheduler_kwargs: not JSON that can be read"),
        (["--accelerator_config", "nowhere.json"], "--accelerator_config nowhere.json: no such file"),
        (["--optim", "no_such"], "no_such is not a valid OptimizerNames"),
        (["--optim_args", "x"], "--optim adamw_torch: not enough values to unpack"),
        (["--dataloader_drop_last", "True", "--per_device_train_batch_size", "17"], "16 rows fill no batch of 17"),
        (["--per_device_train_batch_size", "0"], "--per_device_train_batch_size: expected 1 or more, found 0"),
        (["--gradient_accumulation_steps", "0"], "--gradient_accumulation_steps: expected 1 or more, found 0"),
        (["--num_train_epochs", "0"], "--num_train_epochs: expected a number above 0"),
    ],
)
def test_bad_flags_end_in_one_line(train_here: Any, tmp_path: Path, flags: list[str], expected: str) -> None:
    with pytest.raises(InputError) as error:
        train_here(*flags)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


# D24 of docs/differences.md
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], 0.0),
        (["--ref_drop_ratio", "0.3"], 0.3),
        (["--ref_drop_ratio", "-1.0"], 0.0),
        (["--reference_prob", "0.7"], 0.7),
    ],
)
def test_ref_drop_ratio_is_the_probability_of_a_reference(tmp_path: Path, flags: list[str], expected: float) -> None:
    from judgelm.train.settings import parse

    required = ["--data_path", "rows.jsonl", "--output_dir", str(tmp_path / "out")]
    settings = parse([*required, *flags], lora=False)
    assert settings.reference_prob == expected


@pytest.mark.parametrize("field", ["text", "text_w_reference"])
def test_a_judgement_that_no_tokenizer_can_read_ends_in_one_line(tmp_path: Path, field: str) -> None:
    from judgelm.train.encoder import ExampleEncoder
    from judgelm.train.rows import TrainingRows

    rows = write_jsonl(tmp_path / "half.jsonl", [training_record(1), training_record(2) | {field: "8 7\n\ud83d"}])
    with pytest.raises(InputError, match=r"half\.jsonl:2: the judgement has half a surrogate pair"):
        TrainingRows.load(str(rows), ExampleEncoder(train_byte_tokenizer(), 2048))


def test_published_flags_are_translated() -> None:
    from judgelm.train.published_flags import join_flags, split_flags, translate

    translated, notes = translate(split_flags([
        "--evaluation_strategy=no", "--warmup_ratio", "0.03", "--fsdp", "shard_grad_op auto_wrap offload",
        "--fsdp_transformer_layer_cls_to_wrap", "A", "--fsdp-config", '{"fsdp_min_num_params": 7}', "--tf32=True",
        "--group_by_length", "True", "--save_safetensors", "True", "--bf16",
    ]))  # fmt: skip
    flags = join_flags(translated)
    config = {"transformer_layer_cls_to_wrap": ["A"], "reshard_after_forward": False, "cpu_offload": True}
    *plain, name, text = flags
    assert plain == ["--eval_strategy", "no", "--warmup_steps", "0.03", "--fsdp", "--tf32", "True", "--bf16"]
    assert name == "--fsdp_config"
    assert json.loads(text) == {"min_num_params": 7} | config
    assert len(notes) == 6


def test_no_output_folder_ends_in_one_line() -> None:
    from judgelm.train.settings import parse

    with pytest.raises(InputError, match=r"--output_dir is missing \(found: --data_path; "):
        parse(["--data_path", "rows.jsonl"], lora=False)


def test_missing_flags_are_told_before_anything_is_loaded(run: Runner) -> None:
    code = (
        "import sys\nfrom judgelm.cli import main\ntry:\n    main(['train', '--lora', '--outputdir', 'x'])\n"
        "except SystemExit as end:\n    print(end.code, 'torch' in sys.modules)"
    )
    result = run("-c", code)
    assert result.stdout == "2 False\n"
    assert result.stderr == (
        "judgelm: error: --data_path and --output_dir are missing (found: --outputdir; --help lists the flags)\n"
    )


def test_bad_models_end_in_one_line(train_here: Any, tmp_path: Path, model_folder: Path) -> None:
    without_eos = Path(shutil.copytree(model_folder, tmp_path / "no-eos"))
    no_eos(without_eos)
    with pytest.raises(InputError, match="the tokenizer has no EOS token"):
        train_here("--model_name_or_path", without_eos)

    from transformers import GPT2Config, GPT2LMHeadModel

    short = tmp_path / "short"
    tokenizer = train_byte_tokenizer()
    GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, n_positions=256)
    ).save_pretrained(short)
    tokenizer.save_pretrained(short)
    with pytest.raises(InputError, match="is too short: its context is 256 tokens"):
        train_here("--model_name_or_path", short)
    with pytest.raises(InputError, match="no such linear layers"):
        train_here("--lora_target_modules", "query", lora=True)
    with pytest.raises(InputError, match="--q_lora needs a GPU"):
        train_here("--q_lora", "True", lora=True)

    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(model_folder)}))
    (adapter / "adapter_model.safetensors").write_bytes(b"cut short")
    with pytest.raises(InputError, match=r"is an adapter of .*: train it further with train_lora\.py"):
        train_here("--model_name_or_path", adapter)
    with pytest.raises(InputError, match=r"model .*adapter: the adapter cannot be used"):
        train_here("--model_name_or_path", adapter, lora=True)


def test_a_row_without_text_ends_in_one_line(train_here: Any, tmp_path: Path) -> None:
    record = training_record(1)
    del record["text"]
    file = write_jsonl(tmp_path / "bad.jsonl", [training_record(0), record])
    with pytest.raises(InputError, match=r"bad\.jsonl:2: field 'text' is missing"):
        train_here("--data_path", file)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("model.safetensors", "the file is cut short"),
        ("optimizer.pt", "optimizer* is missing or cut short"),
        ("trainer_state.json", "not JSON"),
    ],
)
def test_a_damaged_checkpoint_ends_in_one_line(
    train_here: Any, tmp_path: Path, model_folder: Path, damage: str, expected: str
) -> None:
    import torch

    folder = tmp_path / "out" / "checkpoint-4"
    shutil.copytree(model_folder, folder)
    (folder / "trainer_state.json").write_text('{"global_step": 4}')
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({}, folder / name)
    whole = (folder / damage).read_bytes()
    (folder / damage).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError) as error:
        train_here()
    assert expected in str(error.value)
    assert "checkpoint-4" in str(error.value)


def test_a_checkpoint_goes_on_as_it_was_begun(tmp_path: Path) -> None:
    """FSDP writes its weights as a folder of shards or, with FULL_STATE_DICT, as one file: both are its own."""
    import torch

    from judgelm.train.checkpoint import find_checkpoint

    folder = tmp_path / "checkpoint-4"
    folder.mkdir()
    (folder / "trainer_state.json").write_text('{"global_step": 4}')
    for name in ("pytorch_model_fsdp.bin", "optimizer.bin", "scheduler.pt", "rng_state.pth"):
        torch.save({}, folder / name)
    assert find_checkpoint(tmp_path, None, sharded=True) == (folder, None)
    with pytest.raises(InputError, match="is a sharded checkpoint: go on with --fsdp on GPUs"):
        find_checkpoint(tmp_path, None, sharded=False)


@pytest.mark.parametrize(
    ("context", "by_its_makers", "note", "rope_type"),
    [
        (2048, False, None, "default"),
        (1024, False, "positions are stretched (linear) from 1024 to 2048 tokens", "linear"),
        (8192, True, None, "yarn"),
    ],
)
def test_a_note_says_that_positions_are_stretched_only_where_they_are(
    tmp_path: Path, context: int, by_its_makers: bool, note: str | None, rope_type: str
) -> None:
    from judgelm.models.folder import find_model
    from judgelm.train.model import configure
    from judgelm.train.settings import parse

    folder = build_model(tmp_path / "m", train_byte_tokenizer(), context=context)
    if by_its_makers:
        rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048, "rope_theta": 1e4}
        stored = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(stored | {"rope_parameters": rope}))
    settings = parse(["--data_path", "rows.jsonl", "--output_dir", str(tmp_path / "out")], lora=False)
    config, said = configure(find_model(str(folder)), settings)
    assert said == note
    assert config.rope_parameters["rope_type"] == rope_type


@pytest.mark.parametrize(
    ("package", "flags"),
    [
        ("deepspeed", ["--deepspeed", "{}"]),
        ("bitsandbytes", ["--optim", "adamw_bnb_8bit"]),
        ("galore_torch", ["--optim", "galore_adamw"]),
        ("lomo_optim", ["--optim", "lomo"]),
        ("schedulefree", ["--optim", "schedule_free_adamw"]),
        ("mlflow", ["--report_to", "mlflow"]),
        ("neptune", ["--report_to", "neptune"]),
        ("comet_ml", ["--report_to", "comet_ml"]),
        ("codecarbon", ["--report_to", "codecarbon"]),
    ],
)
def test_a_flag_that_needs_a_missing_package_names_it_before_any_work(
    train_here: Any, tmp_path: Path, package: str, flags: list[str]
) -> None:
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed here")
    with pytest.raises(InputError) as error:
        train_here(*flags)
    assert str(error.value).startswith(flags[0])
    assert package in str(error.value).replace("-", "_")
    assert not (tmp_path / "out").exists()


def test_a_pad_token_beyond_the_embedding_is_filled_with_eos(tmp_path: Path) -> None:
    """A tokenizer that got a pad token later is longer than its model's embedding."""
    from transformers import AutoModelForCausalLM

    from judgelm.models.folder import find_model
    from judgelm.train.model import find_padding

    tokenizer = train_byte_tokenizer()
    folder = find_model(str(build_model(tmp_path / "m", tokenizer)))
    model = AutoModelForCausalLM.from_pretrained(folder.path)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id == model.get_input_embeddings().weight.shape[0]
    assert find_padding(model, tokenizer, folder) == tokenizer.eos_token_id
    tokenizer.add_special_tokens({"eos_token": "[END]"})
    with pytest.raises(InputError, match="its EOS token 585 is none of the embedding's 584 rows"):
        find_padding(model, tokenizer, folder)
    longer = train_byte_tokenizer(pad=True)
    model.resize_token_embeddings(500)
    with pytest.raises(InputError, match="tokens up to 583, the model's embedding 500 rows: they do not belong"):
        find_padding(model, longer, folder)
