"""The model that is trained: its context, attention, layers and LoRA update."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.initialization import no_init_weights
from transformers.pytorch_utils import Conv1D

from judgelm.engine.context import find_context_length
from judgelm.errors import InputError
from judgelm.files import write_text
from judgelm.jsonl import dump_json, read_json
from judgelm.models.devices import FLASH, why_no_flash_attention
from judgelm.models.folder import ModelFolder
from judgelm.models.loading import add_adapter, check_tokens, in_one_line, load_config, load_weights
from judgelm.train import fsdp
from judgelm.train.arguments import LoraArguments, Settings
from judgelm.train.attention import register_packed_attention

if TYPE_CHECKING:
    from peft import PeftModel

_ATTENTION = {"full_attention", "sliding_attention"}


def choose_attention(settings: Settings, flash: bool | None) -> tuple[str | None, str | None]:
    """The attention implementation, and a line where flash attention was asked for and cannot be had.

    None is transformers' choice: PyTorch's where the model can use it.
    """
    args = settings.training
    reason = why_no_flash_attention("cpu" if args.use_cpu else "cuda")
    if reason is None and not (args.bf16 or args.fp16):
        reason = "it needs --bf16 or --fp16"
    if settings.both_orders:
        reason = "it cannot read the trees of --swap_consistency"
    if flash is not False and reason is None:
        return FLASH, None
    attention = register_packed_attention() if settings.packing else None
    return attention, f"training without flash-attn 2 ({reason}), with PyTorch's attention" if flash else None


def configure(folder: ModelFolder, settings: Settings) -> tuple[Any, str | None]:
    """The model's config, and a line where its positions had to be stretched to hold `model_max_length`.

    Raises InputError for a model that cannot be stretched or that is no causal language model.
    """
    config = load_config(folder)
    wanted = settings.training.model_max_length
    if getattr(config, "max_position_embeddings", None) is None:
        return config, None
    context = find_context_length(config)
    if wanted <= context:
        return config, None
    rope = getattr(config, "rope_parameters", None)
    if not rope or rope.get("rope_type") != "default":
        raise InputError(
            f"model {folder.name} is too short: its context is {context} tokens and cannot be stretched to"
            f" --model_max_length {wanted}"
        )
    if settings.lora is not None:
        raise InputError(
            f"--model_max_length {wanted} is beyond the {context} tokens of model {folder.name}, and an adapter cannot"
            " stretch them: choose a shorter one, or train the whole model"
        )
    factor = float(math.ceil(wanted / context))
    config.rope_parameters = {
        **rope,
        "rope_type": settings.model.rope_scaling,
        "factor": factor,
        "original_max_position_embeddings": context,
    }
    config.max_position_embeddings = wanted
    return config, f"positions are stretched ({settings.model.rope_scaling}) from {context} to {wanted} tokens"


def find_layer_classes(folder: ModelFolder, config: Any, wanted: Sequence[str] | None) -> str:
    """The class of the repeated layers, which FSDP wraps one by one (several: with commas); no weight is loaded.

    Raises InputError where one of `wanted` is no class of this model.
    """
    with in_one_line(f"model {folder.name}: cannot be built"), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    classes = {type(module).__name__ for module in model.modules()}
    for name in wanted or ():
        if name not in classes:
            raise InputError(
                f"--fsdp_transformer_layer_cls_to_wrap {name}: model {folder.name} has no such class"
                f" (its layers are {_largest_list(model)})"
            )
    return ",".join(wanted or [_largest_list(model)])


def _largest_list(model: nn.Module) -> str:
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module)]
    if not lists:
        return type(model).__name__
    largest = max(lists, key=lambda layers: sum(p.numel() for p in layers.parameters()))
    return type(largest[0]).__name__


def load(folder: ModelFolder, config: Any, settings: Settings, attention: str | None) -> PreTrainedModel | PeftModel:
    """The model in the precision it is trained in: float32 under mixed precision, so that small steps are not lost.

    With LoRA the frozen weights lie in the precision of the computation, or in 4 bits; a folder that holds an adapter
    is its base with the adapter on it.
    """
    args, lora, base = settings.training, settings.lora, folder.base or folder
    dtype = torch.float32
    options: dict[str, Any] = {}
    if lora is not None:
        dtype = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else torch.float32
        if lora.q_lora:
            from transformers import BitsAndBytesConfig

            options["device_map"] = {"": args.local_process_index}
            options["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            )
    with in_one_line(f"model {base.name}: cannot be loaded"):
        try:
            model = _load(base, config, settings, attention, dtype=dtype, **options)
        except ValueError:
            if attention != FLASH:
                raise
            # an architecture without flash attention
            return load(folder, config, settings, register_packed_attention() if settings.packing else None)
    model.config.use_cache = False
    if lora is not None:
        return _with_lora(model, lora, settings, folder if folder.base is not None else None)
    return model


def _load(
    folder: ModelFolder, config: Any, settings: Settings, attention: str | None, **options: Any
) -> PreTrainedModel:
    options |= {"attn_implementation": attention, "config": config}
    if settings.packing:
        with torch.device("meta"):
            kind = type(AutoModelForCausalLM.from_config(config, trust_remote_code=False))
        if not kind.is_backend_compatible():
            flag = "--swap_consistency" if settings.both_orders else "--packing"
            raise InputError(f"model {folder.name}: a {kind.__name__} cannot be packed, leave {flag} away")
        text = config.get_text_config()
        others = set(getattr(text, "layer_types", None) or ()) - _ATTENTION
        if getattr(text, "attn_logit_softcapping", None) is not None:
            others.add("soft capping")
        if settings.both_orders and others:
            raise InputError(
                f"model {folder.name}: --swap_consistency cannot be used, it has layers of another kind than plain"
                f" attention to all or to a window ({', '.join(sorted(others))})"
            )
    if not fsdp.loads_weights(settings.training):
        # the first process sends the weights; memory that is never written to takes no room
        with no_init_weights():
            model = AutoModelForCausalLM.from_config(trust_remote_code=False, **options)
        model.tie_weights()
        return model
    return load_weights(folder.path, folder.name, **options)


def _with_lora(
    model: PreTrainedModel, lora: LoraArguments, settings: Settings, adapter: ModelFolder | None
) -> PeftModel:
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    checkpointing = settings.training.gradient_checkpointing
    if lora.q_lora:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
    elif checkpointing:
        model.enable_input_require_grads()
    if adapter is not None:
        return add_adapter(model, adapter, trainable=True)
    targets = find_lora_targets(model, lora)
    peft_config = LoraConfig(
        task_type="CAUSAL_LM", r=lora.lora_r, lora_alpha=lora.lora_alpha, lora_dropout=lora.lora_dropout,
        target_modules=targets, fan_in_fan_out=any(isinstance(model.get_submodule(name), Conv1D) for name in targets),
    )  # fmt: skip
    return get_peft_model(model, peft_config)


def name_base(output: Path, folder: ModelFolder) -> None:
    """Let a saved adapter name its base so that it can be found again: a folder's full path, else the name given."""
    path = output / "adapter_config.json"
    base = str(folder.path.resolve()) if Path(folder.name).expanduser().is_dir() else folder.name
    write_text(path, dump_json(read_json(path) | {"base_model_name_or_path": base}, indent=2) + "\n")


def find_lora_targets(model: PreTrainedModel, lora: LoraArguments) -> list[str]:
    """Full names of the linear layers that get an update. Raises InputError where there is none."""
    head = model.get_output_embeddings()
    chosen = []
    for name, module in model.named_modules():
        layer = re.search(r"\.(\d+)\.", name)
        # GPT-2 writes its linear layers the other way round
        if not isinstance(module, nn.Linear | Conv1D) or module is head or layer is None:
            continue
        wanted = lora.lora_target_modules == ["all-linear"] or name.rsplit(".", 1)[-1] in lora.lora_target_modules
        if wanted and int(layer[1]) >= lora.lora_first_layer:
            chosen.append(name)
    if not chosen:
        raise InputError(
            f"--lora_target_modules {' '.join(lora.lora_target_modules)} from layer {lora.lora_first_layer} on: the"
            " model has no such linear layers"
        )
    return chosen


def find_experts(model: nn.Module) -> list[str]:
    """Full names of a mixture's experts whose weights lie in one tensor: no linear layers, so LoRA leaves them out."""
    return [
        name
        for name, module in model.named_modules()
        if "expert" in name and any(weights.dim() == 3 for weights in module.parameters(recurse=False))
    ]


def find_padding(model: Any, tokenizer: PreTrainedTokenizerBase, folder: ModelFolder) -> int:
    """What fills up rows: the pad token, or EOS where that has no embedding. Raises InputError where EOS has none."""
    check_tokens(folder, model, tokenizer)
    rows: int = model.get_input_embeddings().weight.shape[0]
    pad: int | None = tokenizer.pad_token_id
    eos: int = tokenizer.eos_token_id
    if not 0 <= eos < rows:
        raise InputError(f"model {folder.name}: its EOS token {eos} is none of the embedding's {rows} rows")
    return pad if pad is not None and 0 <= pad < rows else eos
