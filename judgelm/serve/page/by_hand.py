"""Judging by hand: a form's texts -> a judgement as it is written, and questions to the judge about it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from pydantic import ValidationError

from judgelm.engine.interface import Sampling
from judgelm.errors import InputError
from judgelm.prompt import TASKS
from judgelm.sample import MAX_ANSWERS, rotation
from judgelm.serve.judgement_requests import JudgementRequest, Result, ResultOut, SampleIn
from judgelm.serve.judgements import Written, judge_through
from judgelm.serve.page.dialogue_form import parse_dialogue
from judgelm.serve.page.result import GRADED, meaning, show_message, show_result, show_talk, show_waiting
from judgelm.serve.page.shared import Pace, Page, PageSettings, Shown, check_texts, say
from judgelm.serve.protocol import WorkerError
from judgelm.serve.worker_requests import GenerateParams, JudgeSample, Turn

log = logging.getLogger(__name__)

_BETWEEN_STEPS_S = 0.1
"""the page is told of new text no more often"""


@dataclass(frozen=True, slots=True)
class Tab:
    """One way of judging by hand."""

    slug: str
    title: str
    task: str
    note: str
    reference: bool = False
    image: bool = False
    dialogue: bool = False
    """a dialogue in place of the question"""


TABS = (
    Tab("judge", "Judge", "pair", "Two answers to one question; each gets a score from 1 to 10."),
    Tab("judge-reference", "Judge with reference", "pair", "The judge also sees a known good answer.", reference=True),
    Tab("multi", "Multiple answers", "multi", f"2 to {MAX_ANSWERS} answers at once."),
    Tab(
        "multi-reference",
        "Multiple answers with reference",
        "multi",
        f"2 to {MAX_ANSWERS} answers and a known good one.",
        reference=True,
    ),
    Tab(
        "dialogue",
        "Dialogue",
        "pair",
        "Two replies to a dialogue. It ends in the user's question; a long one loses its oldest turns first.",
        dialogue=True,
    ),
    Tab("single", "Single answer", "single", "One answer, graded against a reference answer that is worth 10."),
    Tab("grade", "Grade one answer", "grade", "One answer gets a score, by itself."),
    Tab(
        "multimodal",
        "Multimodal answers",
        "pair",
        "Answers about an image. The judge reads the texts only: the reference should say what the image shows.",
        reference=True,
        image=True,
    ),
)
NAMES: dict[str, tuple[str, ...]] = {"single": GRADED, "grade": ("Answer",)}


def _read_form(tab: Tab, count: int, texts: Sequence[str]) -> SampleIn:
    question, *rest = [text or "" for text in texts]
    reference = rest.pop(0) if tab.reference else None
    answers = rest[:count]
    if not question.strip():
        raise InputError(f"Write a {'dialogue' if tab.dialogue else 'question'} first.")
    if reference is not None and not reference.strip():
        raise InputError("Write a reference first, or use the tab without one.")
    empty = [str(k) for k, answer in enumerate(answers, start=1) if not answer.strip()]
    if empty:
        raise InputError(f"Answer {' and '.join(empty)} is empty.")
    if tab.dialogue:
        said = {"question_id": "page", "messages": parse_dialogue(question), "answers": answers}
        return SampleIn.model_validate(said)
    return SampleIn(question_id="page", question=question, answers=answers, reference=reference)


def judge(page: Page, tab: Tab, fresh: bool) -> Callable[..., AsyncGenerator[list[Any], None]]:
    """Fills a tab's place: picture, both orders' texts, what is remembered, chat, download, note, and the thoughts with
    what they are folded in.
    """

    async def judging(*values: Any) -> AsyncGenerator[list[Any], None]:
        wide = len(PageSettings._fields)
        settings, count, texts = PageSettings(*values[:wide]), values[wide], values[wide + 1 :]
        try:
            given = _read_form(tab, count, texts)
            seed = random.getrandbits(32) if fresh else 0
            request = await asyncio.to_thread(settings.request, [given], tab.task, seed)
            await check_texts(page.moderate, [*texts, settings.criteria])
            names = NAMES.get(tab.task) or [f"Answer {k}" for k in range(1, len(given.answers or ()) + 1)]
            async with contextlib.aclosing(_judge(page, request, names)) as steps:
                async for step in steps:
                    yield step
        except (InputError, WorkerError, ValidationError) as error:
            yield [show_message(say(error)), *[gr.skip()] * 8]
        except Exception:
            log.exception("the page could not judge")
            yield [show_message("The page failed; its log says why."), *[gr.skip()] * 8]

    return judging


async def _judge(page: Page, request: JudgementRequest, names: Sequence[str]) -> AsyncGenerator[list[Any], None]:
    rotated = request.orders == "all"
    label = "Rotated" if rotated else "Answers exchanged"
    second = gr.update(value="", label=label, visible=request.orders in ("both", "all"))
    yield [show_waiting(), "", second, {}, "", None, "", *_folded("")]
    parts: dict[str, dict[str | None, str]] = {"forward": {}} if rotated else {"forward": {}, "reversed": {}}
    pace = Pace(_BETWEEN_STEPS_S)
    async with contextlib.aclosing(judge_through(page.workers, request)) as events:
        async for event in events:
            if isinstance(event, Written):
                parts.setdefault(event.order, {})[event.aspect] = event.text
                if pace.is_due():
                    texts = _two({order: _together(said) for order, said in parts.items()})
                    yield [gr.skip(), *texts, *[gr.skip()] * 6]
                continue
            written = {order: _together(said) for order, said in parts.items()}
            written |= {one.order: one.judgement.text for one in event.generated}
            shown = {"request": request.model_dump(), "result": ResultOut.of(event).model_dump(), "turns": []}
            taken = await asyncio.to_thread(page.to_file, shown)
            texts, thoughts = _two(written), _folded(_thoughts(event))
            yield [show_result(event, names), *texts, {} if event.error else shown, "", taken, "", *thoughts]


def _thoughts(result: Result) -> str:
    """What the judge thought, order by order."""
    thought = [(one.order, one.generation.reasoning) for one in result.generated if one.generation]
    return "\n\n".join(f"[{meaning(order)}]\n{text}" for order, text in thought if text)


def _folded(thoughts: str) -> tuple[Any, str]:
    """What they are folded in, which is there where there are any, and they themselves."""
    return gr.update(visible=bool(thoughts), open=False), thoughts


def _two(written: Mapping[str, str]) -> tuple[str, str]:
    """The texts of the two boxes: of the order given, and of the other, or of all rotations."""
    rotated = [f"[{meaning(order)}]\n{written[order]}" for order in sorted(written) if rotation(order)]
    return written.get("forward", ""), written.get("reversed", "") or "\n\n".join(rotated)


def _together(said: Mapping[str | None, str]) -> str:
    """The text so far; with criteria those by all aspects, one below the other."""
    return "\n\n".join(text if aspect is None else f"[{aspect}]\n{text}" for aspect, text in said.items())


def follow(page: Page) -> Callable[..., AsyncGenerator[list[Any], None]]:
    """Asks the judge about what is remembered; fills that, the chat and the question's box."""

    async def following(shown: Shown, asked: str, *values: Any) -> AsyncGenerator[list[Any], None]:
        question = (asked or "").strip()
        if not question:
            return
        turns = [(turn["question"], turn["reply"]) for turn in shown["turns"]] if shown else []

        def talk(text: str) -> str:
            return show_talk([*turns, (question, text)])

        if not shown:
            yield [gr.skip(), talk("Judge something first."), gr.skip()]
            return
        try:
            params = _question(shown, question, PageSettings(*values))
            await check_texts(page.moderate, [question])
            yield [gr.skip(), talk("…"), ""]
            reply, pace = "", Pace(_BETWEEN_STEPS_S)
            async with contextlib.aclosing(page.workers.stream(shown["request"]["model"], params)) as chunks:
                async for chunk in chunks:
                    reply = chunk.text.strip()
                    if pace.is_due():
                        yield [gr.skip(), talk(reply or "…"), gr.skip()]
            new = shown | {"turns": [*shown["turns"], {"question": question, "reply": reply}]}
            yield [new, talk(reply or "(the judge wrote nothing)"), gr.skip()]
        except (InputError, WorkerError, ValueError) as error:
            yield [gr.skip(), talk(f"This could not be asked: {say(error)}"), gr.skip()]

    return following


def _question(shown: Shown, question: str, settings: PageSettings) -> GenerateParams:
    """A further question about the first judgement that is remembered."""
    before = JudgementRequest.model_validate(shown["request"])
    if before.criteria is not None:
        raise InputError("the judge was asked for each aspect by itself, so there is no one judgement to talk about.")
    asked = settings._replace(model=before.model, criteria=None).request(before.samples, before.task)
    sample = JudgeSample.of(before.samples[0].sample, before.task)
    followup = {
        "judgement": shown["result"]["judgements"][0]["text"].removeprefix(TASKS[before.task].prefill),
        "turns": [Turn(**turn) for turn in shown["turns"]],
        "followup": question,
    }
    sampling = Sampling(asked.temperature, asked.max_new_tokens, top_p=asked.top_p)
    return GenerateParams.of(sample.model_copy(update=followup), sampling)
