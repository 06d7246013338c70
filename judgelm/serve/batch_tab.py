"""The page's tab for files: check them, judge them through the workers, look at the results, take them away."""

from __future__ import annotations

import contextlib
import logging
import tempfile
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
from judgelm.reading import read_samples
from judgelm.sample import Sample
from judgelm.serve.http import describe
from judgelm.serve.judging import MOST_SAMPLES, JudgementOut, JudgementRequest, ResultOut, SampleIn, judge_through
from judgelm.serve.protocol import WorkerError
from judgelm.serve.workers import Workers
from judgelm.verdict import Judgement

log = logging.getLogger(__name__)

_HEADERS = ["question_id", "question", "outcome", "scores", "both orders agree", "note"]
_MOST_ROWS = 200
"""of the table; the files hold all"""


def add_batch_tab(workers: Workers, folder: Path, settings: list[Any]) -> None:
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
    run = go.click(
        _judging(workers, folder),
        [*inputs, teacher, *settings],
        [status, table, metrics, files],
        show_progress="minimal",
        trigger_mode="once",
    )
    stop.click(None, cancels=[run])


def _read(questions: str | None, references: str | None, task: str) -> list[Sample]:
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


def _judging(workers: Workers, folder: Path) -> Callable[..., AsyncGenerator[list[Any], None]]:
    async def judge(
        questions: str | None,
        references: str | None,
        task: str,
        teacher: str | None,
        model: str | None,
        detail: str,
        both: bool,
        temperature: float,
        top_p: float,
        length: float,
    ) -> AsyncGenerator[list[Any], None]:
        keep = gr.skip()
        orders: list[Order] = ["forward", "reversed"] if both and not TASKS[task].prefill else ["forward"]
        try:
            samples = _read(questions, references, task)
            if not model:
                raise InputError("no judge is chosen; is a worker running? Refresh the list.")
            yield [f"0 of {len(samples)} judged", [], gr.update(value="", visible=False), None]
            rows: dict[int, list[str]] = {}
            records: dict[str, dict[int, Record]] = {order: {} for order in orders}
            failed = 0
            for start in range(0, len(samples), MOST_SAMPLES):
                block = samples[start : start + MOST_SAMPLES]
                request = JudgementRequest(
                    model=model,
                    samples=[_given(sample) for sample in block],
                    task=task,  # type: ignore[arg-type]
                    orders="both" if len(orders) == 2 else "forward",
                    scores_only=detail == "Scores only",
                    temperature=temperature,
                    top_p=top_p,
                    max_new_tokens=int(length),
                )
                async with contextlib.aclosing(judge_through(workers, request, model)) as events:
                    async for event in events:
                        if event["event"] != "result":
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
            made = Path(tempfile.mkdtemp(prefix="batch-", dir=folder))
            paths = {order: made / f"{order}.jsonl" for order in orders}
            for order, path in paths.items():
                write_lines(path, [records[order][index] for index in sorted(records[order])])
            said = f"{len(samples)} judged, {failed} without scores." + (
                f" The table shows the first {_MOST_ROWS}." if len(samples) > _MOST_ROWS else ""
            )
            shown = keep
            if task != "multi":
                try:
                    found_metrics = evaluate_files(paths["forward"], paths.get("reversed"), teacher)
                    shown = gr.update(value=metrics_table(found_metrics), visible=True)
                except InputError as error:
                    said += f" No metrics: {_without_folders(error, teacher, *map(str, paths.values()))}"
            yield [said, [rows[k] for k in sorted(rows)], shown, [str(path) for path in paths.values()]]
        except InputError as error:
            yield [_without_folders(error, questions, references, teacher), keep, keep, keep]
        except WorkerError as error:
            yield [f"Stopped: {error}", keep, keep, keep]
        except ValidationError as error:
            yield [describe(error), keep, keep, keep]
        except Exception:
            log.exception("the page could not judge a file")
            yield ["The page failed; its log says why.", keep, keep, keep]

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
