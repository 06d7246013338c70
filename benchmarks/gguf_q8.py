"""The embedded judge as a GGUF file for llama.cpp, weights of matrices in Q8_0.

    judgelm merge --adapter tiny --output-dir build/tiny-merged
    python -m benchmarks.gguf_q8 build/tiny-merged build/tiny-q8_0.gguf

For Llamas with a byte-level BPE tokenizer that takes digits one by one, as SmolLM2's; others need llama.cpp's own
converter.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf

if TYPE_CHECKING:
    import numpy as np

_HALVES = ("q_proj", "k_proj")
_NORMAL, _CONTROL = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL


def write_gguf(folder: Path, output: Path) -> None:
    """Read a folder of transformers, write the file."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = model.config
    writer = gguf.GGUFWriter(output, "llama")
    _add_settings(writer, config)
    _add_tokenizer(writer, AutoTokenizer.from_pretrained(folder))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        called = names.get_name(name, try_suffixes=(".weight",))
        assert called is not None, name
        values = tensor.numpy()
        for part, heads in zip(_HALVES, (config.num_attention_heads, config.num_key_value_heads), strict=True):
            if f".{part}." in name:
                values = interleave(values, heads)
        if values.ndim == 1:
            writer.add_tensor(called, values)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(called, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def interleave(values: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Rows [heads * d, hidden] of queries or keys, in the order in which llama.cpp turns them: pairs lie side by side,
    not in the two halves of a head.
    """
    width = values.shape[0] // heads
    return values.reshape(heads, 2, width // 2, -1).swapaxes(1, 2).reshape(values.shape)


def _add_settings(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Any) -> None:
    written = json.loads(tokenizer.backend_tokenizer.to_str())
    texts = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    special = set(tokenizer.all_special_tokens) | {one["content"] for one in written["added_tokens"] if one["special"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(texts)
    writer.add_token_types([_CONTROL if text in special else _NORMAL for text in texts])
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in written["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    # whether a text begins with BOS
    writer.add_add_bos_token(tokenizer("a").input_ids[0] == tokenizer.bos_token_id)


if __name__ == "__main__":
    write_gguf(Path(sys.argv[1]), Path(sys.argv[2]))
