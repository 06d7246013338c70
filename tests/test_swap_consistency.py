"""Training on both orders at once, with the divergence between their scores in the loss."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import (
    QUIET,
    build_model,
    train_byte_tokenizer,
    train_sentencepiece_tokenizer,
    training_record,
    write_jsonl,
)
from forked import run_forked

from judgelm.criteria import PUBLISHED, Scale
from judgelm.distribution import line_text, score_lines
from judgelm.engine.score_line import line_tokens
from judgelm.errors import InputError
from judgelm.train.attention import register_packed_attention
from judgelm.train.collator import IGNORED, Collator, PairCollator
from judgelm.train.consistency import ScoreTree, SwapTerm, count_pairs
from judgelm.train.encoder import ExampleEncoder
from judgelm.train.examples import Augmentation, JudgeDataset
from judgelm.train.rows import TrainingRows
from judgelm.train.settings import parse
from judgelm.train.trainer import judgement_loss
from judgelm.train.training import train

KIND = {"name": "manners", "scale": [0, 3], "aspects": [{"name": "kind", "text": "Is it kind?"}]}
SHARDED = {"CALL_IT_FSDP": "1"}
TURNS = [
    {"role": "user", "content": "Hello?"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "And now?"},
]


def mixed_records() -> list[dict[str, Any]]:
    """Pairs, some with a reference, by criteria and after a dialogue; grades; and thoughts before the scores."""
    dialogue = training_record(3, reference=False)
    del dialogue["question_body"]
    graded = {"question_id": 4, "question_body": "Hello?", "answer_body": "thanks", "text": "8\nKind."}
    return [
        training_record(1, words=5),
        training_record(2, words=9, reference=False) | {"criteria": KIND, "text": "1 3\nAssistant 1 said little."},
        dialogue | {"messages": TURNS},
        graded,
        training_record(5, reference=False) | {"text": "<think>Assistant 1 is short.</think>\n3 8"},
        training_record(6, words=2),
    ]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setenv("JUDGELM_CACHE", str(tmp_path / "judgelm"))


def open_rows(tmp_path: Path, tokenizer: Any, records: list[dict[str, Any]], reference: float = 0.0) -> JudgeDataset:
    encoder = ExampleEncoder(tokenizer, 2048)
    rows = TrainingRows.load(str(write_jsonl(tmp_path / "rows.jsonl", records)), encoder)
    return JudgeDataset(rows, encoder, Augmentation(0.0, reference))


def plant(tokenizer: Any) -> dict[Scale, ScoreTree]:
    return {scale: ScoreTree(scale, tokenizer) for scale in (PUBLISHED, Scale(0, 3))}


def jensen_shannon(first: torch.Tensor, second: torch.Tensor) -> float:
    middle = (first + second) / 2
    return sum(float(torch.special.xlogy(each, each / middle).sum()) for each in (first, second)) / 2


def shares_one_by_one(model: Any, tokenizer: Any, prompt: list[int], scale: Scale) -> torch.Tensor:
    """Of each line, its share of all, from passes over the prompt and the line alone, newline left out where it may."""
    lines = line_tokens([line_text(line) for line in score_lines(scale=scale)], "", tokenizer)
    found = []
    for line in lines:
        others = [other for other in lines if other != line]
        num = next(n for n in range(1, len(line) + 1) if not any(other[:n] == line[:n] for other in others))
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *line[:num]]])).logits[0].log_softmax(-1)
        found.append(sum(float(logits[len(prompt) - 1 + n, token]) for n, token in enumerate(line[:num])))
    return torch.tensor(found).softmax(-1)


@pytest.mark.parametrize("kind", ["llama", "sentencepiece", "window", "no logits_to_keep"])
def test_the_divergence_is_that_of_all_lines_read_one_by_one(tmp_path: Path, kind: str) -> None:
    from transformers import AutoModelForCausalLM, MistralConfig, MistralForCausalLM

    tokenizer = train_sentencepiece_tokenizer() if kind == "sentencepiece" else train_byte_tokenizer()
    folder = build_model(tmp_path / "m", tokenizer)
    if kind == "window":
        small = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
        config = MistralConfig(
            **small, vocab_size=len(tokenizer), num_hidden_layers=2, sliding_window=60, initializer_range=0.3
        )
        MistralForCausalLM(config).save_pretrained(folder)
    data = open_rows(tmp_path, tokenizer, mixed_records(), reference=1.0)
    rows = [data.in_both_orders(row) for row in range(len(data))]
    assert [len(row.examples) for row in rows] == [2, 2, 2, 1, 2, 2]
    assert [row.scale for row in rows] == [PUBLISHED, Scale(0, 3), PUBLISHED, None, None, PUBLISHED]
    trees = plant(tokenizer)
    batch = PairCollator(Collator(0, packing=True, narrow=kind != "no logits_to_keep"), trees)(rows)
    packed = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=register_packed_attention())
    inputs = {name: value for name, value in batch.items() if name not in ("labels", "comparisons", "is_second")}
    logits = packed(**inputs, use_cache=False).logits
    assert count_pairs(batch["comparisons"]) == 4
    term = SwapTerm(3.0, trees)
    loss = term(logits, batch["comparisons"], True)
    alone = AutoModelForCausalLM.from_pretrained(folder)
    expected = []
    for row in rows:
        if row.scale is None:
            continue
        first, second = (
            shares_one_by_one(alone, tokenizer, example.input_ids[: example.num_prompt], row.scale)
            for example in row.examples
        )
        lines = score_lines(scale=row.scale)
        mirrored = torch.stack([second[lines.index(line[::-1])] for line in lines])
        expected.append(jensen_shannon(first, mirrored))
    assert min(expected) > 1e-3
    assert loss.item() == pytest.approx(3 * sum(expected) / 4, rel=1e-3)
    assert term.take(True, torch.device("cpu")).tolist() == pytest.approx([sum(expected), 4], rel=1e-3)
    # the judgements of both orders are learnt as they are alone
    examples = [example for row in rows for example in row.examples]
    labels = batch["labels"]
    together = judgement_loss(logits, labels)
    single = Collator(0, packing=True)(examples)
    plain = judgement_loss(packed(**{k: v for k, v in single.items() if k != "labels"}).logits, single["labels"])
    assert together.item() == pytest.approx(plain.item(), rel=1e-5)
    targets = labels != IGNORED
    exchanged = [row.examples[1] for row in rows if len(row.examples) == 2]
    assert int((batch["is_second"] & targets).sum()) == sum(len(e.input_ids) - e.num_prompt for e in exchanged)


def logits_of(tree: ScoreTree, shares: dict[tuple[int, int], float], tokenizer: Any) -> torch.Tensor:
    """Logits at the prompt's end and the nodes of a judge with these shares of lines, on the scale 0 to 3."""
    scores = [(first, second) for first in range(4) for second in range(4)]
    lines = line_tokens([line_text(line) for line in scores], "", tokenizer)
    weights = dict(zip(lines, (shares.get(line, 0.0) for line in scores), strict=True))
    places: list[tuple[int, ...]] = [(), *({line[:n] for line in lines for n in range(1, len(line) - 1)})]
    places.sort(key=lambda node: (len(node), node))
    logits = torch.full((len(places), len(tokenizer)), -30.0)
    for row, node in enumerate(places):
        for token in {line[len(node)] for line in lines if line[: len(node)] == node}:
            begun = (*node, token)
            mass = sum(weight for line, weight in weights.items() if line[: len(begun)] == begun)
            logits[row, token] = math.log(mass) if mass else -30.0
    assert len(places) == 1 + len(tree.tokens)
    return logits


@pytest.mark.parametrize(
    ("given", "exchanged", "expected"),
    [
        # torn between two outcomes, but in the same way in both orders: the scores of an answer depend on one another
        ({(3, 1): 0.5, (1, 3): 0.5}, {(3, 1): 0.5, (1, 3): 0.5}, 0.0),
        ({(3, 1): 0.7, (1, 3): 0.3}, {(1, 3): 0.7, (3, 1): 0.3}, 0.0),
        ({(2, 2): 1.0}, {(2, 2): 1.0}, 0.0),
        # for the first answer, wherever it stands
        ({(3, 1): 1.0}, {(3, 1): 1.0}, math.log(2)),
        # each answer's scores are as likely, but never the two together
        ({(3, 1): 0.5, (1, 3): 0.5}, {(3, 3): 0.5, (1, 1): 0.5}, math.log(2)),
        # a half against 0, and a half against 1
        ({(3, 1): 0.5, (2, 2): 0.5}, {(2, 2): 1.0}, math.log(2) / 4 + math.log(2 / 3) / 4 + math.log(4 / 3) / 2),
    ],
)
def test_only_what_the_swap_changes_counts(
    given: dict[tuple[int, int], float], exchanged: dict[tuple[int, int], float], expected: float
) -> None:
    tokenizer = train_byte_tokenizer()
    tree = ScoreTree(Scale(0, 3), tokenizer)
    logits = torch.cat([logits_of(tree, shares, tokenizer) for shares in (given, exchanged)])
    places = torch.arange(len(logits)).view(1, 2, -1)
    assert tree.divergences(logits, places).item() == pytest.approx(expected, abs=1e-5)


def train_here(output: Path, model: Path, rows: Path, *flags: object, lora: bool = False) -> None:
    required = ["--output_dir", output, "--model_name_or_path", model, "--data_path", rows, "--save_strategy", "no"]
    train(parse([*map(str, [*required, *flags, *QUIET])], lora))


def logged(output: Path, name: str) -> list[float]:
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return [entry[name] for entry in history if name in entry]


def weights(output: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    (file,) = output.glob("*model.safetensors")
    return load_file(file)


def test_without_a_weight_training_is_what_it_was(
    tmp_path: Path, model_folder: Path, train_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No flag, the flag's 0, and the plain loop that a training is: the same bits."""
    flags = ("--num_train_epochs", 2, "--per_device_train_batch_size", 8, "--learning_rate", 1e-3, "--swap_aug_ratio",
             0.5, "--lr_scheduler_type", "constant", "--max_grad_norm", 0)  # fmt: skip
    train_here(tmp_path / "plain", model_folder, train_file, *flags)
    train_here(tmp_path / "zero", model_folder, train_file, *flags, "--swap_consistency", 0)
    assert (tmp_path / "plain/model.safetensors").read_bytes() == (tmp_path / "zero/model.safetensors").read_bytes()
    assert logged(tmp_path / "plain", "loss") == logged(tmp_path / "zero", "loss")
    assert not logged(tmp_path / "zero", "swap_divergence")
    assert "swap" not in capsys.readouterr().err

    from transformers import AutoModelForCausalLM

    from judgelm.train.examples import EpochSampler

    model = AutoModelForCausalLM.from_pretrained(model_folder).train()
    encoder = ExampleEncoder(train_byte_tokenizer(), 2048)
    data = JudgeDataset(TrainingRows.load(str(train_file), encoder), encoder, Augmentation(0.5, 0.0, seed=42))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    sampler, collate = EpochSampler(len(data), seed=42), Collator(train_byte_tokenizer().eos_token_id)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        order = list(sampler)
        for begin in range(0, len(order), 8):
            batch = collate([data[index] for index in order[begin : begin + 8]])
            labels = batch.pop("labels")
            torch.autograd.backward(judgement_loss(model(**batch, use_cache=False).logits, labels))
            optimizer.step()
            optimizer.zero_grad()
    trained = weights(tmp_path / "zero")
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), trained[name], rtol=0, atol=1e-6)


def test_the_term_lowers_the_divergence_on_rows_that_were_not_seen(
    tmp_path: Path, model_folder: Path, train_file: Path
) -> None:
    held_out = write_jsonl(tmp_path / "held.jsonl", [training_record(n, words=2 + n % 3) for n in range(100, 112)])

    def measure(weight: float) -> tuple[list[float], list[float], list[float]]:
        output = tmp_path / f"w{weight}"
        train_here(output, model_folder, train_file, "--eval_data_path", held_out, "--eval_strategy", "epoch",
                   "--num_train_epochs", 5, "--per_device_train_batch_size", 8, "--learning_rate", 1e-3,
                   "--swap_aug_ratio", 0.5, "--swap_consistency", weight)  # fmt: skip
        return logged(output, "eval_swap_divergence"), logged(output, "eval_loss"), logged(output, "swap_divergence")

    without, loss_without, _ = measure(1e-9)
    divergences, loss, trained = measure(1.0)
    assert len(divergences) == 5
    assert len(trained) == 10
    assert divergences[-1] < divergences[0]
    assert divergences[-1] < without[-1] / 3
    assert trained[-1] < trained[0] / 3
    assert loss[-1] < loss_without[-1] * 1.1
    assert "both orders in each step" in (tmp_path / "w1.0/README.md").read_text()
    # a weight is a part of what a training is
    kept = (tmp_path / "kept", model_folder, train_file, "--save_strategy", "epoch", "--max_steps", 1)
    train_here(*kept, "--swap_consistency", 1)
    with pytest.raises(InputError, match=r"a training with swap_consistency 1\.0, found 2\.0"):
        train_here(*kept, "--swap_consistency", 2)


@pytest.fixture
def forked(tmp_path: Path) -> Any:
    """Run a training script in as many processes; what it left in its output folder."""
    environment = {**os.environ, "JUDGELM_CACHE": str(tmp_path / "judgelm"), "PYTHONWARNINGS": "ignore",
                   "HF_DATASETS_CACHE": str(tmp_path / "datasets")}  # fmt: skip

    def start(output: Path, processes: int, *command: object, code: int = 0, **variables: str) -> list[dict[str, Any]]:
        report = tmp_path / f"report-{output.name}"
        report.mkdir(exist_ok=True)
        command = ("tests/fsdp_on_cpu.py", report, *command, "--output_dir", output, *QUIET)
        result = run_forked(command, environment | variables, processes)
        assert (result.returncode == 0) == (code == 0), result.stderr
        return [json.loads(file.read_text()) for file in sorted(report.glob("rank*.json"))]

    return start


def same(one: Path, other: Path, rel: float, names: tuple[str, ...]) -> None:
    for name in names:
        assert len(logged(one, name)) > 1
        assert logged(one, name) == pytest.approx(logged(other, name), rel=rel, abs=1e-6), name
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=0, atol=1e-4)


def test_batch_accumulation_and_processes_are_interchangeable(tmp_path: Path, model_folder: Path, forked: Any) -> None:
    """Rows of all kinds, so that processes have unlike numbers of pairs; and sharded by FSDP."""
    rows = [row | {"question_id": 10 * n + k} for n in range(3) for k, row in enumerate(mixed_records())]
    file, held = write_jsonl(tmp_path / "rows.jsonl", rows), write_jsonl(tmp_path / "held.jsonl", rows[:6])
    flags = ("--model_name_or_path", model_folder, "--data_path", file, "--num_train_epochs", 2, "--learning_rate",
             1e-3, "--reference_prob", 0.5, "--swap_consistency", 2, "--score_loss_weight", 3, "--eval_data_path",
             held, "--eval_strategy", "epoch", "--save_strategy", "no", "--logging_steps", 2,
             "--per_device_eval_batch_size", 3)  # fmt: skip
    script = "judgelm/train/train_xformers.py"
    shapes = {
        "whole": (1, 6, 1, (), {}),
        "single": (1, 1, 6, ("--pretokenize", True), {}),
        "two": (2, 3, 1, ("--packing", True, "--dataloader_num_workers", 1), {}),
        "sharded": (2, 1, 3, ("--fsdp", "full_shard auto_wrap", "--gradient_checkpointing", True), SHARDED),
    }
    for name, (processes, batch, accumulation, more, variables) in shapes.items():
        ranks = forked(tmp_path / name, processes, script, *flags, "--per_device_train_batch_size", batch,
                       "--gradient_accumulation_steps", accumulation, *more, **variables)  # fmt: skip
        assert all(rank["fsdp"] == (name == "sharded") for rank in ranks)
        # the last forward pass was an evaluation's, after which the outermost parameters stay gathered
        assert all(("DTensor" in rank["kinds"]) == (name == "sharded") for rank in ranks)
        same(tmp_path / name, tmp_path / "whole", 1e-4, ("loss", "swap_divergence", "eval_swap_divergence"))


def test_an_adapter_is_killed_and_goes_on(tmp_path: Path, model_folder: Path, train_file: Path, forked: Any) -> None:
    flags = ("judgelm/train/train_lora.py", "--model_name_or_path", model_folder, "--data_path", train_file,
             "--num_train_epochs", 2, "--per_device_train_batch_size", 4, "--learning_rate", 1e-2, "--save_steps", 3,
             "--lora_dropout", 0.1, "--swap_consistency", 1, "--bf16", True,
             "--gradient_checkpointing", True)  # fmt: skip
    forked(tmp_path / "undisturbed", 1, *flags)
    forked(tmp_path / "killed", 1, *flags, code=1, DIE_AT_STEP="5")
    forked(tmp_path / "killed", 1, *flags)
    same(tmp_path / "killed", tmp_path / "undisturbed", 1e-6, ("loss", "swap_divergence"))
    assert logged(tmp_path / "killed", "swap_divergence")[-1] < logged(tmp_path / "killed", "swap_divergence")[0]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--swap_consistency", "-1"], "--swap_consistency: expected a number from 0 on, found -1.0"),
        (["--swap_consistency", "nan"], "--swap_consistency: expected a number from 0 on, found nan"),
        (["--swap_consistency", "inf"], "--swap_consistency: expected a number from 0 on, found inf"),
        (["--swap_consistency", "much"], "invalid float value: 'much'"),
    ],
)
def test_a_weight_that_is_none_ends_in_one_line(
    tmp_path: Path, model_folder: Path, train_file: Path, flags: list[str], expected: str
) -> None:
    with pytest.raises(InputError) as error:
        train_here(tmp_path / "out", model_folder, train_file, *flags)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_rows_that_cannot_be_compared_are_counted_and_refused_where_there_are_no_others(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thoughts = training_record(1, reference=False) | {"text": "<think>Assistant 1 is short.</think>\n3 8"}
    last = training_record(2, reference=False) | {"text": "Assistant 2 says more.\n3 8"}
    wide = {"name": "wide", "scale": [0, 100], "aspects": [{"name": "kind", "text": "Is it kind?"}]}
    too_many = training_record(3, reference=False) | {"criteria": wide, "text": "70 80"}
    graded = {"question_id": 4, "question_body": "Hello?", "answer_body": "thanks", "text": "8\nKind."}
    records = [thoughts, last, too_many, graded]
    file = write_jsonl(tmp_path / "none.jsonl", records)
    with pytest.raises(InputError, match=r"none\.jsonl: 0 of 4 rows have two answers and scores that come first"):
        train_here(tmp_path / "out", model_folder, file, "--swap_consistency", 1)
    assert not (tmp_path / "out").exists()
    file = write_jsonl(tmp_path / "one.jsonl", [*records, training_record(5)])
    train_here(tmp_path / "out", model_folder, file, "--swap_consistency", 1, "--num_train_epochs", 1,
               "--per_device_train_batch_size", 1)  # fmt: skip
    assert "swap consistency: 1 of 5 rows have two answers and scores that come first" in capsys.readouterr().err
    # a step in which no row is compared has none
    assert len(logged(tmp_path / "out", "loss")) == 5
    assert len(logged(tmp_path / "out", "swap_divergence")) == 1


def test_rows_that_are_compared_with_their_reference_alone_are_compared(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thought = training_record(1) | {"text": "<think>Assistant 1 is short.</think>\n3 8"}
    other = training_record(2, reference=False) | {"criteria": KIND, "text": "1 3\nAssistant 1 said little."}
    file = write_jsonl(tmp_path / "rows.jsonl", [thought, other])
    train_here(tmp_path / "out", model_folder, file, "--swap_consistency", 1, "--num_train_epochs", 1,
               "--per_device_train_batch_size", 1, "--reference_prob", 1)  # fmt: skip
    assert "swap consistency: 2 of 2 rows have two answers and scores that come first" in capsys.readouterr().err
    assert len(logged(tmp_path / "out", "swap_divergence")) == 2


def test_models_that_cannot_read_score_lines_beside_the_judgement_end_in_one_line(
    tmp_path: Path, model_folder: Path, train_file: Path
) -> None:
    import shutil

    from transformers import BloomConfig, BloomForCausalLM

    tokenizer = train_byte_tokenizer()
    bloom = tmp_path / "bloom"
    BloomForCausalLM(BloomConfig(vocab_size=len(tokenizer), hidden_size=32, n_layer=1, n_head=2)).save_pretrained(bloom)
    tokenizer.save_pretrained(bloom)
    with pytest.raises(InputError, match="a BloomForCausalLM cannot be packed, leave --swap_consistency away"):
        train_here(tmp_path / "out", bloom, train_file, "--swap_consistency", 1)

    # digits that are all one token
    alike = Path(shutil.copytree(model_folder, tmp_path / "alike"))
    rules = json.loads((alike / "tokenizer.json").read_text())
    digit = {"type": "Replace", "pattern": {"Regex": "[0-9]"}, "content": "1"}
    rules["normalizer"] = digit
    (alike / "tokenizer.json").write_text(json.dumps(rules))
    with pytest.raises(InputError, match="the tokenizer cannot write score lines, two of those from 1 to 10 are alike"):
        train_here(tmp_path / "out", alike, train_file, "--swap_consistency", 1)

    # layers that would read the lines as a part of the text
    mixed = Path(shutil.copytree(model_folder, tmp_path / "mixed"))
    config = json.loads((mixed / "config.json").read_text())
    small = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 16}
    for more, kind in (
        ({"layer_types": ["full_attention", "chunked_attention"]}, "chunked_attention"),
        ({"attn_logit_softcapping": 50.0}, "soft capping"),
    ):
        (mixed / "config.json").write_text(json.dumps(config | small | more))
        with pytest.raises(InputError, match=rf"layers of another kind than plain attention .*\({kind}\)"):
            train_here(tmp_path / "out", mixed, train_file, "--swap_consistency", 1)
    assert not (tmp_path / "out").exists()
