"""FastChat's own model worker on transformers 5, which calls `rope_scaling["factor"]` otherwise: as -m would run it."""

from __future__ import annotations

import runpy
import sys

import fastchat.utils

fastchat.utils.get_context_length = lambda config: int(config.max_position_embeddings)
sys.argv[0] = "fastchat.serve.model_worker"
runpy.run_module("fastchat.serve.model_worker", run_name="__main__", alter_sys=True)
