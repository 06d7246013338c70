"""vLLM's engine as far as ours speaks to it, played by full forward passes of a model of transformers."""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from judgelm.engine.hf.tree import common_length


class PlayedVLLM:
    """One token a request and step; what the real one refuses is refused."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.asked: dict[str, tuple[list[int], list[int], Any]] = {}
        """prompt, tokens so far, and settings of the requests that have not ended"""
        self.read: list[list[int]] = []
        self.cached: dict[str, int] = {}
        """by request, tokens at its beginning that were read before"""
        self.failing = False
        self.steps = 0

    def add_request(self, name: str, prompt: dict[str, list[int]], settings: Any) -> None:
        assert name not in self.asked
        size = self.model.config.vocab_size
        ids = [*prompt["prompt_token_ids"], *settings.stop_token_ids, *(settings.allowed_token_ids or ())]
        if not 0 < settings.top_p <= 1 or settings.max_tokens < 1 or (settings.logprobs or 0) > 20:
            raise ValueError(f"vLLM refuses {settings}")
        if not prompt["prompt_token_ids"] or not all(0 <= token < size for token in ids):
            raise ValueError("vLLM knows no such token")
        self.asked[name] = prompt["prompt_token_ids"], [], settings
        # the last token is always computed
        given = prompt["prompt_token_ids"][:-1]
        self.cached[name] = max((common_length(given, before) for before in self.read), default=0)
        self.read.append(given)

    def abort_request(self, names: Sequence[str]) -> None:
        for name in names:
            self.asked.pop(name, None)

    def has_unfinished_requests(self) -> bool:
        return bool(self.asked)

    def step(self) -> list[Any]:
        if self.failing:
            raise RuntimeError("vLLM breaks")
        self.steps += 1
        return [self._continue(name) for name in list(self.asked)]

    @torch.inference_mode()
    def _continue(self, name: str) -> Any:
        prompt, tokens, settings = self.asked[name]
        log_probs = self.model(torch.tensor([prompt + tokens])).logits[0, -1].float().log_softmax(-1)
        open_to = settings.allowed_token_ids or range(len(log_probs))
        chances = log_probs[list(open_to)]
        if settings.temperature > 0:
            drawing = torch.Generator().manual_seed(settings.seed + len(tokens))
            place = int(torch.multinomial((chances / settings.temperature).exp(), 1, generator=drawing))
        else:
            place = int(chances.argmax())
        token = open_to[place]
        tokens.append(token)
        wanted = settings.logprob_token_ids
        if settings.logprobs is not None:
            wanted = [token, *log_probs.topk(settings.logprobs).indices.tolist()]
        said = {each: types.SimpleNamespace(logprob=float(log_probs[each])) for each in wanted or ()}
        finished = token in settings.stop_token_ids or len(tokens) == settings.max_tokens
        if finished:
            del self.asked[name]
        out = types.SimpleNamespace(token_ids=[token], logprobs=[said])
        cached = self.cached[name]
        return types.SimpleNamespace(request_id=name, outputs=[out], finished=finished, num_cached_tokens=cached)


def install(patch: pytest.MonkeyPatch) -> None:
    """The names that our engine imports from vLLM, where it is not installed."""

    def settings(**given: Any) -> Any:
        defaults: dict[str, Any] = {
            "stop_token_ids": [],
            "allowed_token_ids": None,
            "logprobs": None,
            "logprob_token_ids": None,
        }
        return types.SimpleNamespace(**defaults | {"top_p": 1.0} | given)

    modules: dict[str, dict[str, Any]] = {
        "vllm": {"__version__": "played"},
        "vllm.inputs": {"tokens_input": lambda ids: {"prompt_token_ids": ids}},
        "vllm.sampling_params": {
            "RequestOutputKind": types.SimpleNamespace(DELTA="delta"),
            "SamplingParams": settings,
        },
    }
    for name, members in modules.items():
        module = types.ModuleType(name)
        for member, value in members.items():
            setattr(module, member, value)
        patch.setitem(sys.modules, name, module)
