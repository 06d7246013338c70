"""The page's tab for files: check them, judge them through the workers, look at the results, take them away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
from pydantic import ValidationError

from judgelm.engine.interface import Generation
from judgelm.errors import InputError, one_line
from judgelm.evaluation.evaluation import measure_files
from judgelm.jsonl import Record, write_lines
from judgelm.judge.judged import Judged
from judgelm.judge.run import stamped
from judgelm.judge.settings import Order
from judgelm.judgement import Judgement
from judgelm.prompt import TASKS, count_markers
from judgelm.report.terminal import metrics_table
from judgelm.sample import Sample
from judgelm.samples import find_task, read_samples
from judgelm.serve.judgements import MOST_SAMPLES, JudgementOut, ResultOut, SampleIn, judge_through
from judgelm.serve.page.files import remove_old
from judgelm.serve.page.settings import Moderate, PageSettings, check_texts
from judgelm.serve.protocol import WorkerError
from judgelm.serve.servers import describe
from judgelm.serve.worker_client import Workers

log = logging.getLogger(__name__)

_HEADERS = ["question_id", "question", "outcome", "scores", "both orders agree", "note"]
_MOST_ROWS = 200
"""of the table; the files hold all"""
_FILES = [".jsonl", ".json"]
_MOST_BRACKETS = 1_000_000
_MOST_SAMPLES = 20_000
"""of a file; `judgelm judge` takes any number"""
_AT_ONCE = 2
"""files that are read at once, for all visitors: each keeps a core busy"""
_STEP_S = 0.5
"""the page is told of progress no more often; at a step gradio notices that the visitor has left"""
_T = TypeVar("_T")


def add_batch_tab(
    workers: Workers,
    folder: Path,
    settings: list[Any],
    moderate: Moderate | None,
    limit: int,
) -> None:
    """Into the tab that is open; results are written under `folder`."""
    gr.Markdown(
        "A JSON Lines file, as `judgelm judge` takes: `question_id`, `question_body`, `answer1_body`, `answer2_body`."
        f" It may have {_MOST_SAMPLES:,} rows. With a file of teacher judgements the metrics are shown too."
    )
    with gr.Row():
        questions = gr.File(label="Questions and answers", file_types=_FILES, elem_id="batch-file")
        references = gr.File(label="References (optional)", file_types=_FILES, elem_id="batch-refs")
        teacher = gr.File(label="Teacher judgements (optional)", file_types=_FILES, elem_id="batch-teacher")
    with gr.Row():
        task = gr.Dropdown(
            [(f"{spec.name}: {spec.help}", spec.name) for spec in TASKS.values()],
            value="pair",
            label="Task",
            elem_id="batch-task",
            scale=3,
        )
        check = gr.Button("Check", elem_id="batch-check", scale=1)
        go = gr.Button("Judge all", variant="primary", elem_id="batch-go", scale=1)
        stop = gr.Button("Stop", elem_id="batch-stop", scale=1)
    status = gr.Textbox(label="State", lines=1, max_lines=6, interactive=False, elem_id="batch-status")
    table = gr.Dataframe(
        headers=_HEADERS,
        column_widths=["120px", "410px", "110px", "110px", "130px", "230px"],
        datatype="str",
        interactive=False,
        wrap=True,
        max_height=420,
        elem_id="batch-table",
    )
    metrics = gr.Textbox(
        label="Metrics",
        lines=4,
        max_lines=24,
        interactive=False,
        visible=False,
        buttons=["copy"],
        elem_id="batch-metrics",
    )
    files = gr.File(label="Judgements", file_count="multiple", interactive=False, elem_id="batch-results")
    inputs = [questions, references, task]
    # its work is a thread's: meanwhile the page serves other visitors
    gate = asyncio.Semaphore(_AT_ONCE)
    check.click(_checking(gate), inputs, status, show_progress="minimal")
    # a run that was cancelled could not hand over what it has: it looks here instead
    running: dict[str, asyncio.Event] = {}
    go.click(
        _judging(workers, folder, moderate, gate, running),
        [*inputs, teacher, *settings],
        [status, table, metrics, files],
        show_progress="minimal",
        trigger_mode="once",
        concurrency_id="judge",
        concurrency_limit=limit,
    )
    stop.click(_stopping(running), None, None, show_progress="hidden", queue=False)


def _check_size(*paths: str | None) -> None:
    """Raises InputError for files that are many times larger in memory than they are: packed, or of nothing but
    brackets.
    """
    for path in filter(None, paths):
        content = Path(path).read_bytes()
        if content.startswith(b"\x1f\x8b"):
            raise InputError(f"{path}: packed with gzip; unpack it first")
        if content.count(b"{") + content.count(b"[") > _MOST_BRACKETS:
            raise InputError(f"{path}: holds more lists and objects than can be read here; `judgelm judge` takes more")


def _read(questions: str | None, references: str | None, task: str) -> list[Sample]:
    """All samples. Raises InputError."""
    if questions is None:
        raise InputError("choose a file of questions and answers first")
    _check_size(questions, references)
    samples = read_samples(questions, task, reference_file=references)
    if len(samples) > _MOST_SAMPLES:
        raise InputError(
            f"{questions}: found {len(samples)} rows, at most {_MOST_SAMPLES} can be judged here;"
            " `judgelm judge` takes more"
        )
    read = list(samples)
    for sample in read:
        try:
            _given(sample)
        except ValidationError as error:
            raise InputError(f"{questions}: question_id {sample.key[:80]}: {describe(error)}") from None
    return read


def _count(questions: str | None, references: str | None, task: str) -> str:
    samples = _read(questions, references, task)
    markers = sum(count_markers(sample) > 0 for sample in samples)
    suspicious = f" {markers} of them imitate the markers of the judge's prompt." if markers else ""
    referenced = sum(sample.reference is not None for sample in samples)
    return f"{len(samples)} samples can be judged, {referenced} with a reference.{suspicious}"


def _checking(gate: asyncio.Semaphore) -> Callable[[str | None, str | None, str], AsyncGenerator[str, None]]:
    async def check(questions: str | None, references: str | None, task: str) -> AsyncGenerator[str, None]:
        try:
            async with contextlib.aclosing(_wait_for(gate, partial(_count, questions, references, task))) as steps:
                async for said in steps:
                    yield said or "reading the file …"
        except InputError as error:
            yield _without_folders(error, questions, references)

    return check


async def _wait_for(gate: asyncio.Semaphore, work: Callable[[], _T]) -> AsyncGenerator[_T | None, None]:
    """None until a thread has done the work, then what came of it. Raises what it raises."""

    async def done() -> _T:
        async with gate:
            return await asyncio.to_thread(work)

    task = asyncio.create_task(done())
    # a visitor who leaves does not end a thread: nobody then asks what came of it
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    while not task.done():
        yield None
        await asyncio.wait({task}, timeout=_STEP_S)
    yield task.result()


def _without_folders(error: Exception | str, *paths: str | None) -> str:
    """An upload's folder is ours and tells its owner nothing."""
    text = one_line(str(error))
    for path in filter(None, paths):
        text = text.replace(path, Path(path).name)
    return text


def _stopping(running: dict[str, asyncio.Event]) -> Callable[[gr.Request], None]:
    def stop(visit: gr.Request) -> None:
        if (stopped := running.get(str(visit.session_hash))) is not None:
            stopped.set()

    return stop


@dataclass
class _Run:
    """A file on its way."""

    task: str
    orders: tuple[Order, ...]
    model: str
    folder: Path
    failed: int = 0
    rows: dict[int, list[str]] = field(default_factory=dict)
    records: dict[int, dict[Order, Record]] = field(default_factory=dict)

    def add(self, place: int, sample: Sample, result: ResultOut) -> None:
        self.failed += result.error is not None or result.scores is None
        if place < _MOST_ROWS:
            self.rows[place] = _row(sample, result)
        found = {one.order: one for one in result.judgements}
        self.records[place] = {
            order: stamped(_judged(sample, order, self.task, found.get(order)), self.model) for order in self.orders
        }

    @property
    def table(self) -> list[list[str]]:
        return [self.rows[place] for place in sorted(self.rows)]

    def write(self) -> list[str]:
        """Files of what was judged, whole or not."""
        remove_old(self.folder)
        made = Path(tempfile.mkdtemp(prefix="batch-", dir=self.folder))
        for order in self.orders:
            write_lines(made / f"{order}.jsonl", [self.records[place][order] for place in sorted(self.records)])
        return [str(made / f"{order}.jsonl") for order in self.orders]

    def measure(self, teacher: str | None) -> tuple[list[str], str | None, str]:
        """All files, the metrics where there are some, and why there are none."""
        paths = self.write()
        if self.task == "multi":
            return paths, None, ""
        try:
            _check_size(teacher)
            return paths, metrics_table(measure_files(paths[0], paths[1] if len(paths) > 1 else None, teacher)), ""
        except InputError as error:
            return paths, None, f" No metrics: {_without_folders(error, teacher, *paths)}"


def _judging(
    workers: Workers,
    folder: Path,
    moderate: Moderate | None,
    gate: asyncio.Semaphore,
    running: dict[str, asyncio.Event],
) -> Callable[..., AsyncGenerator[list[Any], None]]:
    async def judge(
        visit: gr.Request,
        questions: str | None,
        references: str | None,
        task: str,
        teacher: str | None,
        *values: Any,
    ) -> AsyncGenerator[list[Any], None]:
        keep, session = gr.skip(), str(visit.session_hash)
        stopped = running[session] = asyncio.Event()
        settings = PageSettings(*values)
        run: _Run | None = None

        async def partly(said: str) -> list[Any]:
            if run is None or not run.records:
                return [f"Stopped after 0 judged: {said}", keep, keep, keep]
            paths = await asyncio.to_thread(run.write)
            return [f"Stopped after {len(run.records)} judged: {said}", run.table, keep, paths]

        try:
            find_task(task)
            samples: list[Sample] = []
            async with contextlib.aclosing(_wait_for(gate, partial(_read, questions, references, task))) as steps:
                async for read in steps:
                    if stopped.is_set():
                        yield await partly("as you wished")
                        return
                    yield ["reading the file …", [], gr.update(value="", visible=False), None]
                    samples = read or samples
            run = _Run(task, settings.orders(task), str(settings.model), folder)
            told = time.monotonic()
            for sample in samples if moderate is not None else ():
                texts = [sample.question, sample.reference, *sample.answers]
                await check_texts(moderate, texts, f"question_id {sample.question_id}")
                if stopped.is_set():
                    yield await partly("as you wished")
                    return
                if time.monotonic() - told >= _STEP_S:
                    told = time.monotonic()
                    yield ["asking the moderation …", keep, keep, keep]
            yield [f"0 of {len(samples)} judged", keep, keep, keep]
            for start in range(0, len(samples), MOST_SAMPLES):
                block = samples[start : start + MOST_SAMPLES]
                request = settings.request([_given(sample) for sample in block], task)
                async with contextlib.aclosing(judge_through(workers, request, patient=start > 0)) as events:
                    async for event in events:
                        if stopped.is_set():
                            yield await partly("as you wished")
                            return
                        if event["event"] == "result":
                            run.add(start + event["index"], block[event["index"]], event["result"])
                        if time.monotonic() - told >= _STEP_S:
                            told = time.monotonic()
                            yield [f"{len(run.records)} of {len(samples)} judged", run.table, keep, keep]
            async with contextlib.aclosing(_wait_for(gate, partial(run.measure, teacher))) as steps_of_measure:
                async for measured in steps_of_measure:
                    if measured is None:
                        yield [f"{len(run.records)} of {len(samples)} judged, measuring …", run.table, keep, keep]
                        continue
                    paths, metrics, why = measured
                    shown = f" The table shows the first {_MOST_ROWS}." if len(samples) > _MOST_ROWS else ""
                    yield [
                        f"{len(samples)} judged, {run.failed} without scores.{shown}{why}",
                        run.table,
                        keep if metrics is None else gr.update(value=metrics, visible=True),
                        paths,
                    ]
        except (InputError, ValidationError) as error:
            said = describe(error) if isinstance(error, ValidationError) else str(error)
            yield [_without_folders(said, questions, references, teacher), keep, keep, keep]
        except WorkerError as error:
            yield await partly(str(error))
        except Exception:
            log.exception("the page could not judge a file")
            yield await partly("the page failed; its log says why")
        finally:
            if running.get(session) is stopped:
                del running[session]

    return judge


def _given(sample: Sample) -> SampleIn:
    return SampleIn(
        question_id=sample.question_id,
        question=sample.question,
        answers=list(sample.answers),
        reference=sample.reference,
    )


def _row(sample: Sample, result: ResultOut) -> list[str]:
    agree = {True: "yes", False: "no", None: ""}[result.consistent]
    scores = " ".join(f"{score:g}" for score in result.scores or [])
    note = result.error.message if result.error else "" if result.scores else "no scores could be read"
    return [str(sample.question_id), one_line(sample.question)[:120], result.outcome or "", scores, agree, note]


def _judged(sample: Sample, order: Order, task: str, found: JudgementOut | None) -> Judged:
    """What `judgelm judge` would have of it."""
    shown = sample.swapped() if order == "reversed" else sample
    if found is None:
        return Judged(shown, order, task, Judgement.parse("", len(shown.answers)), None, None)
    judgement = Judgement.parse(found.text, len(shown.answers))
    usage = found.usage
    written = found.text.removeprefix(TASKS[task].prefill)
    generation = Generation(
        shown.key,
        written,
        usage.prompt_tokens,
        usage.completion_tokens,
        found.finish_reason,  # type: ignore[arg-type]
    )
    shortened = tuple(found.shortened) if found.shortened else None
    return Judged(shown, order, task, judgement, generation, shortened)
