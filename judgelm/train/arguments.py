"""Flags of the training scripts: TrainingArguments', and ours."""

from __future__ import annotations

from dataclasses import dataclass

import transformers
from transformers.hf_argparser import HfArg

from judgelm.errors import located
from judgelm.forms import Columns


@dataclass
class ModelArguments:
    """Which model is fine-tuned."""

    model_name_or_path: str = HfArg(
        default="tiny-base", help="hub id, local folder, or tiny-base (the embedded small model)"
    )
    rope_scaling: str = HfArg(
        default="linear",
        help="how positions are stretched where --model_max_length is beyond the model's own context: linear"
        " (as published) or yarn",
    )


@dataclass
class DataArguments:
    """What is trained on, and in which variants."""

    data_path: str = HfArg(help="needed: training rows, a JSONL file, or a data set of the hub")
    method: str = HfArg(
        default="sft",
        help="sft learns the teacher's judgements; dpo (needs the extra rl) learns to prefer one text to another, from"
        " rows with prompt, chosen and rejected",
    )
    dpo_beta: float = HfArg(
        default=0.1, help="with --method dpo: how strongly the judge is held to what it was; higher is nearer"
    )
    eval_data_path: str | None = HfArg(
        default=None, help="rows whose loss is measured as --eval_strategy says; never augmented"
    )
    columns: str | None = HfArg(
        default=None,
        help="names of the files' columns, ours on the left: question=prompt,answer1=a,answer2=b,judgement=gpt4;"
        " without question_id rows are numbered",
    )
    swap_aug_ratio: float = HfArg(default=-1.0, help="probability that answers 1 and 2 are exchanged; below 0: never")
    ref_drop_ratio: float = HfArg(
        default=-1.0,
        help="the published name, and its published effect: the probability that the reference is SHOWN; below"
        " 0: never. --reference_prob says the same in clear words",
    )
    reference_prob: float | None = HfArg(
        default=None,
        help="probability that the reference is shown, with the judgement the teacher gave with it (default:"
        " --ref_drop_ratio)",
    )
    packing: bool = HfArg(
        default=False,
        help="put the examples of a device batch into one row, each attending to itself alone: the same loss"
        " without padding; use it with a --per_device_train_batch_size above 1",
    )
    pretokenize: bool = HfArg(
        default=False, help="tokenize all variants before training, into the datasets cache, instead of while training"
    )
    score_loss_weight: float = HfArg(
        default=1.0,
        help="weight of the score line's few tokens in the loss; above 1 they stand out against the many of the"
        " reasons",
    )
    swap_consistency: float = HfArg(
        default=0.0,
        help="above 0: each row is shown in both orders in one step, and the loss gets so many times the divergence"
        " between the scores of one order and the mirrored scores of the other",
    )


@dataclass
class TrainingArguments(transformers.TrainingArguments):  # type: ignore[misc]
    """Hugging Face's, with the defaults of the published commands where they differ."""

    output_dir: str | None = HfArg(
        default=None, help="needed: gets checkpoints, the final model and its card; a second start goes on there"
    )
    cache_dir: str | None = HfArg(default=None, help="where the hub's model files are kept")
    optim: str = HfArg(default="adamw_torch", help="the optimizer, by its transformers name")
    model_max_length: int = HfArg(
        default=2048, help="most tokens of an example; answers of longer ones are shortened, as in judging"
    )
    logging_steps: float = HfArg(default=1, help="steps between two lines of the log")
    # transformers' parser wants None first here
    report_to: None | str | list[str] = HfArg(  # noqa: RUF009, RUF036
        default="none", help="where the log goes too: wandb, tensorboard, .. (comma between several)"
    )


@dataclass
class LoraArguments:
    """Which small matrices are trained in place of the whole model."""

    lora_r: int = HfArg(default=16, help="rank of the update")
    lora_alpha: int = HfArg(default=32, help="the update is scaled by alpha / r")
    lora_dropout: float = HfArg(default=0.0, help="dropout in front of the update")
    lora_target_modules: list[str] = HfArg(  # noqa: RUF009
        default_factory=lambda: ["all-linear"],
        help="names of the layers that get an update, or all-linear",
        metadata={"nargs": "+"},
    )
    lora_first_layer: int = HfArg(
        default=0, help="number of the first transformer layer that gets an update; those below stay"
    )
    q_lora: bool = HfArg(default=False, help="keep the frozen weights in 4 bits (QLoRA; needs a GPU and bitsandbytes)")


@dataclass(frozen=True)
class Settings:
    """All flags of a training, by what they are about."""

    model: ModelArguments
    data: DataArguments
    training: TrainingArguments
    lora: LoraArguments | None = None
    notes: tuple[str, ...] = ()
    """about flags that were translated or left out"""

    @property
    def swap_prob(self) -> float:
        return max(0.0, self.data.swap_aug_ratio)

    @property
    def reference_prob(self) -> float:
        given = self.data.ref_drop_ratio if self.data.reference_prob is None else self.data.reference_prob
        return max(0.0, given)

    @property
    def prefers(self) -> bool:
        """Whether texts are preferred to others, in place of a teacher's judgements being learnt."""
        return self.data.method == "dpo"

    @property
    def both_orders(self) -> bool:
        """Whether each row is shown in both orders in one step."""
        return self.data.swap_consistency > 0

    @property
    def packing(self) -> bool:
        """Whether the examples of a batch stand in one row; the trees of score lines are read there alone."""
        return self.data.packing or self.both_orders

    @property
    def columns(self) -> Columns | None:
        """Raises InputError for names that are none of ours."""
        with located("--columns"):
            return None if self.data.columns is None else Columns.parse(self.data.columns)

    @property
    def data_seed(self) -> int:
        """Of the order of rows and their variants."""
        args = self.training
        return int(args.seed if args.data_seed is None else args.data_seed)

    @property
    def global_batch(self) -> int:
        """Examples of an optimizer step, over all processes."""
        args = self.training
        return int(args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size)
