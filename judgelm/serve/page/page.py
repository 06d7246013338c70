"""The web page: six tabs to judge by hand and one for files, over the workers of a controller."""

from __future__ import annotations

import gradio as gr

from judgelm.serve.page.batch_tab import add_batch_tab
from judgelm.serve.page.by_hand import TABS
from judgelm.serve.page.result import STYLE
from judgelm.serve.page.settings import DETAILS
from judgelm.serve.page.shared import Page
from judgelm.serve.page.tab import add_tab

CSS = (
    STYLE
    + """
.gradio-container { width: 100% !important; max-width: 1180px !important; margin: 0 auto !important; }
.title h1 { margin-bottom: .1rem; }
footer { display: none !important; }
label:has(> .icon-button-wrapper) > span { max-width: calc(100% - 2rem); }
"""
)


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
                add_tab(page, tab, settings)
        with gr.Tab("Batch", id="batch", elem_id="tab-batch"):
            add_batch_tab(page, settings)
        blocks.load(page.opened, None, model)
        refresh.click(page.refreshed, model, model)
    # they are the page's own: none of them is offered to programs, which have the API
    for job in blocks.fns.values():
        job.api_visibility = "private"
    made: gr.Blocks = blocks
    return made
