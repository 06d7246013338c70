"""A sample -> what an engine is asked: its prompt, made to fit, and whether the judge thinks after it."""

from __future__ import annotations

from judgelm.criteria import Aspect
from judgelm.dialogue import Shortened
from judgelm.engine.interface import Engine, Request, Sampling
from judgelm.judge.settings import JudgeSettings
from judgelm.prompt import TASKS
from judgelm.sample import Sample
from judgelm.thinking import opened_thoughts


def make_request(
    engine: Engine, key: str, sample: Sample, settings: JudgeSettings, sampling: Sampling, aspect: Aspect | None = None
) -> tuple[Request, Shortened | None]:
    """The request for a sample as it is shown, by an aspect where one is given, and what of it was left out.

    Raises PromptTooLong where it does not fit, and SettingError where a model is to think that is not asked in chat.
    """
    room = sampling.max_new_tokens + sampling.most_thoughts * settings.reasoning
    prompt = engine.fit(sample, settings.task, room, aspect, settings.form)
    # a server finds the place for thoughts itself
    tag = opened_thoughts(prompt.text) if settings.reasoning and prompt.input_ids else ""
    request = Request(
        key,
        prompt.text,
        prompt.input_ids,
        TASKS[settings.task].prefill,
        len(sample.answers),
        None if aspect is None else aspect.scale,
        sample.key,
        tag,
        prompt.images,
    )
    return request, prompt.shortened
