"""The web page: six tabs to judge by hand and one for files, over the workers of a controller."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import ValidationError

from judgelm.engine.interface import Sampling
from judgelm.errors import InputError
from judgelm.jsonl import dump_json, dump_line
from judgelm.prompt import TASKS
from judgelm.sample import MAX_ANSWERS, Sample
from judgelm.serve.judgements import ResultOut, SampleIn, judge_through
from judgelm.serve.page.batch_tab import add_batch_tab
from judgelm.serve.page.examples import EXAMPLES
from judgelm.serve.page.files import append_private, remove_old, write_private
from judgelm.serve.page.result import GRADED, STYLE, show_message, show_result, show_talk
from judgelm.serve.page.settings import DETAILS, Moderate, PageSettings, check_texts
from judgelm.serve.protocol import WorkerError
from judgelm.serve.servers import describe
from judgelm.serve.worker_client import Workers, followup_params

log = logging.getLogger(__name__)

CSS = (
    STYLE
    + """
.gradio-container { width: 100% !important; max-width: 1180px !important; margin: 0 auto !important; }
.title h1 { margin-bottom: .1rem; }
footer { display: none !important; }
label:has(> .icon-button-wrapper) > span { max-width: calc(100% - 2rem); }
"""
)
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


TABS = (
    Tab("judge", "Judge", "pair", "Two answers to one question; each gets a score from 1 to 10."),
    Tab(
        "judge-reference",
        "Judge with reference",
        "pair",
        "The judge also sees a known good answer.",
        reference=True,
    ),
    Tab("multi", "Multiple answers", "multi", f"2 to {MAX_ANSWERS} answers at once."),
    Tab(
        "multi-reference",
        "Multiple answers with reference",
        "multi",
        f"2 to {MAX_ANSWERS} answers and a known good one.",
        reference=True,
    ),
    Tab("single", "Single answer", "single", "One answer, graded against a reference answer that is worth 10."),
    Tab(
        "multimodal",
        "Multimodal answers",
        "pair",
        "Answers about an image. The judge reads the texts only: the reference should say what the image shows.",
        reference=True,
        image=True,
    ),
)
_NAMES = {"single": GRADED}

Shown = dict[str, Any]
"""what a tab remembers of its last judgement; empty before the first"""


@dataclass
class Page:
    """What all visitors share."""

    workers: Workers
    log_folder: Path
    folder: Path
    """for what visitors take home; nobody else can read it"""
    reload_models: bool = True
    moderate: Moderate | None = None
    limit: int = 16
    """judgements that run at once, of all visitors"""
    models: list[str] = field(default_factory=list)

    async def find_models(self) -> list[str]:
        """The judges to choose from; those of before where the controller does not answer."""
        with contextlib.suppress(WorkerError):
            self.models = await self.workers.models()
        return self.models

    async def opened(self, request: gr.Request) -> Any:
        """The model selector for a new visitor; `?model=` chooses one."""
        if self.reload_models or not self.models:
            await self.find_models()
        wanted = request.query_params.get("model")
        return self._selector(wanted)

    async def refreshed(self, chosen: str | None) -> Any:
        await self.workers.refresh()
        await self.find_models()
        return self._selector(chosen)

    def _selector(self, wanted: str | None) -> Any:
        value = wanted if wanted in self.models else next(iter(self.models), None)
        info = "" if self.models else "no worker has registered yet"
        return gr.update(choices=self.models, value=value, info=info)

    def note_down(self, kind: str, shown: Shown) -> str:
        """Log a vote; says so."""
        if not shown:
            return "Judge something first."
        record = {"time": time.time(), "vote": kind, **shown}
        append_private(self.log_folder / "votes.jsonl", dump_line(record))
        return f"Thank you: {kind} noted."

    def to_file(self, shown: Shown) -> str:
        """The judgement as a JSON file for download."""
        remove_old(self.folder)
        path = self.folder / f"judgement-{uuid.uuid4().hex[:12]}.json"
        write_private(path, dump_json(shown, indent=2) + "\n")
        return str(path)


def build_page(page: Page) -> gr.Blocks:
    """All of the page."""
    with gr.Blocks(title="JudgeLM", analytics_enabled=False, delete_cache=(3600, 86400)) as blocks:
        gr.Markdown(
            "# JudgeLM\nA judge reads a question and its answers, scores them, and says why.", elem_classes="title"
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=240):
                model = gr.Dropdown(label="Judge", choices=[], elem_id="model")
                refresh = gr.Button("Refresh judges", size="sm", elem_id="refresh")
            with gr.Column(scale=3, min_width=280):
                detail = gr.Radio(list(DETAILS), value=DETAILS[0], label="Detail", elem_id="detail")
                both = gr.Checkbox(True, label="Judge both orders: does the verdict survive a swap?", elem_id="both")
        with gr.Accordion("Sampling", open=False), gr.Row():
            temperature = gr.Slider(0, 2, 0.2, step=0.05, label="Temperature", info="0 is greedy")
            top_p = gr.Slider(0.05, 1, 1, step=0.05, label="Top-p")
            length = gr.Slider(16, 2048, 512, step=16, label="Most tokens of a judgement")
        settings = [model, detail, both, temperature, top_p, length]  # as PageSettings has them
        for tab in TABS:
            with gr.Tab(tab.title, id=tab.slug, elem_id=f"tab-{tab.slug}"):
                _add_tab(page, tab, settings)
        with gr.Tab("Batch", id="batch", elem_id="tab-batch"):
            add_batch_tab(page.workers, page.folder, settings, page.moderate, page.limit)
        blocks.load(page.opened, None, model)
        refresh.click(page.refreshed, model, model)
    # they are the page's own: none of them is offered to programs, which have the API
    for job in blocks.fns.values():
        job.api_visibility = "private"
    made: gr.Blocks = blocks
    return made


def _add_tab(page: Page, tab: Tab, settings: list[Any]) -> None:
    slug = tab.slug
    gr.Markdown(tab.note)

    def box(name: str, label: str, lines: int = 4, **more: Any) -> gr.Textbox:
        return gr.Textbox(label=label, lines=lines, max_lines=14, elem_id=f"{slug}-{name}", **more)

    with gr.Row():
        with gr.Column(scale=1, min_width=320):
            image = (
                gr.Image(label="Image, shown to you alone", type="filepath", height=260, interactive=True)
                if tab.image
                else None
            )
            question = box("question", "Question", 3)
            reference = box("reference", "Reference", 3) if tab.reference else None
            count = gr.State(2)
            if tab.task == "multi":
                answers = [box(f"answer{k}", f"Answer {k}", visible=k <= 2) for k in range(1, MAX_ANSWERS + 1)]
                with gr.Row():
                    more = gr.Button("Add an answer", size="sm", elem_id=f"{slug}-more")
                    fewer = gr.Button("Remove the last", size="sm", elem_id=f"{slug}-fewer")
                for button, step in ((more, 1), (fewer, -1)):
                    button.click(_change_count(step), count, [count, *answers], show_progress="hidden")
            else:
                answers = [
                    box(f"answer{k}", name) for k, name in enumerate(_NAMES.get(tab.task, ("Answer 1", "Answer 2")), 1)
                ]
            with gr.Row():
                judge = gr.Button("Judge", variant="primary", min_width=120, elem_id=f"{slug}-go")
                stop = gr.Button("Stop", min_width=120, elem_id=f"{slug}-stop")
                again = gr.Button("Regenerate", min_width=120, elem_id=f"{slug}-again")
                clear = gr.Button("Clear", min_width=120, elem_id=f"{slug}-clear")
            texts = [question, *([reference] if reference is not None else []), *answers]
            rows = EXAMPLES[tab.slug]
            shown_texts = texts[: len(rows[0])]
            gr.Examples([list(row) for row in rows], shown_texts, label="Examples", elem_id=f"{slug}-examples")
        with gr.Column(scale=1, min_width=320):
            picture = gr.HTML(elem_id=f"{slug}-picture")
            with gr.Row():
                forward = _judgement_box("Judgement", f"{slug}-forward")
                reversed_ = _judgement_box("Answers exchanged", f"{slug}-reversed", visible=False)
            with gr.Row():
                votes = [
                    gr.Button(text, size="sm", min_width=80, elem_id=f"{slug}-{kind}")
                    for kind, text in (("upvote", "Good judgement"), ("downvote", "Bad judgement"), ("flag", "Flag"))
                ]
                download = gr.DownloadButton("Download", size="sm", min_width=80, elem_id=f"{slug}-download")
            noted = gr.Markdown(elem_id=f"{slug}-noted")
            with gr.Accordion("Ask the judge about its judgement", open=True):
                chat = gr.HTML(elem_id=f"{slug}-chat")
                asked = gr.Textbox(
                    show_label=False,
                    placeholder="Why is answer 2 worse?",
                    submit_btn=True,
                    elem_id=f"{slug}-followup",
                )
    shown = gr.State({})
    outputs = [picture, forward, reversed_, shown, chat, download, noted]
    bound: dict[str, Any] = {"concurrency_id": "judge", "concurrency_limit": page.limit}
    follow = asked.submit(
        _following(page), [shown, asked, *settings], [shown, chat, asked], show_progress="hidden", **bound
    )
    # whatever still runs would write into the same boxes
    form = [*settings, count, *texts]
    run: dict[str, Any] = {"show_progress": "minimal", "trigger_mode": "once", **bound}
    first = judge.click(_judging(page, tab, False), form, outputs, cancels=[follow], **run)
    second = again.click(_judging(page, tab, True), form, outputs, cancels=[follow, first], **run)
    judge.click(None, cancels=[second])
    runs = [first, second]
    stop.click(None, cancels=[*runs, follow])
    cleared = [*texts, *outputs, asked, *([image] if image is not None else [])]
    clear.click(
        lambda: [
            *(["" for _ in texts]),
            *("", "", gr.update(value="", visible=False), {}, "", None, "", ""),
            *([None] if image is not None else []),
        ],
        None,
        cleared,
        cancels=[*runs, follow],
        show_progress="hidden",
    )
    for kind, button in zip(("upvote", "downvote", "flag"), votes, strict=True):
        button.click(_voting(page, kind), shown, noted, show_progress="hidden")


def _judgement_box(label: str, elem_id: str, **more: Any) -> gr.Textbox:
    return gr.Textbox(
        label=label, lines=7, max_lines=20, interactive=False, buttons=["copy"], min_width=220, elem_id=elem_id, **more
    )


def _change_count(step: int) -> Callable[[int], list[Any]]:
    def change(count: int) -> list[Any]:
        count = min(MAX_ANSWERS, max(2, count + step))
        return [count, *(gr.update(visible=k <= count) for k in range(1, MAX_ANSWERS + 1))]

    return change


def _voting(page: Page, kind: str) -> Callable[[Shown], str]:
    return lambda shown: page.note_down(kind, shown)


def _read_form(tab: Tab, count: int, texts: Sequence[str]) -> SampleIn:
    question, *rest = [text or "" for text in texts]
    reference = rest.pop(0) if tab.reference else None
    answers = rest[:count]
    if not question.strip():
        raise InputError("Write a question first.")
    if reference is not None and not reference.strip():
        raise InputError("Write a reference first, or use the tab without one.")
    empty = [str(k) for k, answer in enumerate(answers, start=1) if not answer.strip()]
    if empty:
        raise InputError(f"Answer {' and '.join(empty)} is empty.")
    return SampleIn(question_id="page", question=question, answers=answers, reference=reference)


def _judging(page: Page, tab: Tab, fresh: bool) -> Callable[..., AsyncGenerator[list[Any], None]]:
    async def judge(*values: Any) -> AsyncGenerator[list[Any], None]:
        wide = len(PageSettings._fields)
        settings, count, texts = PageSettings(*values[:wide]), values[wide], values[wide + 1 :]
        keep = gr.skip()
        try:
            given = _read_form(tab, count, texts)
            request = settings.request([given], tab.task, random.getrandbits(32) if fresh else 0)
            await check_texts(page.moderate, texts)
            two_orders = request.orders == "both"
            waiting = '<div class="verdict"><p class="note" role="status">The judge is reading …</p></div>'
            yield [waiting, "", gr.update(value="", visible=two_orders), {}, "", None, ""]
            written = {"forward": "", "reversed": ""}
            told = 0.0
            async with contextlib.aclosing(judge_through(page.workers, request)) as events:
                async for event in events:
                    if event["event"] == "text":
                        written[event["order"]] = event["text"]
                        if time.monotonic() - told >= _BETWEEN_STEPS_S:
                            told = time.monotonic()
                            yield [keep, written["forward"], written["reversed"], keep, keep, keep, keep]
                        continue
                    result: ResultOut = event["result"]
                    for one in result.judgements:
                        written[one.order] = one.text
                    shown = {"request": request.model_dump(), "result": result.model_dump(), "turns": []}
                    names = _NAMES.get(tab.task) or [f"Answer {k}" for k in range(1, len(given.answers) + 1)]
                    yield [
                        show_result(result, names),
                        written["forward"],
                        written["reversed"],
                        {} if result.error else shown,
                        "",
                        await asyncio.to_thread(page.to_file, shown),
                        "",
                    ]
        except (InputError, WorkerError) as error:
            yield [show_message(str(error)), *[keep] * 6]
        except ValidationError as error:
            yield [show_message(describe(error)), *[keep] * 6]
        except Exception:
            log.exception("the page could not judge")
            yield [show_message("The page failed; its log says why."), *[keep] * 6]

    return judge


def _following(page: Page) -> Callable[..., AsyncGenerator[list[Any], None]]:
    async def follow(shown: Shown, asked: str, *values: Any) -> AsyncGenerator[list[Any], None]:
        question = (asked or "").strip()
        if not question:
            return
        if not shown:
            yield [gr.skip(), show_talk([(question, "Judge something first.")]), gr.skip()]
            return
        request, result = shown["request"], shown["result"]
        given, task = request["samples"][0], request["task"]
        sample = Sample("page", given["question"], tuple(given["answers"]), given["reference"])
        judgement = result["judgements"][0]["text"].removeprefix(TASKS[task].prefill)
        turns = [(turn["question"], turn["reply"]) for turn in shown["turns"]]
        reply = ""

        def talk(text: str) -> str:
            return show_talk([*turns, (question, text)])

        try:
            settings = PageSettings(*values)._replace(model=request["model"])
            checked = settings.request([SampleIn.model_validate(given)], task)
            sampling = Sampling(checked.temperature, checked.max_new_tokens, top_p=checked.top_p)
            await check_texts(page.moderate, [question])
            yield [gr.skip(), talk("…"), ""]
            params = followup_params(sample, task, judgement, turns, question, sampling)
            told = 0.0
            async with contextlib.aclosing(page.workers.stream(request["model"], params)) as chunks:
                async for chunk in chunks:
                    reply = chunk.text.strip()
                    if time.monotonic() - told >= _BETWEEN_STEPS_S:
                        told = time.monotonic()
                        yield [gr.skip(), talk(reply or "…"), gr.skip()]
            new = shown | {"turns": [*shown["turns"], {"question": question, "reply": reply}]}
            yield [new, talk(reply or "(the judge wrote nothing)"), gr.skip()]
        except ValidationError as error:
            yield [gr.skip(), talk(f"This could not be asked: {describe(error)}"), gr.skip()]
        except (InputError, WorkerError, ValueError) as error:
            yield [gr.skip(), talk(f"This could not be asked: {error}"), gr.skip()]

    return follow
