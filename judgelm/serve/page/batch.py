"""Files that visitors judge: checked, judged through the workers, looked at and taken away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
from pydantic import ValidationError

from judgelm.errors import InputError, one_line
from judgelm.evaluation.evaluation import measure_files
from judgelm.jsonl import Record, write_lines
from judgelm.judge.run import stamped
from judgelm.judge.settings import ORDERS, Order
from judgelm.prompt import TASKS, count_markers
from judgelm.report.terminal import metrics_table
from judgelm.sample import Sample
from judgelm.samples import check_no_images, find_task, read_samples
from judgelm.serve.judgement_requests import MOST_SAMPLES, Result, SampleIn
from judgelm.serve.judgements import judge_through
from judgelm.serve.page.files import remove_old
from judgelm.serve.page.shared import Pace, Page, PageSettings, check_texts, say
from judgelm.serve.protocol import WorkerError
from judgelm.serve.servers import describe
from judgelm.verdict_forms import SCORES

log = logging.getLogger(__name__)

_MOST_ROWS = 200
"""of the table; the files hold all"""
_MOST_BRACKETS = 1_000_000
MOST_ROWS_OF_A_FILE = 20_000
"""of a file; `judgelm judge` takes any number"""
_AT_ONCE = 2
"""files that are read at once, for all visitors: each keeps a core busy"""
_STEP_S = 0.5
"""the page is told of progress no more often; at a step gradio notices that the visitor has left"""
_T = TypeVar("_T")


class Batch:
    """What all visitors of a page do with files."""

    def __init__(self, page: Page) -> None:
        self.page = page
        # its work is a thread's: meanwhile the page serves other visitors
        self.gate = asyncio.Semaphore(_AT_ONCE)
        self.running: dict[str, asyncio.Event] = {}
        """sessions; a run that was cancelled could not hand over what it has: it looks at its event instead"""

    async def check(self, questions: str | None, references: str | None, task: str) -> AsyncGenerator[str, None]:
        """Says how many samples there are, or what is wrong."""
        try:
            counted = _wait_for(self.gate, partial(_count, questions, references, task))
            async with contextlib.aclosing(counted) as steps:
                async for said in steps:
                    yield said or "reading the file …"
        except InputError as error:
            yield _without_folders(error, questions, references)

    def stop(self, visit: gr.Request) -> None:
        """What was judged is handed over, nothing more is judged."""
        if (stopped := self.running.get(str(visit.session_hash))) is not None:
            stopped.set()

    async def judge(
        self,
        visit: gr.Request,
        questions: str | None,
        references: str | None,
        task: str,
        teacher: str | None,
        *values: Any,
    ) -> AsyncGenerator[list[Any], None]:
        """Fills state, table, metrics and files."""
        session, keep = str(visit.session_hash), gr.skip()
        stopped = self.running[session] = asyncio.Event()
        run = _Run(PageSettings(*values), task, self.page.folder)
        try:
            find_task(task)
            async with contextlib.aclosing(self._steps(run, questions, references, teacher)) as steps:
                async for step in steps:
                    if stopped.is_set() and not run.whole:
                        yield await run.partly("as you wished")
                        return
                    if step is not None:
                        yield step
        except (InputError, ValidationError) as error:
            yield [_without_folders(say(error), questions, references, teacher), keep, keep, keep]
        except WorkerError as error:
            yield await run.partly(str(error))
        except Exception:
            log.exception("the page could not judge a file")
            yield await run.partly("the page failed; its log says why")
        finally:
            if self.running.get(session) is stopped:
                del self.running[session]

    async def _steps(
        self, run: _Run, questions: str | None, references: str | None, teacher: str | None
    ) -> AsyncGenerator[list[Any] | None, None]:
        """What the page is told, or None where it is told nothing."""
        keep, pace = gr.skip(), Pace(_STEP_S)
        samples: list[Sample] = []
        reading = _wait_for(self.gate, partial(_read, questions, references, run.task))
        async with contextlib.aclosing(reading):
            async for read in reading:
                yield ["reading the file …", [], gr.update(value="", visible=False), None]
                samples = read or samples
        for sample in samples if self.page.moderate is not None else ():
            turns = sample.dialogue.all_turns if sample.dialogue else []
            texts = [sample.question, sample.reference, *sample.answers, *(turn.text for turn in turns)]
            texts.append(run.settings.criteria)
            await check_texts(self.page.moderate, texts, f"question_id {sample.question_id}")
            yield ["asking the moderation …", keep, keep, keep] if pace.is_due() else None
        yield [f"0 of {len(samples)} judged", keep, keep, keep]
        for start in range(0, len(samples), MOST_SAMPLES):
            block = samples[start : start + MOST_SAMPLES]
            given = [SampleIn.of(sample) for sample in block]
            request = await asyncio.to_thread(run.settings.request, given, run.task)
            async with contextlib.aclosing(judge_through(self.page.workers, request, patient=start > 0)) as events:
                async for event in events:
                    if isinstance(event, Result):
                        run.add(start + event.index, block[event.index], event)
                    said = f"{len(run.records)} of {len(samples)} judged"
                    yield [said, run.table, keep, keep] if pace.is_due() else None
        run.whole = True
        measuring = _wait_for(self.gate, partial(run.measure, teacher))
        async with contextlib.aclosing(measuring):
            async for measured in measuring:
                yield measured or [f"{len(samples)} of {len(samples)} judged, measuring …", run.table, keep, keep]


@dataclass
class _Run:
    """A file on its way."""

    settings: PageSettings
    task: str
    folder: Path
    whole: bool = False
    failed: int = 0
    rows: dict[int, list[str]] = field(default_factory=dict)
    records: dict[int, dict[Order, Record]] = field(default_factory=dict)

    def add(self, place: int, sample: Sample, result: Result) -> None:
        self.failed += result.verdict.scores is None
        if place < _MOST_ROWS:
            self.rows[place] = _row(sample, result)
        self.records[place] = {}
        for one in result.judged:
            # with all that the file says of it
            self.records[place][one.order] = stamped(
                replace(one, sample=sample.shown(one.order)), str(self.settings.model)
            )

    @property
    def table(self) -> list[list[str]]:
        return [self.rows[place] for place in sorted(self.rows)]

    async def partly(self, said: str) -> list[Any]:
        keep = gr.skip()
        if not self.records:
            return [f"Stopped after 0 judged: {said}", keep, keep, keep]
        paths = await asyncio.to_thread(self.write)
        return [f"Stopped after {len(self.records)} judged: {said}", self.table, keep, paths]

    def write(self) -> list[str]:
        remove_old(self.folder)
        made = Path(tempfile.mkdtemp(prefix="batch-", dir=self.folder))
        paths = []
        for order in ORDERS[self.settings.orders(self.task)]:
            records = [each[order] for _, each in sorted(self.records.items()) if order in each]
            # a sample is rotated by less than its answers
            if records or order == "forward":
                paths.append(str(made / f"{order}.jsonl"))
                write_lines(Path(paths[-1]), records)
        return paths

    def measure(self, teacher: str | None) -> list[Any]:
        """All that the page is told in the end: the files, and the metrics or why there are none."""
        paths = self.write()
        metrics, why = gr.skip(), ""
        try:
            if TASKS[self.task].max_answers == 2:
                _check_size(teacher)
                found = measure_files(paths[0], paths[1] if len(paths) > 1 else None, teacher)
                metrics = gr.update(value=metrics_table(found), visible=True)
        except InputError as error:
            why = f" No metrics: {_without_folders(error, teacher, *paths)}"
        shown = f" The table shows the first {_MOST_ROWS}." if len(self.records) > _MOST_ROWS else ""
        said = f"{len(self.records)} judged, {self.failed} without scores.{shown}{why}"
        return [said, self.table, metrics, paths]


def _row(sample: Sample, result: Result) -> list[str]:
    verdict = result.verdict
    agree = {True: "yes", False: "no", None: ""}[verdict.consistent]
    scores = " ".join(f"{round(score, 3):g}" for score in verdict.scores or ())
    what = "scores" if result.judged[0].judgement.form == SCORES else "verdict"
    note = result.error or ("" if verdict.scores else f"no {what} could be read")
    outcome = verdict.outcome.value if verdict.outcome else ""
    return [str(sample.question_id), one_line(sample.question)[:120], outcome, scores, agree, note]


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
    samples = read_samples(questions, task, reference_file=references, keep_thinking=True)
    if len(samples) > MOST_ROWS_OF_A_FILE:
        raise InputError(
            f"{questions}: found {len(samples)} rows, at most {MOST_ROWS_OF_A_FILE} can be judged here;"
            " `judgelm judge` takes more"
        )
    check_no_images(samples)
    read = list(samples)
    for sample in read:
        try:
            SampleIn.of(sample)
        except ValidationError as error:
            raise InputError(f"{questions}: question_id {sample.key[:80]}: {describe(error)}") from None
    return read


def _count(questions: str | None, references: str | None, task: str) -> str:
    samples = _read(questions, references, task)
    markers = sum(count_markers(sample) > 0 for sample in samples)
    suspicious = f" {markers} of them imitate the markers of the judge's prompt." if markers else ""
    referenced = sum(sample.reference is not None for sample in samples)
    return f"{len(samples)} samples can be judged, {referenced} with a reference.{suspicious}"


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
