"""Flags -> which model judges, behind which engine."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from judgelm.errors import InputError
from judgelm.judge.judge import Judge
from judgelm.judge.placement import check_replicas
from judgelm.judge.replicas import Replicas, absolute, load_on_node
from judgelm.judge.run import Judging
from judgelm.models.loading import find_model
from judgelm.models.tiny import NOTES

BASE_URL_VARIABLE = "OPENAI_BASE_URL"
KEY_VARIABLE = "OPENAI_API_KEY"
_OF_A_MODEL = (
    "device",
    "batch_tokens",
    "num_gpus_total",
    "num_replicas",
    "ray_address",
    "max_gpu_memory",
    "quantization",
)
_OF_A_SERVER = ("base_url", "api_key_variable", "requests_per_minute", "request_fields", "price_per_million_tokens")
"""flags that mean nothing to the other engine; None where they are not given"""


@dataclass(frozen=True, slots=True)
class ChosenJudge:
    """A judge that can be loaded."""

    name: str
    load: Callable[[], Judging]
    described: Mapping[str, Any]
    """what must be the same for a run to be continued"""
    constrained: bool = False
    note: str | None = None
    prices: tuple[float, float] | None = None
    """of a million prompt tokens and of a million generated ones"""


def choose_judge(args: argparse.Namespace) -> ChosenJudge:
    """The judge that `judgelm judge` was asked for. Raises InputError for flags of another engine."""
    for name in _OF_A_MODEL if args.engine == "openai" else _OF_A_SERVER:
        if vars(args)[name] is not None:
            raise InputError(f"--{name.replace('_', '-')} is not for --engine {args.engine}")
    return choose_server(args) if args.engine == "openai" else choose_model(args, args.model)


def choose_model(args: argparse.Namespace, name: str) -> ChosenJudge:
    """A model in this process, or replicas of it in processes of their own."""
    placement = check_replicas(args)
    folder = find_model(name)
    constrained = folder.name in NOTES if args.constrained is None else args.constrained
    described = {
        "engine": args.engine,
        "model": folder.name,
        "model_fingerprint": folder.fingerprint(),
        "dtype": placement.choose_dtype(args.dtype),
        "quantization": args.quantization,
    }
    held: dict[str, Any] = {
        "device": args.device,
        "batch_tokens": args.batch_tokens,
        "num_gpus": placement.gpus_each or 1,
        "max_gpu_memory": args.max_gpu_memory,
        "quantization": args.quantization,
        "constrained": constrained,
        "engine": args.engine,
    }
    load: Callable[[], Judging] = functools.partial(Judge.load, folder, dtype=args.dtype, **held)
    if not placement.alone:
        # all replicas compute in what run.json names, whatever their nodes could
        held |= {"dtype": described["dtype"], "device": placement.device_of_each}
        load_each = functools.partial(load_on_node, absolute(folder), described["model_fingerprint"], **held)
        load = functools.partial(Replicas, load_each, placement)
    return ChosenJudge(folder.name, load, described, constrained, folder.note)


def choose_server(args: argparse.Namespace) -> ChosenJudge:
    """A model behind a server of OpenAI's API."""
    from judgelm.engine.openai.engine import OpenAIEngine, Server, check_base_url, check_key

    if args.constrained:
        raise InputError("--constrained needs a model in this process: no server can be held to a score line")
    if args.base_url is None and not os.environ.get(BASE_URL_VARIABLE):
        raise InputError(f"--engine openai needs --base-url URL, or {BASE_URL_VARIABLE} in the environment")
    source = BASE_URL_VARIABLE if args.base_url is None else "--base-url"
    url = os.environ[BASE_URL_VARIABLE] if args.base_url is None else args.base_url
    variable = args.api_key_variable or KEY_VARIABLE
    key = os.environ.get(variable)
    if args.api_key_variable and not key:
        raise InputError(f"--api-key-variable {variable}: the environment has no such variable")
    server = Server(
        check_base_url(url, source),
        args.model,
        args.api,
        check_key(key, variable) if key else None,
        args.max_concurrency,
        args.requests_per_minute,
        args.request_timeout,
        args.request_fields or {},
        tuple(args.price_per_million_tokens) if args.price_per_million_tokens else None,
    )
    described = {
        "engine": "openai",
        "model": server.model,
        "base_url": server.base_url,
        "api": server.api,
        "request_fields": server.fields,
    }
    return ChosenJudge(server.model, lambda: Judge(OpenAIEngine(server)), described, prices=server.prices)
