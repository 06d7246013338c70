"""The page's tab for files: check them, judge them through the workers, look at the results, take them away."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import ValidationError

from judgelm.engine import Generation
from judgelm.jsonl import InputError, Record, one_line, write_lines
from judgelm.llm_judge.evaluation import evaluate_files
from judgelm.llm_judge.judge import Judged, Order
from judgelm.llm_judge.report import metrics_table
from judgelm.prompt import TASKS, count_markers
from judgelm.reading import Samples, read_samples
from judgelm.sample import Sample
from judgelm.serve.http import describe
from judgelm.serve.judging import MOST_SAMPLES, JudgementOut, ResultOut, SampleIn, judge_through
from judgelm.serve.page_settings import Moderate, PageSettings, check_texts
from judgelm.serve.protocol import WorkerError
from judgelm.serve.workers import Workers
from judgelm.verdict import Judgement

log = logging.getLogger(__name__)

_HEADERS = ["question_id", "question", "outcome", "scores", "both orders agree", "note"]
_MOST_ROWS = 200
"""of the table; the files hold all"""
_KEPT_S = 24 * 3600.0
"""how long what a visitor may download stays"""


def remove_old(folder: Path) -> None:
    """Judgements that nobody will download any more."""
    for path in folder.iterdir():
        if path.stat().st_mtime < time.time() - _KEPT_S:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


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
        " With a file of teacher judgements the metrics are shown too."
    )
    with gr.Row():
        questions = gr.File(label="Questions and answers (JSONL)", file_types=[".jsonl"], elem_id="batch-file")
        references = gr.File(label="References (JSONL, may be left away)", file_types=[".jsonl"], elem_id="batch-refs")
        teacher = gr.File(
            label="Teacher judgements (JSONL, may be left away)", file_types=[".jsonl"], elem_id="batch-teacher"
        )
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
        column_widths=["12%", "38%", "10%", "10%", "12%", "18%"],
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
    check.click(_checked, inputs, status, show_progress="minimal")
    # a run that was cancelled could not hand over what it has: it looks here instead
    stopping: set[str] = set()
    go.click(
        _judging(workers, folder, moderate, stopping),
        [*inputs, teacher, *settings],
        [status, table, metrics, files],
        show_progress="minimal",
        trigger_mode="once",
        concurrency_id="judge",
        concurrency_limit=limit,
    )
    stop.click(_stopping(stopping), None, None, show_progress="hidden", queue=False)


def _read(questions: str | None, references: str | None, task: str) -> Samples:
    if questions is None:
        raise InputError("choose a file of questions and answers first")
    return read_samples(questions, task, reference_file=references)


def _checked(questions: str | None, references: str | None, task: str) -> str:
    try:
        samples = _read(questions, references, task)
    except InputError as error:
        return _without_folders(error, questions, references)
    markers = sum(count_markers(sample) > 0 for sample in samples)
    suspicious = f" {markers} of them imitate the markers of the judge's prompt." if markers else ""
    referenced = sum(sample.reference is not None for sample in samples)
    return f"{len(samples)} samples can be judged, {referenced} with a reference.{suspicious}"


def _without_folders(error: Exception, *paths: str | None) -> str:
    """An upload's folder is ours and tells its owner nothing."""
    text = one_line(str(error))
    for path in filter(None, paths):
        text = text.replace(path, Path(path).name)
    return text


def _stopping(sessions: set[str]) -> Callable[[gr.Request], None]:
    def stop(visit: gr.Request) -> None:
        sessions.add(str(visit.session_hash))

    return stop


def _judging(
    workers: Workers, folder: Path, moderate: Moderate | None, stopping: set[str]
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
        stopping.discard(session)
        settings = PageSettings(*values)
        orders = settings.orders(task)
        rows: dict[int, list[str]] = {}
        records: dict[Order, dict[int, Record]] = {order: {} for order in orders}

        def written() -> list[str]:
            """Files of what was judged, whole or not."""
            remove_old(folder)
            made = Path(tempfile.mkdtemp(prefix="batch-", dir=folder))
            paths = []
            for order in orders:
                paths.append(made / f"{order}.jsonl")
                write_lines(paths[-1], [records[order][index] for index in sorted(records[order])])
            return [str(path) for path in paths]

        def partly(said: str) -> list[Any]:
            done = len(records["forward"])
            return [f"Stopped after {done} judged: {said}", keep, keep, written() if done else keep]

        try:
            samples = _read(questions, references, task)
            for sample in samples:
                texts = [sample.question, sample.reference, *sample.answers]
                await check_texts(moderate, texts, f"question_id {sample.question_id}")
            yield [f"0 of {len(samples)} judged", [], gr.update(value="", visible=False), None]
            failed, told = 0, 0.0
            for start in range(0, len(samples), MOST_SAMPLES):
                block = samples[start : start + MOST_SAMPLES]
                request = settings.request([_given(sample) for sample in block], task)
                async with contextlib.aclosing(judge_through(workers, request, patient=start > 0)) as events:
                    async for event in events:
                        if session in stopping:
                            yield partly("as you wished")
                            return
                        if event["event"] != "result":
                            # at a step gradio notices that the visitor has left
                            if time.monotonic() - told >= 1:
                                told = time.monotonic()
                                yield [keep] * 4
                            continue
                        result: ResultOut = event["result"]
                        sample = block[event["index"]]
                        failed += result.error is not None or result.scores is None
                        place = start + event["index"]
                        if place < _MOST_ROWS:
                            rows[place] = _row(sample, result)
                        for order in orders:
                            found = next((one for one in result.judgements if one.order == order), None)
                            records[order][place] = _record(sample, order, task, found)
                        done = len(records[orders[0]])
                        yield [f"{done} of {len(samples)} judged", [rows[k] for k in sorted(rows)], keep, keep]
            paths = written()
            said = f"{len(samples)} judged, {failed} without scores." + (
                f" The table shows the first {_MOST_ROWS}." if len(samples) > _MOST_ROWS else ""
            )
            shown = keep
            if task != "multi":
                try:
                    found_metrics = evaluate_files(paths[0], paths[1] if len(paths) > 1 else None, teacher)
                    shown = gr.update(value=metrics_table(found_metrics), visible=True)
                except InputError as error:
                    said += f" No metrics: {_without_folders(error, teacher, *paths)}"
            yield [said, [rows[k] for k in sorted(rows)], shown, paths]
        except InputError as error:
            yield [_without_folders(error, questions, references, teacher), keep, keep, keep]
        except WorkerError as error:
            yield partly(str(error))
        except ValidationError as error:
            yield [describe(error), keep, keep, keep]
        except Exception:
            log.exception("the page could not judge a file")
            yield partly("the page failed; its log says why")

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


def _record(sample: Sample, order: Order, task: str, found: JudgementOut | None) -> Record:
    """A line of forward.jsonl or reversed.jsonl, as `judgelm judge` writes it."""
    shown = sample.swapped() if order == "reversed" else sample
    if found is None:
        return Judged(shown, order, task, Judgement.parse("", len(shown.answers)), None, None).to_record()
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
    return Judged(shown, order, task, judgement, generation, shortened).to_record()
