"""Preference training (DPO) by TRL, which must be installed: imported for `--method dpo` alone."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from judgelm.train.preferences import PreferenceRows

_REFERENCE = "ref"
"""TRL's name of the copy of an adapter as it was at the start"""


class PreferenceTrainer(DPOTrainer):  # type: ignore[misc]
    """TRL's, with pairs that are token ids already, a card of our own, and no word to anybody."""

    def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
        return dataset

    def _send_telemetry(self) -> None:
        pass

    def create_model_card(self, *args: Any, **settings: Any) -> None:
        """None for each checkpoint: the judge gets its own at the end."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Trainer's; at the end without the adapter that was the reference."""
        if not _internal_call and _REFERENCE in getattr(self.model, "peft_config", ()):
            self.model.delete_adapter(_REFERENCE)
        super().save_model(output_dir, _internal_call)


def make_trainer(
    model: Any, reference: Any, args: Any, beta: float, pad: int, sets: list[PreferenceRows], tokenizer: Any
) -> PreferenceTrainer:
    """A trainer of the first set's pairs, which are compared with the second's where there are two.

    `reference` is the model as it was; None for an adapter, of which TRL keeps a copy.
    """
    from datasets import Dataset

    for each in fields(DPOConfig):
        if not hasattr(args, each.name):
            default = each.default if each.default_factory is MISSING else each.default_factory()
            setattr(args, each.name, default)
    args.beta = beta
    train_set, eval_set = (*[Dataset.from_dict(rows.columns) for rows in sets], None)[:2]
    return PreferenceTrainer(
        model=model,
        ref_model=reference,
        args=args,
        data_collator=DataCollatorForPreference(pad_token_id=pad),
        train_dataset=train_set,
        eval_dataset=eval_set,
        processing_class=tokenizer,
    )
