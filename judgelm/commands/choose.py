"""Flags -> what is judged, and which model judges, behind which engine."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from judgelm.console import flags_of, refuse_flags
from judgelm.criteria import Criteria, read_criteria
from judgelm.errors import InputError
from judgelm.forms import AnyForm
from judgelm.judge import AnyJudge, JudgeSettings, ModelChoice, cached, place, prepare
from judgelm.prompt_flags import choose_form
from judgelm.samples import Samples, read_samples, say_thoughts

if TYPE_CHECKING:
    from judgelm.engine.openai.server import Server

BASE_URL_VARIABLE = "OPENAI_BASE_URL"
KEY_VARIABLE = "OPENAI_API_KEY"
_OF_REPLICAS = ("num_gpus_total", "num_replicas", "ray_address")
_OF_A_MODEL = ("device", "batch_tokens", *_OF_REPLICAS, "max_gpu_memory", "quantization")
_OF_A_SERVER = ("base_url", "api_key_variable", "requests_per_minute", "request_fields", "price_per_million_tokens")
"""flags that mean nothing to the other engine; None where they are not given"""


def choose_samples(args: argparse.Namespace) -> Samples:
    """The samples that a command was asked for; says so where the file is of a form of others."""
    samples = read_samples(
        args.question_file,
        args.task,
        reference_file=args.reference_file,
        num_answers=args.answer_num,
        seed=args.seed,
        columns=args.columns,
        keep_thinking=args.keep_thinking,
    )
    say_thoughts(samples)
    form = samples.files.form
    if isinstance(form, AnyForm) and form.found:
        said = f"{args.question_file}: read as rows of {form.found.name}: {form.found.meaning}"
        print(f"judgelm: {said}", file=sys.stderr)
    return samples


def choose_judge(args: argparse.Namespace, then: str | None = None) -> AnyJudge:
    """The judge that a command was asked for. Raises InputError for flags of another engine, which may be that of a
    second judge (`then`).
    """
    engines = {args.engine, then or args.engine}
    if engines == {"openai"} or "openai" not in engines:
        others = _OF_A_MODEL if args.engine == "openai" else _OF_A_SERVER
        refuse_flags(args, others, f"is not for --engine {args.engine}")
    judge = choose_server(args) if args.engine == "openai" else choose_model(args, args.model)
    return with_cache(args, judge)


def check_scoring(args: argparse.Namespace, engine: str, scoring: str | None) -> None:
    """Raises InputError where an engine cannot judge so."""
    if engine == "openai" and scoring == "expected" and args.api == "chat":
        from judgelm.engine.openai.server import NEEDS_COMPLETIONS

        raise InputError(NEEDS_COMPLETIONS)


def choose_second(args: argparse.Namespace, name: str, engine: str) -> AnyJudge:
    """A second judge, which takes the flags of its engine."""
    judge = _choose_server(args, name) if engine == "openai" else replace(choose_model(args, name), engine=engine)
    return with_cache(args, judge)


def with_cache(args: argparse.Namespace, judge: ModelChoice | Server) -> AnyJudge:
    """The judge behind the cache, where one is asked for."""
    return judge if args.cache is None else cached(prepare(judge), args.cache)


def choose_model(args: argparse.Namespace, name: str) -> ModelChoice:
    """A model in this process, or replicas of it in processes of their own."""
    replicas = place(args.device, args.num_gpus_per_model, args.num_gpus_total, args.num_replicas, args.ray_address)
    return ModelChoice(**flags_of(ModelChoice, args) | {"model": name, "placement": replicas})


def choose_server(args: argparse.Namespace) -> Server:
    """A model behind a server of OpenAI's API."""
    if args.prompt_format != "auto":
        raise InputError("--prompt-format is not for --engine openai: there --api completions or chat says the same")
    if args.compile == "on":
        raise InputError("--compile on is not for --engine openai: the server runs the model")
    check_scoring(args, "openai", args.scoring)
    if args.constrained:
        raise InputError("--constrained needs a model in this process: no server can be held to a score line")
    return _choose_server(args, args.model)


def _choose_server(args: argparse.Namespace, name: str) -> Server:
    from judgelm.engine.openai.server import Server, check_base_url, check_key

    if args.base_url is None and not os.environ.get(BASE_URL_VARIABLE):
        raise InputError(f"--engine openai needs --base-url URL, or {BASE_URL_VARIABLE} in the environment")
    source = BASE_URL_VARIABLE if args.base_url is None else "--base-url"
    url = os.environ[BASE_URL_VARIABLE] if args.base_url is None else args.base_url
    variable = args.api_key_variable or KEY_VARIABLE
    key = os.environ.get(variable)
    if args.api_key_variable and not key:
        raise InputError(f"--api-key-variable {variable}: the environment has no such variable")
    return Server(
        check_base_url(url, source),
        name,
        args.api,
        check_key(key, variable) if key else None,
        args.max_concurrency,
        args.requests_per_minute,
        args.request_timeout,
        args.request_fields or {},
        tuple(args.price_per_million_tokens) if args.price_per_million_tokens else None,
    )


def choose_settings(
    args: argparse.Namespace, task: str, scores_only: bool, scoring: str | None = None
) -> JudgeSettings:
    """How samples are judged; `scoring` where the flag says nothing."""
    return JudgeSettings.of_form(
        choose_form(args),
        task,
        scores_only=scores_only,
        temperature=args.temperature,
        max_new_tokens=args.max_new_token,
        seed=args.seed,
        constrained=bool(args.constrained),
        scoring=args.scoring or scoring,
        criteria=choose_criteria(args),
    )


def choose_criteria(args: argparse.Namespace) -> Criteria | None:
    """By what answers are judged."""
    return None if args.criteria is None else read_criteria(args.criteria)
