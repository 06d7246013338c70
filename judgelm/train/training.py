"""A training, from settings to a folder that `judgelm judge --model` takes."""

from __future__ import annotations

import inspect
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import set_seed

from judgelm.errors import InputError, one_line
from judgelm.files import write_text
from judgelm.jsonl import Record, dump_json
from judgelm.models.folder import TRAINING_FILE, ModelFolder, find_model
from judgelm.models.loading import load_tokenizer
from judgelm.train import fsdp
from judgelm.train.arguments import Settings
from judgelm.train.card import Counts, write_card
from judgelm.train.checkpoint import check_same, find_checkpoint
from judgelm.train.collator import Collator, PairCollator
from judgelm.train.consistency import SwapTerm, plant_trees
from judgelm.train.encoder import ExampleEncoder
from judgelm.train.examples import Augmentation, BothOrders, JudgeDataset, pretokenize
from judgelm.train.model import (
    choose_attention,
    configure,
    find_experts,
    find_layer_classes,
    find_padding,
    load,
    name_base,
)
from judgelm.train.preferences import PreferenceRows
from judgelm.train.rows import TrainingRows
from judgelm.train.settings import check_fills_a_batch, check_optimizer
from judgelm.train.trainer import JudgeTrainer

LoadModel = Callable[[], Any]
"""the model as it is before the training"""


@dataclass(frozen=True)
class _Lesson:
    """What is trained on, and how."""

    fingerprint: str
    counts: Counts
    tokenizer: Any
    make_trainer: Callable[[Any, int, LoadModel], Any]
    """of a model, with the padding token"""


def train(settings: Settings, *, flash: bool | None = None) -> Any:
    """Run a training and return its trainer. Raises InputError, before any long work, for what cannot be trained.

    `flash`: use flash-attn 2 and say so where it cannot be had, never use it, or (None) use it where it can be had.
    """
    _say(*(f"note: {note}" for note in settings.notes))
    args, output = settings.training, Path(settings.training.output_dir or "").expanduser()
    folder = _find_folder(settings)
    encoder = ExampleEncoder(load_tokenizer(folder), args.model_max_length)
    config, attention, checkpoint = _find_start(settings, folder, output, flash)
    lesson = (_prepare_preferences if settings.prefers else _prepare_judgements)(settings, encoder)
    record = _identify(settings, lesson.fingerprint, folder.fingerprint())
    if checkpoint is not None:
        check_same(checkpoint.parent, record)
        _say(f"going on from {checkpoint}")
    # LoRA's matrices are drawn here: the same on every process and in every session
    set_seed(args.seed)
    load_model = partial(load, folder, config, settings, attention)
    model = load_model()
    if settings.lora is not None and folder.base is None and (experts := find_experts(model)):
        _say(f"note: the update leaves the experts out: {experts[0]} and {len(experts) - 1} more stay as they are")
    trainer = _make_trainer(settings, folder, model, lesson, load_model)
    if trainer.is_world_process_zero():
        write_text(output / TRAINING_FILE, dump_json(record, indent=2) + "\n")
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.monotonic() - began
    trainer.save_state()
    trainer.save_model()
    if trainer.is_world_process_zero():
        if settings.lora is not None:
            name_base(output, folder.base or folder)
        write_card(output, settings, folder, lesson.counts, trainer.state, seconds)
    trainer.accelerator.end_training()
    _say(f"the judge is in {output}: judgelm judge --model {output} --question-file FILE --output-dir DIR")
    return trainer


def _find_folder(settings: Settings) -> ModelFolder:
    folder = find_model(settings.model.model_name_or_path, settings.training.cache_dir)
    base = folder.base or folder
    if base.base is not None or (folder.base is not None and settings.lora is None):
        raise InputError(
            f"model {folder.name} is an adapter of {base.name}: train it further with train_lora.py, where {base.name}"
            " is none itself, or merge it first, with judgelm merge"
        )
    if folder.base is not None:
        _say(
            f"note: the adapter {folder.name} is trained further: it keeps its rank and layers, whatever --lora_* says"
        )
    return folder


def _find_start(
    settings: Settings, folder: ModelFolder, output: Path, flash: bool | None
) -> tuple[Any, str | None, Path | None]:
    """The model's config, its attention, and the checkpoint to go on from."""
    args, base = settings.training, folder.base or folder
    config, stretched = configure(base, settings)
    attention, note = choose_attention(settings, flash)
    checkpoint, unfinished = find_checkpoint(output, args.resume_from_checkpoint, fsdp.is_wanted(args))
    _say(*(f"note: {line}" for line in (stretched, note, unfinished) if line))
    if args.fsdp_config:
        # a wrong name is a mistake, whether this machine shards or not
        classes = find_layer_classes(base, config, args.fsdp_config.get("transformer_layer_cls_to_wrap"))
        if args.fsdp_plugin_args is not None:
            fsdp.prepare(args, classes, settings.lora is not None)
    return config, attention, checkpoint


def _read_rows(settings: Settings, encoder: ExampleEncoder) -> tuple[JudgeDataset, JudgeDataset | None]:
    """What is trained on and, where there is one, what is evaluated on, never augmented; says what they hold."""
    args, sources = settings.training, [settings.data.data_path]
    if settings.data.eval_data_path is not None:
        sources.append(settings.data.eval_data_path)
    ways = (Augmentation(settings.swap_prob, settings.reference_prob, settings.data_seed), Augmentation())
    with args.main_process_first(local=True, desc="reading the rows"):
        sets = [_read(source, settings, encoder, way) for source, way in zip(sources, ways, strict=False)]
    for source, each in zip(sources, sets, strict=True):
        _say(source, *(f"  {line}" for line in each.rows.counts.lines()))
    train_set, eval_set = sets[0], sets[1] if len(sets) > 1 else None
    if eval_set is not None and (common := train_set.rows.counts.overlap(eval_set.rows.counts)):
        _say(f"note: {common} questions stand in both files")
    check_fills_a_batch(args, len(train_set))
    return train_set, eval_set


def _read(source: str, settings: Settings, encoder: ExampleEncoder, augmentation: Augmentation) -> JudgeDataset:
    rows = TrainingRows.load(source, encoder, settings.columns)
    processes = settings.training.dataloader_num_workers or None
    variants = pretokenize(rows, encoder, processes) if settings.data.pretokenize else None
    return JudgeDataset(rows, encoder, augmentation, variants)


def _compare_orders(settings: Settings, train_set: JudgeDataset, eval_set: JudgeDataset | None) -> SwapTerm | None:
    """The loss's term of `--swap_consistency`; None without it."""
    if not settings.both_orders:
        return None
    sets = [each.rows for each in (train_set, eval_set) if each is not None]
    trees, line = plant_trees(sets, train_set.encoder.tokenizer)
    _say(line)
    if settings.swap_prob:
        _say("note: --swap_aug_ratio has no effect: --swap_consistency shows each row in both orders")
    return SwapTerm(settings.data.swap_consistency, trees)


def _prepare_judgements(settings: Settings, encoder: ExampleEncoder) -> _Lesson:
    train_set, eval_set = _read_rows(settings, encoder)
    swap_term = _compare_orders(settings, train_set, eval_set)

    def make(model: Any, pad: int, load_model: LoadModel) -> Any:
        inner: Any = model if settings.lora is None else model.get_base_model()
        narrow = "logits_to_keep" in inspect.signature(inner.forward).parameters
        collator = Collator(pad, settings.packing, narrow, settings.data.score_loss_weight)
        both = swap_term is not None
        return JudgeTrainer(
            model=model,
            args=settings.training,
            train_dataset=BothOrders(train_set) if both else train_set,
            eval_dataset=BothOrders(eval_set) if both and eval_set is not None else eval_set,
            data_collator=PairCollator(collator, swap_term.trees) if swap_term is not None else collator,
            processing_class=encoder.tokenizer,
            swap_term=swap_term,
        )

    return _Lesson(train_set.rows.fingerprint, train_set.rows.counts, encoder.tokenizer, make)


def _prepare_preferences(settings: Settings, encoder: ExampleEncoder) -> _Lesson:
    data = settings.data
    sources = [data.data_path] if data.eval_data_path is None else [data.data_path, data.eval_data_path]
    sets = [PreferenceRows.load(source, encoder) for source in sources]
    for rows in sets:
        _say(rows.name, *(f"  {line}" for line in rows.lines()))
    check_fills_a_batch(settings.training, len(sets[0]))

    def make(model: Any, pad: int, load_model: LoadModel) -> Any:
        # needs TRL
        from judgelm.train.dpo import make_trainer

        reference = load_model().requires_grad_(False) if settings.lora is None else None
        return make_trainer(model, reference, settings.training, data.dpo_beta, pad, sets, encoder.tokenizer)

    return _Lesson(sets[0].fingerprint, sets[0], encoder.tokenizer, make)


def _make_trainer(settings: Settings, folder: ModelFolder, model: Any, lesson: _Lesson, load_model: LoadModel) -> Any:
    args = settings.training
    # its loader processes are forked after the tokenizer has run
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        trainer = lesson.make_trainer(model, find_padding(model, lesson.tokenizer, folder), load_model)
        check_optimizer(args, model)
    except (ValueError, ImportError, RuntimeError, OSError) as error:
        raise InputError(one_line(str(error))) from error
    if args.fsdp and not trainer.is_fsdp_enabled:
        fsdp.check_not_needed(args)
        _say("note: --fsdp has no effect without a GPU: every process holds the whole model")
    return trainer


def _identify(settings: Settings, rows: str, model: str) -> Record:
    """What must stay the same for a training to go on as if it had not been interrupted."""
    args = settings.training
    return {
        "model": model,
        "data": rows,
        "global_batch_size": settings.global_batch,
        "seed": settings.data_seed,
        "order": args.train_sampling_strategy,
        "swap_aug_ratio": settings.swap_prob,
        "reference_prob": settings.reference_prob,
        "model_max_length": args.model_max_length,
        "score_loss_weight": settings.data.score_loss_weight,
        "swap_consistency": settings.data.swap_consistency,
        "num_train_epochs": args.num_train_epochs,
        "max_steps": args.max_steps,
        "learning_rate": args.learning_rate,
        "lora": None if settings.lora is None else vars(settings.lora),
        "method": settings.data.method,
        "dpo_beta": settings.data.dpo_beta if settings.prefers else None,
    }


def _say(*lines: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        for line in lines:
            print(f"judgelm: {line}", file=sys.stderr, flush=True)
