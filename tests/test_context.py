"""How long a model's context is, by what its config says about its positions."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoConfig

from judgelm.engine.context import find_context_length
from judgelm.errors import InputError


@pytest.mark.parametrize(
    ("kind", "stated", "rope", "expected"),
    [
        # as LongChat and Vicuna 16k say it
        ("llama", 2048, {"type": "linear", "factor": 4.0}, 8192),
        ("llama", 4096, {"type": "linear", "factor": 8}, 32768),
        ("gpt_neox", 2048, {"rope_type": "linear", "factor": 2.0}, 4096),
        ("llama", 4096, {"type": "dynamic", "factor": 2.0}, 8192),
        # as Qwen 2.5 and 3 ask for, and as DeepSeek V3 states
        ("qwen2", 32768, {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        ("qwen3", 40960, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        ("llama", 163840, {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}, 163840),
        # the stretched length is what these state
        (
            "llama",
            131072,
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            131072,
        ),
        ("gemma3_text", 131072, {"rope_type": "linear", "factor": 8.0}, 131072),
        # as our own training writes it
        ("llama", 1500, {"rope_type": "linear", "factor": 2.0, "original_max_position_embeddings": 1024}, 1500),
        ("llama", 2048, None, 2048),
    ],
)
def test_stretched_positions_count_in_the_context(kind: str, stated: int, rope: Any, expected: int) -> None:
    settings = {} if rope is None else {"rope_scaling": rope}
    assert find_context_length(AutoConfig.for_model(kind, max_position_embeddings=stated, **settings)) == expected


def test_longrope_states_the_stretched_length() -> None:
    rope = {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [2.0] * 48}
    config = AutoConfig.for_model(
        "phi3", max_position_embeddings=131072, original_max_position_embeddings=4096, rope_scaling=rope
    )
    assert find_context_length(config) == 131072


@pytest.mark.parametrize("length", [0, -5, 10**40])
def test_a_context_that_cannot_be_is_one_line(length: int) -> None:
    config = AutoConfig.for_model("llama")
    config.max_position_embeddings = length
    with pytest.raises(InputError, match="max_position_embeddings: expected a whole number of tokens from 1 on"):
        find_context_length(config)


def test_a_model_without_a_context_says_so() -> None:
    with pytest.raises(InputError, match="a model of type mamba does not say how long its context is"):
        find_context_length(AutoConfig.for_model("mamba"))
