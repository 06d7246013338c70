"""What a worker says of its judge's form, and of a text in it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from served_forms import BAD, EXAM, GOOD, LETTER, OURS, SAMPLES, load
from serving import asked
from test_serve_expected import Scripted

from judgelm.serve.chat import choose_format
from judgelm.serve.judgement_requests import JudgementRequest
from judgelm.serve.judgements import Written, judge_through
from judgelm.serve.protocol import WorkerError
from judgelm.serve.worker_answers import Chunk, Details, read_answer
from judgelm.serve.worker_client import Workers
from judgelm.serve.worker_prompts import Prompts
from judgelm.serve.worker_requests import GenerateParams

CHUNK = {"text": "[[A]]", "error_code": 0, "finish_reason": "stop"}


def through(workers: Workers, **settings: Any) -> list[Any]:
    given = {"model": "m", "samples": asked(SAMPLES[:1]), "orders": "forward", **settings}

    async def collect() -> list[Any]:
        try:
            return [event async for event in judge_through(workers, JudgementRequest.model_validate(given))]
        finally:
            await workers.close()

    return asyncio.run(collect())


def test_each_text_is_read_in_the_form_that_its_worker_names() -> None:
    for form, text, scores in (
        ("letter", "[[B]]", (0, 1)),
        ("json", '{"scores": [3, 4]}', (3, 4)),
        ("scores", "8 7", (8, 7)),
    ):
        (written, result) = through(Scripted(OURS, CHUNK | {"text": text, "verdict_format": form}))
        assert isinstance(written, Written)
        assert result.verdict.scores == scores
    # one of an older version, or of FastChat's, says nothing of it
    result = through(Scripted(OURS, CHUNK | {"text": "8 7"}))[-1]
    assert (result.verdict.scores, result.judged[0].judgement.form) == ((8, 7), "scores")
    assert through(Scripted(OURS, CHUNK))[-1].verdict.scores is None


class OfTwoForms(Scripted):
    """Two workers of one model, in turn, of which one was started with a template."""

    def __init__(self) -> None:
        super().__init__(OURS)
        self._turns = itertools.cycle(({"text": "8 7"}, {"verdict_format": "letter"}))

    async def _stream_from(self, address: str, params: Any) -> AsyncGenerator[Chunk, None]:
        yield Chunk.model_validate(CHUNK | next(self._turns))


def test_verdicts_of_two_forms_have_no_mean() -> None:
    (_, result) = through(OfTwoForms())
    assert result.verdict.scores == (8, 7)
    for settings in ({"orders": "both"}, {"criteria": EXAM.to_record()}):
        with pytest.raises(WorkerError, match="ask for verdicts in different forms: letter, scores"):
            through(OfTwoForms(), **settings)


def test_while_a_judge_thinks_the_stream_is_silent() -> None:
    thinks = {"text": "", "error_code": 0, "verdict_format": "letter"}
    said = (*[thinks] * 5, thinks | {"text": "[["}, CHUNK | {"verdict_format": "letter", "reasoning": "Hm."})
    *texts, result = through(Scripted(OURS, *said))
    assert [event.text for event in texts] == ["", "[[", "[[A]]"]
    assert result.judged[0].to_record()["pred_reasoning"] == "Hm."


@pytest.mark.parametrize(
    "chunk",
    [
        {"verdict_format": "essay"},
        {"verdict_format": ["letter"]},
        {"verdict_format": "x" * 100_000},
        {"reasoning": "x" * ((4 << 20) + 1)},
        {"reasoning": {"a": 1}},
    ],
)
def test_what_a_worker_says_of_a_text_is_checked(chunk: dict[str, Any]) -> None:
    with pytest.raises(WorkerError, match=r"^the worker's answer cannot be read"):
        through(Scripted(OURS, CHUNK | chunk))


@pytest.mark.parametrize(
    "details",
    [
        {"verdict_format": "essay"},
        {"tasks": ["<img src=x>"]},
        {"tasks": ["pair"] * 21},
        {"tasks": "pair"},
        {"reasoning": "very"},
        {"prompt_template": "x" * 64},
        {"prompt_template": "a" * 65},
        {"prompt_template": 5},
    ],
)
def test_what_a_worker_says_of_its_judge_is_checked(details: dict[str, Any]) -> None:
    good = {"tasks": ["pair"], "verdict_format": "letter", "reasoning": True, "prompt_template": "a" * 64}
    assert read_answer(Details, OURS | good).form == good
    assert read_answer(Details, OURS).form == {}
    with pytest.raises(WorkerError, match=r"^the worker's answer cannot be read"):
        read_answer(Details, OURS | good | details)


def test_a_question_about_a_letter_follows_the_judges_own_prompt(model_folder: Path, chat_folder: Path) -> None:
    sample = {"question": "Which?", "answers": [GOOD, BAD], "judgement": "[[A]]", "followup": "Why?"}
    params = GenerateParams.model_validate({"sample": sample, "max_new_tokens": 9})
    prompt = f"Which?\nA: {GOOD}\nB: {BAD}\nA or B?"
    for folder, text in (
        (model_folder, f"{prompt}[[A]]USER: Why? ASSISTANT:"),
        (chat_folder, f"<s><|user|>\n{prompt}</s>\n<|assistant|>\n[[A]]</s>\n<|user|>\nWhy?</s>\n<|assistant|>\n"),
    ):
        judge = load(folder)
        chat = judge.prompt_format == "chat"
        form = replace(LETTER, chat=chat, reasoning=chat)
        prompts = Prompts(judge, choose_format("vicuna", judge.engine.tokenizer, None), 8, form)  # type: ignore[attr-defined]
        prepared = asyncio.run(prompts.prepare(params))
        assert prepared.request.prompt == text
        # it answers at once, and its text is no verdict
        assert (prepared.request.reasoning, prepared.sampling.reasoning) == ("", False)
        assert prepared.verdict_format == "scores"
