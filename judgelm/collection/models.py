"""Whose answers are collected: models behind servers or in this process, read from YAML."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgelm.errors import InputError, SettingError, encodable, one_line
from judgelm.files import PathLike
from judgelm.yaml_text import find_lines, parse_yaml, read_yaml_text

if TYPE_CHECKING:
    from judgelm.engine.openai.server import Server

ENGINES = ("openai", "hf", "vllm")
_LIMITS = ("max_concurrency", "requests_per_minute", "request_timeout")
_OF_A_SERVER = ("base_url", "api_key_env", *_LIMITS, "request_fields")
_OF_A_MODEL = ("dtype", "device", "batch_tokens", "num_gpus", "quantization")
_NOT_OF_THE_ANSWERS = ("api_key_env", "price", *_LIMITS, "batch_tokens")
"""what may be another in a later session: it changes no answer"""
_WHAT = "models"
_LONGEST_NAME = 100
_LONGEST_FILE = 200
"""bytes of a name as that of a file; most disks take 255, and a file that is being written has a longer one"""


@dataclass(frozen=True, slots=True)
class AnswerModel:
    """A model that answers. Raises ValueError, which begins with the setting, for what cannot be."""

    model: str
    """by the server's name for it; of a local one hub id, folder, PEFT adapter or an embedded model"""
    name: str = ""
    """in the answers; by default the last part of `model`"""
    engine: str = ""
    """openai, hf or vllm; by default openai where there is a `base_url`, else hf"""
    base_url: str | None = None
    """of a server, up to /v1 with most"""
    api_key_env: str | None = None
    """the environment variable with its API key; without one none is sent"""
    system: str | None = None
    """prompt of the system, before each question"""
    temperature: float = 0.7
    """of the sampling; 0 is greedy"""
    top_p: float = 1.0
    """draw from the likeliest tokens that together have this probability"""
    max_tokens: int = 2048
    """most tokens of an answer"""
    max_thinking_tokens: int = 0
    """the model thinks before it answers, in so many tokens more at most"""
    price: tuple[float, float] | None = None
    """of a million prompt tokens and of a million completion tokens"""
    max_concurrency: int = 16
    """most requests under way at once"""
    requests_per_minute: float | None = None
    request_timeout: float = 600
    """seconds for one answer, to its last byte"""
    request_fields: Mapping[str, Any] = field(default_factory=dict)
    """set in each request as they are, None leaving one out"""
    dtype: str = "auto"
    device: str | None = None
    batch_tokens: int | None = None
    num_gpus: int = 1
    quantization: str | None = None

    def __post_init__(self) -> None:
        _check_text("model", self.model)
        if not self.name:
            object.__setattr__(self, "name", Path(self.model).name)
        _check_text("name", self.name)
        if len(self.name) > _LONGEST_NAME or not self.slug:
            raise ValueError(
                f"name: expected letters or digits, {_LONGEST_NAME} characters at most, found {self.name!r}"
            )
        if len(self.slug.encode()) > _LONGEST_FILE:
            raise ValueError(f"name: expected {_LONGEST_FILE} bytes at most, found {len(self.slug.encode())}")
        if not self.engine:
            object.__setattr__(self, "engine", "hf" if self.base_url is None else "openai")
        if self.engine not in ENGINES:
            raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, found {self.engine!r}")
        self._check_place()
        self._check_sampling()

    @property
    def slug(self) -> str:
        """Its name as that of a file."""
        return re.sub(r"[^\w.+-]+", "-", self.name).strip(".-")

    def _check_place(self) -> None:
        defaults = {each.name: each.default for each in fields(self)} | {"request_fields": {}}
        for name in _OF_A_MODEL if self.engine == "openai" else _OF_A_SERVER:
            if getattr(self, name) != defaults[name]:
                raise ValueError(f"{name}: is not for engine {self.engine}")
        if self.engine == "openai":
            self._check_server()
            return
        from judgelm.engine.interface import LoadOptions

        try:
            LoadOptions(**{name: getattr(self, name) for name in _OF_A_MODEL})
        except SettingError as error:
            raise ValueError(f"{error.setting}: {error.problem}") from None

    def _check_server(self) -> None:
        from judgelm.engine.openai.server import check_base_url

        if not isinstance(self.base_url, str):
            raise ValueError("base_url: expected that of a server, such as http://127.0.0.1:8000/v1")
        try:
            check_base_url(self.base_url, "base_url")
        except InputError as error:
            raise ValueError(f"base_url: {str(error).removeprefix('base_url').lstrip(': ')}") from None
        if self.api_key_env is not None and not re.fullmatch(r"[A-Za-z_]\w*", str(self.api_key_env), re.ASCII):
            # not repeated: it may be the key itself
            raise ValueError("api_key_env: expected the name of an environment variable, not a key")
        _check_number("requests_per_minute", self.requests_per_minute, above=0)
        _check_number("request_timeout", self.request_timeout, above=0)
        _check_whole("max_concurrency", self.max_concurrency, 1)
        if not isinstance(self.request_fields, Mapping):
            raise ValueError(f"request_fields: expected names with values, found {type(self.request_fields).__name__}")
        try:
            json.dumps(dict(self.request_fields), allow_nan=False)
        except (TypeError, ValueError) as error:
            # a date of YAML, perhaps
            raise ValueError(f"request_fields: expected what JSON can say ({error})") from None

    def _check_sampling(self) -> None:
        if self.system is not None:
            _check_text("system", self.system)
        _check_number("temperature", self.temperature)
        _check_number("top_p", self.top_p, above=0, most=1)
        _check_whole("max_tokens", self.max_tokens, 1)
        _check_whole("max_thinking_tokens", self.max_thinking_tokens, 0)
        if self.price is not None:
            if not isinstance(self.price, list | tuple) or len(self.price) != 2:
                expected = "two numbers, of a million prompt tokens and of a million completion tokens"
                raise ValueError(f"price: expected {expected}, found {self.price!r}")
            for each in self.price:
                _check_number("price", each)
            object.__setattr__(self, "price", (float(self.price[0]), float(self.price[1])))

    @property
    def decoding_method(self) -> str:
        """How its answers are drawn, in words."""
        set_by = {"temperature": self.temperature, "top_p": self.top_p, **self.request_fields}
        temperature, top_p = set_by["temperature"], set_by["top_p"]
        if temperature is None:
            return "the server's sampling"
        if not temperature:
            return "greedy"
        return f"temperature {_short(temperature)}" + (f", top_p {_short(top_p)}" if top_p not in (None, 1) else "")

    @property
    def room(self) -> int:
        """Most tokens of an answer and its thoughts."""
        return self.max_tokens + self.max_thinking_tokens

    @property
    def most_tokens(self) -> int | None:
        """Most that a request asks for, by its own fields too; None where these leave it open."""
        sent = {"max_tokens": self.room, **self.request_fields}
        given = [sent[name] for name in ("max_tokens", "max_completion_tokens") if sent.get(name) is not None]
        known = all(type(each) is int and each > 0 for each in given) and sent.get("n") in (None, 1)
        return max(given) if given and known else None

    def server(self) -> Server:
        """With the key that the environment has. Raises InputError where it has none of that name."""
        from judgelm.engine.openai.server import Server, check_base_url, check_key

        key = os.environ.get(self.api_key_env, "").strip() if self.api_key_env else None
        if self.api_key_env and not key:
            raise InputError(f"model {self.name}: api_key_env: the environment has no {self.api_key_env}")
        return Server(
            check_base_url(self.base_url or "", "base_url"),
            self.model,
            "chat",
            check_key(key, self.api_key_env or "") if key else None,
            self.max_concurrency,
            self.requests_per_minute,
            self.request_timeout,
            self.request_fields,
            self.price,
        )

    def to_record(self) -> dict[str, Any]:
        """What its answers depend on; nothing of a key."""
        names = [each.name for each in fields(self) if each.name not in _NOT_OF_THE_ANSWERS]
        unused = _OF_A_MODEL if self.engine == "openai" else _OF_A_SERVER
        record = {name: getattr(self, name) for name in names if name not in unused}
        return record | ({"request_fields": dict(self.request_fields)} if self.engine == "openai" else {})


def _short(value: object) -> str:
    """A number of YAML, or whatever else is sent as it is."""
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name}: expected a text, found {value!r}")
    if not encodable(value):
        raise ValueError(f"{name}: has half a surrogate pair, which is no text")


def _check_number(name: str, value: object, above: float | None = None, most: float = math.inf) -> None:
    if value is None and name == "requests_per_minute":
        return
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if not numeric or not (0 if above is None else above) <= value <= most or value in (math.inf, above):  # type: ignore[operator]
        least = "a number from 0 on" if above is None else f"a number above {above:g}"
        up_to = f", {most:g} at most" if most < math.inf else ""
        raise ValueError(f"{name}: expected {least}{up_to}, found {value!r}")


def _check_whole(name: str, value: object, least: int) -> None:
    if type(value) is not int or value < least:
        raise ValueError(f"{name}: expected a whole number from {least} on, found {value!r}")


def read_models(path: PathLike) -> list[AnswerModel]:
    """The models of a YAML file: `models`, a list of objects with the settings of `AnswerModel`.

    Raises InputError, which names file and line, for anything else, and where two models have one name.
    """
    place, text = Path(path).expanduser(), read_yaml_text(path, _WHAT)
    record = parse_yaml(text, str(place), _WHAT)
    given = record.get("models") if isinstance(record, dict) and len(record) == 1 else None
    if not isinstance(given, list) or not given:
        raise InputError(f"{place}: expected `models:` and below it a list of models, each with a `model`")
    lines = find_lines(text)
    models = []
    for number, each in enumerate(given):
        path_of = ("models", number)
        try:
            models.append(_read_model(each))
            if (other := _same_name(models)) is not None:
                same = f"{models[-1].name} is that of model {other + 1} already: each needs a name of its own"
                raise ValueError(f"name: {same}")
        except ValueError as error:
            setting = str(error).partition(":")[0]
            line = lines.get((*path_of, setting), lines[path_of])
            raise InputError(f"{place}:{line}: {one_line(str(error))}") from None
    return models


def check_names(models: list[AnswerModel]) -> None:
    """Raises InputError where there is no model, or two would write one file."""
    if not models:
        raise InputError("no models are given to collect answers from")
    for count in range(1, len(models) + 1):
        if _same_name(models[:count]) is not None:
            raise InputError(f"two models have the name {models[count - 1].name}: each needs one of its own")


def _same_name(models: list[AnswerModel]) -> int | None:
    """The place of a model whose file would be that of the last one."""
    *others, last = (model.slug.casefold() for model in models)
    return others.index(last) if last in others else None


def _read_model(record: object) -> AnswerModel:
    """Raises ValueError, which begins with the setting."""
    known = [each.name for each in fields(AnswerModel)]
    if not isinstance(record, dict):
        raise ValueError(f"expected a model with its settings, found {type(record).__name__}")
    for name in record:
        if name not in known:
            # its value is not shown: it may be a key
            raise ValueError(f"{name}: is no setting of a model (they are {', '.join(known)})")
    if "model" not in record:
        raise ValueError(f"field 'model' is missing (found: {', '.join(map(str, record)) or 'none'})")
    return AnswerModel(**record)
