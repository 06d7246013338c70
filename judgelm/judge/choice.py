"""Which model judges, behind which engine: settings -> a judge that can be loaded."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from judgelm.errors import SettingError
from judgelm.judge.judge import Judge, JudgeLike
from judgelm.judge.placement import Placement
from judgelm.judge.replicas import Replicas, absolute, load_on_node
from judgelm.judge.settings import JudgeSettings
from judgelm.models.folder import find_model
from judgelm.models.prompt_format import find_prompt_format
from judgelm.models.tiny import NOTES, TINY
from judgelm.prompt_form import NO_CHAT
from judgelm.sample import Sample
from judgelm.samples import check_no_images

if TYPE_CHECKING:
    from judgelm.engine.openai.server import Server


_TEMPLATE = "chat_template_sha256"
"""in run.json, of a run in chat format"""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model in this process, or replicas of it in processes of their own."""

    model: str | os.PathLike[str] = TINY
    """hub id, local folder, PEFT adapter folder, or an embedded one: tiny, tiny-base"""
    engine: str = "hf"
    """hf or vllm"""
    dtype: str = "auto"
    """auto, bfloat16, float16 or float32"""
    quantization: str | None = None
    compile: str = "auto"
    """auto, on or off; see `Judge.load`"""
    device: str | None = None
    """cuda, cuda:1, mps or cpu; None: the best there is"""
    batch_tokens: int | None = None
    """most tokens in one batch; None: what the memory holds"""
    max_gpu_memory: str | None = None
    """for weights on each GPU, such as 37GiB, where a model is spread over several"""
    constrained: bool | None = None
    """nothing but a score line is written first; None: for the embedded models alone"""
    prompt_format: str = "auto"
    """auto, plain or chat; see `Judge.load`"""
    placement: Placement = field(default_factory=Placement)


@dataclass(frozen=True, slots=True)
class JudgeChoice:
    """A judge that can be loaded."""

    name: str
    load: Callable[[], JudgeLike]
    """loads it the first time it is called"""
    described: Mapping[str, Any]
    """what must be the same for a run to be continued"""
    constrained: bool = False
    note: str | None = None
    """what its users must know"""
    prices: tuple[float, float] | None = None
    """of a million prompt tokens and of a million generated ones"""
    prompt_format: str = "plain"
    """plain or chat"""
    chosen_format: bool = False
    """by the model: nobody asked for it"""
    takes_images: bool = False
    """whether images can be sent to it; whether it looks at them is its own affair"""

    def going_on(self, *runs: Path) -> JudgeChoice:
        """For runs that may have begun: an earlier version asked every model in plain, and such a run goes on so.

        `runs` are their run.json. Raises InputError for a damaged one.
        """
        from judgelm.judge.description import read_description

        if not self.chosen_format or self.prompt_format == "plain":
            return self
        begun = [found for path in runs if (found := read_description(path)) is not None]
        if not any("prompt_format" not in found.settings for found in begun):
            return self
        why = "these judgements were begun in plain, by an earlier version: they go on so"
        print(f"judgelm: prompt format plain, not chat: {why}", file=sys.stderr)
        described = {name: value for name, value in self.described.items() if name != _TEMPLATE}
        return replace(self, prompt_format="plain", described=described)

    def settle(self, settings: JudgeSettings) -> JudgeSettings:
        """With what the judge has chosen of how samples are judged.

        Raises SettingError where a model in this process is to think that is not asked in chat.
        """
        if settings.reasoning and self.prompt_format == "plain" and self.described.get("engine") != "openai":
            raise SettingError("reasoning", NO_CHAT)
        return settings.settled(self.constrained, self.prompt_format)

    def check_images(self, samples: Sequence[Sample]) -> None:
        """Raises InputError for a sample with images that it cannot be shown."""
        if not self.takes_images:
            check_no_images(samples)

    @property
    def model_id(self) -> str:
        """Its name in records, where none is given."""
        return Path(self.name).name


AnyJudge = Union[ModelChoice, "Server", JudgeChoice]
"""what a caller can name as the judge"""


def prepare(judge: AnyJudge) -> JudgeChoice:
    """Find a model or describe a server; nothing is loaded yet.

    Raises InputError where the model cannot be found or its engine, device or data type does not exist here.
    """
    if isinstance(judge, JudgeChoice):
        return judge
    return _prepare_model(judge) if isinstance(judge, ModelChoice) else _prepare_server(judge)


def _prepare_model(choice: ModelChoice) -> JudgeChoice:
    placement = choice.placement
    folder = find_model(os.fspath(choice.model))
    constrained = folder.name in NOTES if choice.constrained is None else choice.constrained
    form = find_prompt_format(folder, choice.prompt_format)
    described = {
        "engine": choice.engine,
        "model": folder.name,
        "model_fingerprint": folder.fingerprint(),
        "dtype": placement.choose_dtype(choice.dtype),
        "quantization": choice.quantization,
        **({} if form.template_sha256 is None else {_TEMPLATE: form.template_sha256}),
    }
    names = ("device", "batch_tokens", "max_gpu_memory", "quantization", "compile", "engine")
    options: dict[str, Any] = {name: getattr(choice, name) for name in names}
    options |= {"num_gpus": placement.gpus_each or 1, "constrained": constrained, "prompt_format": form.name}
    load: Callable[[], JudgeLike] = functools.partial(Judge.load, folder, dtype=choice.dtype, **options)
    if not placement.alone:
        # all replicas compute in what run.json names, whatever their nodes could
        options |= {"dtype": described["dtype"], "device": placement.device_of_each}
        load_each = functools.partial(load_on_node, absolute(folder), described["model_fingerprint"], **options)
        load = functools.partial(Replicas, load_each, placement)
    auto = choice.prompt_format == "auto"
    return JudgeChoice(
        folder.name,
        functools.cache(load),
        described,
        constrained,
        folder.note,
        prompt_format=form.name,
        chosen_format=auto,
    )


def _prepare_server(server: Server) -> JudgeChoice:
    from judgelm.engine.openai.engine import OpenAIEngine

    described = {
        "engine": "openai",
        "model": server.model,
        "base_url": server.base_url,
        "api": server.api,
        "request_fields": server.fields,
    }
    load = functools.cache(lambda: Judge(OpenAIEngine(server)))
    return JudgeChoice(server.model, load, described, prices=server.prices, takes_images=server.api == "chat")
