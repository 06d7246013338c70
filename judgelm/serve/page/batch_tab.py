"""The page's tab for files."""

from __future__ import annotations

from typing import Any

import gradio as gr

from judgelm.prompt import TASKS
from judgelm.serve.page.batch import MOST_ROWS_OF_A_FILE, Batch
from judgelm.serve.page.shared import Page

_WIDTHS = {
    "question_id": 120,
    "question": 410,
    "outcome": 110,
    "scores": 110,
    "both orders agree": 130,
    "note": 230,
}
"""columns of the table -> pixels"""


def add_batch_tab(page: Page, settings: list[Any]) -> None:
    """Into the tab that is open; `settings` are the components that all tabs share."""
    gr.Markdown(
        "A JSON Lines file, as `judgelm judge` takes: `question_id`, `question_body`, `answer1_body`, `answer2_body`."
        f" It may have {MOST_ROWS_OF_A_FILE:,} rows. With a file of teacher judgements the metrics are shown too."
    )
    with gr.Row():
        questions = _upload("Questions and answers", "batch-file")
        references = _upload("References (optional)", "batch-refs")
        teacher = _upload("Teacher judgements (optional)", "batch-teacher")
    with gr.Row():
        tasks = [(f"{spec.name}: {spec.help}", spec.name) for spec in TASKS.values()]
        task = gr.Dropdown(tasks, value="pair", label="Task", elem_id="batch-task", scale=3)
        check = gr.Button("Check", elem_id="batch-check", scale=1)
        go = gr.Button("Judge all", variant="primary", elem_id="batch-go", scale=1)
        stop = gr.Button("Stop", elem_id="batch-stop", scale=1)
    outputs = _add_results()
    inputs = [questions, references, task]
    batch = Batch(page)
    check.click(batch.check, inputs, outputs[0], show_progress="minimal")
    go.click(
        batch.judge,
        [*inputs, teacher, *settings],
        outputs,
        show_progress="minimal",
        trigger_mode="once",
        concurrency_id="judge",
        concurrency_limit=page.limit,
    )
    stop.click(batch.stop, None, None, show_progress="hidden", queue=False)


def _upload(label: str, elem_id: str) -> gr.File:
    return gr.File(label=label, file_types=[".jsonl", ".json"], elem_id=elem_id)


def _add_results() -> list[Any]:
    """State, table, metrics and files."""
    status = gr.Textbox(label="State", lines=1, max_lines=6, interactive=False, elem_id="batch-status")
    table = gr.Dataframe(
        headers=list(_WIDTHS),
        column_widths=[f"{width}px" for width in _WIDTHS.values()],
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
    return [status, table, metrics, files]
