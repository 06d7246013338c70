"""Hugging Face's Trainer with a judge's data order and loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from judgelm.train.collator import IGNORED
from judgelm.train.consistency import SwapTerm, count_pairs
from judgelm.train.examples import EpochSampler


def judgement_loss(
    logits: Float[Tensor, "B K V"],
    labels: Int[Tensor, "B K"],
    num_targets: Num[Tensor, ""] | int | None = None,
    weights: Float[Tensor, "B K"] | None = None,
) -> Float[Tensor, ""]:
    """Cross entropy of the target tokens, summed and divided by their number in the whole global batch.

    The logits stand at the positions that predict the labels; labels of -100 do not count. `num_targets` is None where
    the batch stands alone. `weights` scale each token's part.
    """
    losses = nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    if weights is not None:
        losses = losses * weights.flatten()
    if num_targets is None:
        num_targets = (labels != IGNORED).sum()
    return losses.sum() / num_targets


class JudgeTrainer(Trainer):  # type: ignore[misc]
    """Draws rows by (seed, epoch), whatever the number of processes, and computes logits for targets only."""

    def __init__(self, *args: Any, swap_term: SwapTerm | None = None, **settings: Any) -> None:
        super().__init__(*args, **settings, compute_loss_func=judgement_loss)
        # labels come shifted from the collator: all of them count, the first too
        self._loss_shifts_labels = False
        self.add_callback(_TellEpoch(self))
        self.sampler: EpochSampler | None = None
        self.swap_term = swap_term

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        self.sampler = EpochSampler(len(self.train_dataset), seed, self.args.train_sampling_strategy == "random")
        return self.sampler

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        labels, weights = inputs.pop("labels"), inputs.pop("loss_weights", None)
        comparisons = inputs.pop("comparisons", ())
        inputs.pop("is_second", None)
        if not model.training:
            # an evaluation compares trainings: it does not weigh
            weights = None
        outputs = model(**inputs, use_cache=False)
        loss = judgement_loss(outputs.logits, labels, num_items_in_batch, weights)
        if self.swap_term is not None:
            term = self.swap_term(outputs.logits, comparisons, model.training)
            loss = loss + term if model.training else loss
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            # the processes' gradients are averaged, the number of targets is that of all of them
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """Trainer's, which counts the targets of the global batch; the pairs that are compared are counted beside."""
        batches, num_targets = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.swap_term is not None:
            num = sum(count_pairs(batch["comparisons"]) for batch in batches)
            num_pairs = torch.tensor(num, device=device)
            if self.args.average_tokens_across_devices:
                num_pairs = self.accelerator.reduce(num_pairs, "sum")
            self.swap_term.num_pairs = num_pairs
        return batches, num_targets

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Trainer's, with the mean divergence since the last loss that was logged."""
        if "loss" in logs:
            logs |= self._take_divergence("", training=True)
        super().log(logs, start_time)

    def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **settings: Any) -> Any:
        """Trainer's: the loss is that of the answers as given, in whatever orders the rows are shown."""
        if "is_second" in inputs:
            inputs["labels"] = inputs["labels"].masked_fill(inputs.pop("is_second"), IGNORED)
        return super().prediction_step(model, inputs, *args, **settings)

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **settings: Any) -> Any:
        """Trainer's, with the mean divergence of the rows."""
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **settings)
        output.metrics.update(self._take_divergence(f"{metric_key_prefix}_", training=False))
        return output

    def _take_divergence(self, prefix: str, training: bool) -> dict[str, float]:
        """Over all processes; nothing where no row was compared."""
        if self.swap_term is None:
            return {}
        total, num = self.accelerator.reduce(self.swap_term.take(training, self.args.device), "sum").tolist()
        return {f"{prefix}swap_divergence": total / num} if num else {}

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if not self.is_fsdp_enabled or _internal_call:
            super().save_model(output_dir, _internal_call)
            return
        # checkpoints are sharded; this is the one time that the weights are gathered, in the first process's memory
        state_dict = self.accelerator.get_state_dict(self.model)
        self._save(output_dir, state_dict=state_dict)
        if self.args.push_to_hub:
            self.push_to_hub(commit_message="Model save")


class _TellEpoch(TrainerCallback):  # type: ignore[misc]
    """accelerate does not reach the sampler in an epoch that is resumed in its middle on several processes."""

    def __init__(self, trainer: JudgeTrainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer.sampler is not None:
            self.trainer.sampler.set_epoch(int(state.epoch or 0))
