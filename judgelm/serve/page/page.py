"""The web page: eight tabs to judge by hand and one for files, over the workers of a controller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from judgelm.prompt import TASKS
from judgelm.serve.page.batch import MOST_ROWS_OF_A_FILE, Batch
from judgelm.serve.page.by_hand import TABS
from judgelm.serve.page.shared import DETAILS, Page
from judgelm.serve.page.tab import add_tab

CSS = Path(__file__).parent / "page.css"
SETS = Path(__file__).parent / "criteria"
"""those of examples/criteria: scripts/docs brings them here, as a wheel has no other files than the package's"""
_TEMPLATE = """name: factual
scale: [1, 5]
aspects:
  - name: Truth
    text: What the response states is true.
    weight: 2
  - name: Completeness
    text: The facts that the question asks for are there.
"""
_WIDTHS = {"question_id": 120, "question": 410, "outcome": 110, "scores": 110, "both orders agree": 130, "note": 230}
"""columns of the table -> pixels"""


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
                rotate = gr.Checkbox(
                    False,
                    label="Multiple answers: judge all rotations, each answer once in each place",
                    elem_id="rotate",
                )
        with gr.Accordion("Sampling", open=False), gr.Row():
            temperature = gr.Slider(0, 2, 0.2, step=0.05, label="Temperature", info="0 is greedy")
            top_p = gr.Slider(0.05, 1, 1, step=0.05, label="Top-p")
            length = gr.Slider(16, 2048, 512, step=16, label="Most tokens of a judgement")
        criteria = _add_criteria()
        settings = [model, detail, both, temperature, top_p, length, criteria, rotate]  # as PageSettings has them
        for tab in TABS:
            with gr.Tab(tab.title, id=tab.slug, elem_id=f"tab-{tab.slug}"):
                add_tab(page, tab, settings)
        with gr.Tab("Batch", id="batch", elem_id="tab-batch"):
            _add_batch_tab(page, settings)
        blocks.load(page.opened, None, model)
        refresh.click(page.refreshed, model, model)
        model.input(page.chosen, model, model, show_progress="hidden")
    # they are the page's own: none of them is offered to programs, which have the API
    for job in blocks.fns.values():
        job.api_visibility = "private"
    made: gr.Blocks = blocks
    return made


def _add_criteria() -> gr.Textbox:
    """The box that holds them as YAML, and the sets that can be put there."""
    with gr.Accordion("Criteria", open=False):
        gr.Markdown(
            "Answers are judged by one aspect after the other, and the scores are weighted means: in every tab but"
            " *Single answer*. Empty: the judge's own question."
        )
        box = gr.Textbox(
            label="Criteria (YAML)", placeholder=_TEMPLATE, lines=6, max_lines=24, show_label=False, elem_id="criteria"
        )
        sets = {path.stem.replace("_", " "): path.read_text(encoding="utf-8") for path in sorted(SETS.glob("*.yaml"))}
        names, texts = ["none", *sets], ["", *sets.values()]
        gr.Examples([[text] for text in texts], [box], label="Sets", example_labels=names, elem_id="criteria-sets")
    return box


def _add_batch_tab(page: Page, settings: list[Any]) -> None:
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
    return gr.File(label=label, file_types=[".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gz"], elem_id=elem_id)


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
