"""A tab in which a visitor judges by hand: its form, the place of the judgement, and what its buttons do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from judgelm.sample import MAX_ANSWERS
from judgelm.serve.page.by_hand import NAMES, Tab, follow, judge
from judgelm.serve.page.shared import Page, Shown

_CHESS = "A chess knight stands in a corner of an empty board. How many squares can it move to, and why?"
_CHESS_GOOD = (
    "Two. A knight moves two squares in one direction and one to the side; from a corner six of its eight moves would"
    " leave the board."
)
_CHESS_WRONG = "Eight, because a knight always has eight moves: two squares in any direction and then one to the side."
_CHESS_SHORT = "Two squares."
_SOUP = "My soup is far too salty. What can I do before my guests come in twenty minutes?"
_SOUP_GOOD = (
    "Thin it: add unsalted stock or water, a ladle at a time, and taste after each. Cream, coconut milk or a can of"
    " unsalted beans also spread the salt further. A little lemon juice or sugar makes what is left less noticeable."
)
_SOUP_MYTH = "Put a potato in it. The potato pulls all the salt out of the soup within minutes, then throw it away."
_SOUP_REFERENCE = "Dilute it with unsalted liquid or more ingredients. A potato takes up salty water, not salt alone."
_BRIDGE = "What is the boat in the picture doing?"
_BRIDGE_REFERENCE = "A red fishing boat passes under a raised drawbridge; two people on the deck coil ropes."
_BRIDGE_GOOD = "It is a red fishing boat going under a drawbridge that has been opened for it."
_BRIDGE_WRONG = "The boat is a white ferry that waits at a pier for passengers."

_EXAMPLES: dict[str, tuple[tuple[str, ...], ...]] = {
    "judge": ((_CHESS, _CHESS_GOOD, _CHESS_WRONG), (_SOUP, _SOUP_MYTH, _SOUP_GOOD)),
    "judge-reference": ((_SOUP, _SOUP_REFERENCE, _SOUP_MYTH, _SOUP_GOOD),),
    "multi": ((_CHESS, _CHESS_GOOD, _CHESS_WRONG), (_SOUP, _SOUP_MYTH, _SOUP_GOOD)),
    "multi-reference": ((_SOUP, _SOUP_REFERENCE, _SOUP_MYTH, _SOUP_GOOD),),
    "single": ((_CHESS, _CHESS_GOOD, _CHESS_SHORT), (_CHESS, _CHESS_GOOD, _CHESS_WRONG)),
    "multimodal": ((_BRIDGE, _BRIDGE_REFERENCE, _BRIDGE_GOOD, _BRIDGE_WRONG),),
}
"""a tab's slug -> the texts of its form, from the top"""
_VOTES = {"upvote": "Good judgement", "downvote": "Bad judgement", "flag": "Flag"}


def add_tab(page: Page, tab: Tab, settings: list[Any]) -> None:
    """Into the tab that is open; `settings` are the components that all tabs share."""
    gr.Markdown(tab.note)
    with gr.Row():
        with gr.Column(scale=1, min_width=320):
            form = _add_form(tab)
        with gr.Column(scale=1, min_width=320):
            place = _add_place(tab.slug)
    _bind(page, tab, settings, form, place)


@dataclass(frozen=True, slots=True)
class _Form:
    """What a visitor fills in."""

    texts: list[gr.Textbox]
    """question, reference where there is one, answers"""
    count: gr.State
    """answers that can be seen"""
    image: gr.Image | None
    judge: gr.Button
    stop: gr.Button
    again: gr.Button
    clear: gr.Button


def _add_form(tab: Tab) -> _Form:
    slug = tab.slug

    def box(name: str, label: str, lines: int = 4, **more: Any) -> gr.Textbox:
        return gr.Textbox(label=label, lines=lines, max_lines=14, elem_id=f"{slug}-{name}", **more)

    def button(name: str, label: str, **more: Any) -> gr.Button:
        return gr.Button(label, min_width=120, elem_id=f"{slug}-{name}", **more)

    image = None
    if tab.image:
        image = gr.Image(label="Image, shown to you alone", type="filepath", height=260, interactive=True)
    texts = [box("question", "Question", 3)]
    if tab.reference:
        texts.append(box("reference", "Reference", 3))
    count = gr.State(2)
    if tab.task == "multi":
        answers = [box(f"answer{k}", f"Answer {k}", visible=k <= 2) for k in range(1, MAX_ANSWERS + 1)]
        with gr.Row():
            more = gr.Button("Add an answer", size="sm", elem_id=f"{slug}-more")
            fewer = gr.Button("Remove the last", size="sm", elem_id=f"{slug}-fewer")
        for pressed, step in ((more, 1), (fewer, -1)):
            pressed.click(_change_count(step), count, [count, *answers], show_progress="hidden")
    else:
        names = NAMES.get(tab.task, ("Answer 1", "Answer 2"))
        answers = [box(f"answer{k}", name) for k, name in enumerate(names, 1)]
    texts += answers
    with gr.Row():
        buttons = (
            button("go", "Judge", variant="primary"),
            *(button("stop", "Stop"), button("again", "Regenerate"), button("clear", "Clear")),
        )
    rows = [list(row) for row in _EXAMPLES[slug]]
    gr.Examples(rows, texts[: len(rows[0])], label="Examples", elem_id=f"{slug}-examples")
    return _Form(texts, count, image, *buttons)


def _change_count(step: int) -> Callable[[int], list[Any]]:
    def change(count: int) -> list[Any]:
        count = min(MAX_ANSWERS, max(2, count + step))
        return [count, *(gr.update(visible=k <= count) for k in range(1, MAX_ANSWERS + 1))]

    return change


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the judgement is shown, and what can be done with it."""

    outputs: list[Any]
    """in the order of `by_hand.judge`: picture, both orders' texts, what is remembered, chat, download, note"""
    asked: gr.Textbox
    votes: dict[str, gr.Button]


def _add_place(slug: str) -> _Place:
    def box(name: str, label: str, **more: Any) -> gr.Textbox:
        more |= {"lines": 7, "max_lines": 20, "interactive": False, "buttons": ["copy"], "min_width": 220}
        return gr.Textbox(label=label, elem_id=f"{slug}-{name}", **more)

    picture = gr.HTML(elem_id=f"{slug}-picture")
    with gr.Row():
        texts = [box("forward", "Judgement"), box("reversed", "Answers exchanged", visible=False)]
    with gr.Row():
        votes = {
            kind: gr.Button(text, size="sm", min_width=80, elem_id=f"{slug}-{kind}") for kind, text in _VOTES.items()
        }
        download = gr.DownloadButton("Download", size="sm", min_width=80, elem_id=f"{slug}-download")
    noted = gr.Markdown(elem_id=f"{slug}-noted")
    with gr.Accordion("Ask the judge about its judgement", open=True):
        chat = gr.HTML(elem_id=f"{slug}-chat")
        hint = "Why is answer 2 worse?"
        asked = gr.Textbox(show_label=False, placeholder=hint, submit_btn=True, elem_id=f"{slug}-followup")
    return _Place([picture, *texts, gr.State({}), chat, download, noted], asked, votes)


def _bind(page: Page, tab: Tab, settings: list[Any], form: _Form, place: _Place) -> None:
    _, _, _, shown, chat, _, noted = place.outputs
    bound: dict[str, Any] = {"concurrency_id": "judge", "concurrency_limit": page.limit}
    follows = place.asked.submit(
        follow(page), [shown, place.asked, *settings], [shown, chat, place.asked], show_progress="hidden", **bound
    )
    # whatever still runs would write into the same boxes
    inputs = [*settings, form.count, *form.texts]
    run: dict[str, Any] = {"show_progress": "minimal", "trigger_mode": "once", **bound}
    first = form.judge.click(judge(page, tab, fresh=False), inputs, place.outputs, cancels=[follows], **run)
    second = form.again.click(judge(page, tab, fresh=True), inputs, place.outputs, cancels=[follows, first], **run)
    form.judge.click(None, cancels=[second])
    everything: list[Any] = [first, second, follows]
    form.stop.click(None, cancels=everything)
    images = [] if form.image is None else [form.image]
    empty = [*("" for _ in form.texts), "", "", gr.update(value="", visible=False), {}, "", None, "", ""]
    form.clear.click(
        lambda: [*empty, *(None for _ in images)],
        None,
        [*form.texts, *place.outputs, place.asked, *images],
        cancels=everything,
        show_progress="hidden",
    )
    for kind, button in place.votes.items():
        button.click(_voting(page, kind), shown, noted, show_progress="hidden")


def _voting(page: Page, kind: str) -> Callable[[Shown], str]:
    return lambda shown: page.note_down(kind, shown)
