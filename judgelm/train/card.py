"""The model card of a trained judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
import transformers

from judgelm import __version__
from judgelm.errors import one_line
from judgelm.files import write_text
from judgelm.models.folder import ModelFolder
from judgelm.train.arguments import LoraArguments, Settings


class Counts(Protocol):
    """What is known of the rows that were trained on."""

    @property
    def summary(self) -> str:
        """In a line."""

    def lines(self) -> list[str]:
        """A line for each thing worth knowing."""


_MARGIN = "eval_rewards/margins"
_CARD = """---
{library}tags:
- judgelm
- llm-as-a-judge
---

# A judge fine-tuned with JudgeLM

Reads a question and two answers and writes scores ("8 7") and reasons. Use it with
`judgelm judge --model FOLDER --question-file FILE --output-dir DIR`.

| | |
|---|---|
{table}

## Training rows

{listing}
"""


def write_card(
    output: Path, settings: Settings, folder: ModelFolder, counts: Counts, state: Any, seconds: float
) -> None:
    """Write README.md beside the weights: data, settings and losses, as far as the training knows them.

    `seconds` are those of this session.
    """
    rows = _rows(settings, folder, counts, state) | {
        "seconds": f"{seconds:.0f} (this session)",
        "versions": f"judgelm {__version__}, torch {torch.__version__}, transformers {transformers.__version__}",
    }
    table = "\n".join(
        f"| {name} | {one_line(str(value)).replace('|', chr(92) + '|')} |" for name, value in rows.items()
    )
    listing = "\n".join(f"- {line}" for line in counts.lines())
    library = "" if settings.lora is None else "library_name: peft\n"
    write_text(output / "README.md", _CARD.format(library=library, table=table, listing=listing))


def _rows(settings: Settings, folder: ModelFolder, counts: Counts, state: Any) -> dict[str, object]:
    args, data = settings.training, settings.data
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    evals = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
    margins = [entry[_MARGIN] for entry in state.log_history if _MARGIN in entry]
    return {
        "model": _name(folder),
        "method": f"preferences (DPO), beta {data.dpo_beta:g}" if settings.prefers else "a teacher's judgements",
        "data": f"{Path(data.data_path).name}: {counts.summary}",
        "swap augmentation": "both orders in each step" if settings.both_orders else settings.swap_prob,
        "weight of the swap divergence in the loss": data.swap_consistency,
        "probability of a reference": settings.reference_prob,
        "epochs / steps": f"{state.epoch:g} / {state.global_step}",
        "global batch": f"{settings.global_batch} ({args.world_size} processes)",
        "order of rows": args.train_sampling_strategy,
        "learning rate": f"{args.learning_rate:g}, {args.lr_scheduler_type.value}, warm-up {args.warmup_steps:g}",
        "weight decay": args.weight_decay,
        "most tokens": args.model_max_length,
        "packing": settings.packing,
        "weight of the score line in the loss": data.score_loss_weight,
        "precision": "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32",
        "LoRA": "no" if settings.lora is None else _describe(settings.lora, folder),
        "seed": args.seed,
        "loss, first / last logged": f"{losses[0]:.4f} / {losses[-1]:.4f}" if losses else "not logged",
        "evaluation loss, last": f"{evals[-1]:.4f}" if evals else "not measured",
        **({"margin of the preferred texts in the evaluation, last": f"{margins[-1]:.4f}"} if margins else {}),
    }


def _describe(lora: LoraArguments, folder: ModelFolder) -> str:
    if folder.base is not None:
        return f"that of {_name(folder)}, trained further"
    targets = " ".join(lora.lora_target_modules)
    kind = "QLoRA, " if lora.q_lora else ""
    return f"{kind}rank {lora.lora_r}, alpha {lora.lora_alpha}, {targets}, from layer {lora.lora_first_layer} on"


def _name(folder: ModelFolder) -> str:
    """A path of this machine is nobody's business."""
    return Path(folder.name).name if Path(folder.name).is_absolute() else folder.name
