"""Fine-tune a judge: flags -> rows, model, trainer -> a folder that `judgelm judge --model` takes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from judgelm.console import run_main
from judgelm.errors import InputError, one_line
from judgelm.files import write_text
from judgelm.jsonl import Record, dump_json

if TYPE_CHECKING:
    from judgelm.encoding import ExampleEncoder
    from judgelm.models.folder import ModelFolder
    from judgelm.train.arguments import Settings
    from judgelm.train.counts import Summary
    from judgelm.train.dataset import Collator, JudgeDataset, TrainingRows


def train(argv: Sequence[str] | None = None, *, flash: bool | None = None, lora: bool = False) -> None:
    """Run a training from its command line. Raises InputError, before any long work, for what cannot be trained.

    `flash`: use flash-attn 2 and say so where it cannot be had, never use it, or (None) use it where it can be had.
    """
    from transformers import set_seed

    from judgelm.encoding import ExampleEncoder
    from judgelm.models.folder import find_model
    from judgelm.models.loading import load_tokenizer
    from judgelm.train import fsdp
    from judgelm.train.arguments import check_fills_a_batch, check_optimizer, parse
    from judgelm.train.card import write_card
    from judgelm.train.checkpoint import SETTINGS, check_same, find_checkpoint
    from judgelm.train.model import choose_attention, configure, find_experts, find_layer_classes, load, name_base
    from judgelm.train.trainer import JudgeTrainer

    settings, notes = parse(sys.argv[1:] if argv is None else argv, lora)
    _say(*(f"note: {note}" for note in notes))
    args, output = settings.training, Path(settings.training.output_dir or "").expanduser()
    folder = find_model(settings.model.model_name_or_path, args.cache_dir)
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
    tokenizer = load_tokenizer(folder)
    encoder = ExampleEncoder(tokenizer, args.model_max_length)
    config, stretched = configure(base, settings)
    attention, note = choose_attention(settings, flash)
    checkpoint, unfinished = find_checkpoint(output, args.resume_from_checkpoint, fsdp.is_wanted(args))
    _say(*(f"note: {line}" for line in (stretched, note, unfinished) if line))
    if args.fsdp_config:
        # a wrong name is a mistake, whether this machine shards or not
        classes = find_layer_classes(base, config, args.fsdp_config.get("transformer_layer_cls_to_wrap"))
        if args.fsdp_plugin_args is not None:
            fsdp.prepare(args, classes, settings.lora is not None)

    with args.main_process_first(local=True, desc="reading the rows"):
        train_set, summary = _read(settings.data.data_path, encoder, settings, augmented=True)
        eval_set, eval_summary = None, None
        if settings.data.eval_data_path is not None:
            eval_set, eval_summary = _read(settings.data.eval_data_path, encoder, settings, augmented=False)
    _say(f"{settings.data.data_path}", *(f"  {line}" for line in summary.lines()))
    if eval_summary is not None:
        common = summary.overlap(eval_summary)
        _say(f"{settings.data.eval_data_path}", *(f"  {line}" for line in eval_summary.lines()))
        _say(*([f"note: {common} questions stand in both files"] if common else []))

    check_fills_a_batch(args, len(train_set))
    record = _identify(settings, train_set.rows, folder.fingerprint())
    if checkpoint is not None:
        check_same(checkpoint.parent, record)
        _say(f"going on from {checkpoint}")
    # LoRA's matrices are drawn here: the same on every process and in every session
    set_seed(args.seed)
    model = load(folder, config, settings, attention)
    if settings.lora is not None and folder.base is None and (experts := find_experts(model)):
        _say(f"note: the update leaves the experts out: {experts[0]} and {len(experts) - 1} more stay as they are")
    # its loader processes are forked after the tokenizer has run
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        trainer = JudgeTrainer(
            model=model,
            args=args,
            train_dataset=train_set,
            eval_dataset=eval_set,
            data_collator=_collator(settings, model, tokenizer, folder),
            processing_class=tokenizer,
        )
        check_optimizer(args, model)
    except (ValueError, ImportError, RuntimeError, OSError) as error:
        raise InputError(one_line(str(error))) from error
    if args.fsdp and not trainer.is_fsdp_enabled:
        fsdp.check_not_needed(args)
        _say("note: --fsdp has no effect without a GPU: every process holds the whole model")
    if trainer.is_world_process_zero():
        write_text(output / SETTINGS, dump_json(record, indent=2) + "\n")
    start = time.monotonic()
    result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.monotonic() - start
    trainer.save_state()
    trainer.save_model()
    if trainer.is_world_process_zero():
        if settings.lora is not None:
            name_base(output, base)
        write_card(output, settings, folder, summary, trainer.state, {**result.metrics, "seconds": seconds})
    trainer.accelerator.end_training()
    _say(f"the judge is in {output}: judgelm judge --model {output} --question-file FILE --output-dir DIR")


def _read(source: str, encoder: ExampleEncoder, settings: Settings, augmented: bool) -> tuple[JudgeDataset, Summary]:
    from judgelm.train.counts import Summary
    from judgelm.train.dataset import Augmentation, JudgeDataset, TrainingRows

    rows = TrainingRows.load(source, encoder)
    args = settings.training
    augmentation = Augmentation()
    if augmented:
        seed = args.seed if args.data_seed is None else args.data_seed
        augmentation = Augmentation(max(0.0, settings.data.swap_aug_ratio), settings.reference_prob, seed)
    variants = rows.pretokenize(encoder, args.dataloader_num_workers or None) if settings.data.pretokenize else None
    return JudgeDataset(rows, encoder, augmentation, variants), Summary.of(rows.scanned())


def _collator(settings: Settings, model: Any, tokenizer: Any, folder: ModelFolder) -> Collator:
    import inspect

    from judgelm.train.dataset import Collator
    from judgelm.train.model import find_padding

    inner = model.get_base_model() if settings.lora is not None else model
    return Collator(
        pad=find_padding(model, tokenizer, folder),
        packing=settings.data.packing,
        narrow="logits_to_keep" in inspect.signature(inner.forward).parameters,
        score_weight=settings.data.score_loss_weight,
    )


def _identify(settings: Settings, rows: TrainingRows, model: str) -> Record:
    """What must stay the same for a training to go on as if it had not been interrupted."""
    args, data = settings.training, settings.data
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    return {
        "model": model,
        "data": rows.fingerprint,
        "global_batch_size": batch,
        "seed": args.seed if args.data_seed is None else args.data_seed,
        "order": args.train_sampling_strategy,
        "swap_aug_ratio": max(0.0, data.swap_aug_ratio),
        "reference_prob": settings.reference_prob,
        "model_max_length": args.model_max_length,
        "score_loss_weight": data.score_loss_weight,
        "num_train_epochs": args.num_train_epochs,
        "max_steps": args.max_steps,
        "learning_rate": args.learning_rate,
        "lora": None if settings.lora is None else vars(settings.lora),
    }


def _say(*lines: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        for line in lines:
            print(f"judgelm: {line}", file=sys.stderr, flush=True)


def main(flash: bool | None = None, lora: bool = False) -> NoReturn:
    """Entry point of the training scripts."""

    def command() -> None:
        train(flash=flash, lora=lora)
        _leave()

    run_main(command, kept="checkpoints are kept")


def _leave() -> None:
    """End one of several processes without a GPU at once.

    The interpreter's own end would wait for nothing more, but gloo's threads abort it now and then on a busy machine,
    even after the process group is gone, and a finished training would seem to have failed.
    """
    import torch

    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
