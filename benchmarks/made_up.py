"""A made-up judge of any size, and pairs for it: a folder with random weights in which each layer is the same.

What a judge says does not matter where only time and memory are measured; shapes, files and tokens are those of the
real ones.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgelm.prompt import render_prompt
from judgelm.sample import Sample

if TYPE_CHECKING:
    from torch import Tensor

_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
_LAYERS_OF_A_SHARD = 8
_RANGE = 0.02
_TOKENS = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}


@dataclass(frozen=True)
class Shape:
    """A Llama's."""

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int = 2048

    @property
    def matrices(self) -> int:
        """Weights of all layers' matrices."""
        kv = self.hidden // self.heads * self.kv_heads
        return self.layers * (2 * self.hidden**2 + 2 * self.hidden * kv + 3 * self.hidden * self.inner)

    @property
    def rows(self) -> int:
        """Outputs of all layers' matrices."""
        kv = self.hidden // self.heads * self.kv_heads
        return self.layers * (3 * self.hidden + 2 * kv + 2 * self.inner)

    @property
    def parameters(self) -> int:
        """All weights, embeddings not tied."""
        return self.matrices + 2 * self.vocabulary * self.hidden + (2 * self.layers + 1) * self.hidden

    def flops(self, prompts: int, prompt_tokens: int, new_tokens: int) -> float:
        """Floating point operations that are needed: matrices, causal attention, a row of logits a new token."""
        tokens = prompt_tokens + new_tokens
        attention = self.layers * 2 * self.hidden * tokens / prompts * tokens
        return 2 * self.matrices * tokens + attention + 2 * self.hidden * self.vocabulary * new_tokens


VICUNA_7B = Shape(layers=32, hidden=4096, inner=11008, heads=32, kv_heads=32, vocabulary=32000)
SMOLLM2 = Shape(layers=30, hidden=576, inner=1536, heads=9, kv_heads=3, vocabulary=49152, context=8192)
TWO_LAYERS = Shape(layers=2, hidden=128, inner=256, heads=4, kv_heads=4, vocabulary=700)


def words(count: int) -> list[str]:
    """So many words, of two to four syllables, drawn by a fixed seed; none twice."""
    draw, found = random.Random(0), dict[str, None]()
    while len(found) < count:
        found["".join(draw.choices(_SYLLABLES, k=draw.randint(2, 4)))] = None
    return list(found)


def write_folder(folder: Path, shape: Shape, dtype: str, *, released: bool = False) -> None:
    """Config, tokenizer and weights, a shard at a time.

    `released` is the form in which judges of the paper came: pytorch_model-*.bin with rotary frequencies in it, and the
    config that transformers 4.28 wrote; else it is safetensors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", _config(shape, dtype))
    _write_json(folder / "generation_config.json", {"_from_model_config": True, "bos_token_id": 1, "eos_token_id": 2})
    _write_tokenizer(folder, shape)
    layers = list(range(shape.layers))
    parts = [layers[begin : begin + _LAYERS_OF_A_SHARD] for begin in range(0, shape.layers, _LAYERS_OF_A_SHARD)]
    name = "pytorch_model-{:05}-of-{:05}.bin" if released else "model-{:05}-of-{:05}.safetensors"
    places: dict[str, str] = {}
    layer = _layer(shape, dtype, released)
    for number, part in enumerate(parts, start=1):
        # copies, as tensors that share their memory would be one in the file
        shard = {f"model.layers.{index}.{key}": value.clone() for index in part for key, value in layer.items()}
        if number == len(parts):
            shard |= _ends(shape, dtype)
        file = name.format(number, len(parts))
        _save(folder / file, shard, released)
        places |= dict.fromkeys(shard, file)
    index = "pytorch_model.bin.index.json" if released else "model.safetensors.index.json"
    size = 2 * shape.parameters if dtype != "float32" else 4 * shape.parameters
    _write_json(folder / index, {"metadata": {"total_size": size}, "weight_map": places})


def make_pairs(tokenizer: Any, shape: Shape, count: int, tokens: int = 700) -> Iterator[Sample]:
    """Samples of random words whose prompts have `tokens` tokens in the mean, from 0.6 to 1.4 times as many."""
    draw, known = random.Random(1), words(_words(shape))
    empty = len(tokenizer(render_prompt(Sample(0, "?", ("", "")))).input_ids)
    each = len(tokenizer(" ".join(known[:1000]), add_special_tokens=False).input_ids) / min(1000, len(known))
    for number in range(count):
        wanted = int((tokens * draw.uniform(0.6, 1.4) - empty) / each)
        text = draw.choices(known, k=max(3, wanted))
        ends = len(text) // 10, len(text) * 11 // 20
        question, first, second = text[: ends[0]], text[ends[0] : ends[1]], text[ends[1] :]
        yield Sample(number, " ".join(question) + "?", (" ".join(first), " ".join(second)))


def _words(shape: Shape) -> int:
    """As many as the tokenizer learns well: it has a token for most of them."""
    return shape.vocabulary // 2


def _config(shape: Shape, dtype: str) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "initializer_range": _RANGE,
        "intermediate_size": shape.inner,
        "max_position_embeddings": shape.context,
        "model_type": "llama",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": 1e-06,
        "tie_word_embeddings": False,
        "torch_dtype": dtype,
        "transformers_version": "4.28.1",
        "use_cache": True,
        "vocab_size": shape.vocabulary,
    }


def _write_tokenizer(folder: Path, shape: Shape) -> None:
    """Llama's kind: SentencePiece, bytes for what it does not know, each digit a token."""
    from sentencepiece import SentencePieceTrainer

    known = words(_words(shape))
    lines = [" ".join(known[begin : begin + 100]) for begin in range(0, len(known), 100)]
    written = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([*lines, "0123456789", *render_prompt(Sample(0, "", ("", ""))).splitlines()]),
        model_writer=written,
        vocab_size=shape.vocabulary,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(written.getvalue())
    settings = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False}
    settings |= {"clean_up_tokenization_spaces": False, "model_max_length": shape.context, "sp_model_kwargs": {}}
    _write_json(folder / "tokenizer_config.json", {**settings, **_TOKENS})
    _write_json(folder / "special_tokens_map.json", _TOKENS)


def _layer(shape: Shape, dtype: str, released: bool) -> dict[str, Tensor]:
    import torch

    kv, width = shape.hidden // shape.heads * shape.kv_heads, shape.hidden // shape.heads
    sizes = {
        "self_attn.q_proj": (shape.hidden, shape.hidden),
        "self_attn.k_proj": (kv, shape.hidden),
        "self_attn.v_proj": (kv, shape.hidden),
        "self_attn.o_proj": (shape.hidden, shape.hidden),
        "mlp.gate_proj": (shape.inner, shape.hidden),
        "mlp.up_proj": (shape.inner, shape.hidden),
        "mlp.down_proj": (shape.hidden, shape.inner),
    }
    found = {f"{name}.weight": _random(size, dtype, seed) for seed, (name, size) in enumerate(sizes.items())}
    for name in ("input_layernorm", "post_attention_layernorm"):
        found[f"{name}.weight"] = torch.ones(shape.hidden, dtype=getattr(torch, dtype))
    if released:
        found["self_attn.rotary_emb.inv_freq"] = 1 / 10000 ** (torch.arange(0, width, 2) / width)
    return found


def _ends(shape: Shape, dtype: str) -> dict[str, Tensor]:
    import torch

    size = shape.vocabulary, shape.hidden
    return {
        "model.embed_tokens.weight": _random(size, dtype, 100),
        "lm_head.weight": _random(size, dtype, 101),
        "model.norm.weight": torch.ones(shape.hidden, dtype=getattr(torch, dtype)),
    }


def _random(size: tuple[int, int], dtype: str, seed: int) -> Tensor:
    import torch

    draw = torch.Generator().manual_seed(seed)
    return torch.empty(size, dtype=getattr(torch, dtype)).normal_(0, _RANGE, generator=draw)


def _save(path: Path, shard: dict[str, Tensor], released: bool) -> None:
    if released:
        import torch

        torch.save(shard, path)
    else:
        from safetensors.torch import save_file

        save_file(shard, path, {"format": "pt"})


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
