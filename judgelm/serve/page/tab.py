"""A tab in which a visitor judges by hand: its form, the place of the judgement, and what its buttons do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from judgelm.sample import MAX_ANSWERS
from judgelm.serve.page.by_hand import NAMES, Tab, follow, judge
from judgelm.serve.page.dialogue_form import HINT
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
_RIVERS = (
    "System: Answer in one sentence.\nUser: Name three rivers that flow through Vienna.\nAssistant: The Danube, the"
    " Wien and the Liesing.\nUser: Which of them is the longest?"
)
_RIVERS_GOOD = "The Danube, which is 2,850 km long, most of it outside Austria."
_RIVERS_WRONG = "The Wien, as the city is named after it."

_EXAMPLES: dict[str, tuple[tuple[str, ...], ...]] = {
    "judge": ((_CHESS, _CHESS_GOOD, _CHESS_WRONG), (_SOUP, _SOUP_MYTH, _SOUP_GOOD)),
    "judge-reference": ((_SOUP, _SOUP_REFERENCE, _SOUP_MYTH, _SOUP_GOOD),),
    "multi": ((_CHESS, _CHESS_GOOD, _CHESS_WRONG), (_SOUP, _SOUP_MYTH, _SOUP_GOOD)),
    "multi-reference": ((_SOUP, _SOUP_REFERENCE, _SOUP_MYTH, _SOUP_GOOD),),
    "dialogue": ((_RIVERS, _RIVERS_GOOD, _RIVERS_WRONG),),
    "single": ((_CHESS, _CHESS_GOOD, _CHESS_SHORT), (_CHESS, _CHESS_GOOD, _CHESS_WRONG)),
    "grade": ((_CHESS, _CHESS_GOOD), (_SOUP, _SOUP_MYTH)),
    "multimodal": ((_BRIDGE, _BRIDGE_REFERENCE, _BRIDGE_GOOD, _BRIDGE_WRONG),),
}
"""a tab's slug -> the texts of its form, from the top"""
_VOTES = {"upvote": "Good judgement", "downvote": "Bad judgement", "flag": "Flag"}
_BUTTONS: tuple[tuple[str, str, Any], ...] = (
    *(("go", "Judge", "primary"), ("stop", "Stop", "secondary")),
    *(("again", "Regenerate", "secondary"), ("clear", "Clear", "secondary")),
)


def add_tab(page: Page, tab: Tab, settings: list[Any]) -> None:
    """Into the tab that is open; `settings` are the components that all tabs share."""
    gr.Markdown(tab.note)
    images: list[Any] = []
    with gr.Row():
        with gr.Column(scale=1, min_width=320):
            if tab.image:
                images = [gr.Image(label="Image, shown to you alone", type="filepath", height=260, interactive=True)]
            count, texts = _add_texts(tab)
            with gr.Row():
                go, stop, again, clear = (
                    gr.Button(label, min_width=120, variant=variant, elem_id=f"{tab.slug}-{name}")
                    for name, label, variant in _BUTTONS
                )
            rows = [list(row) for row in _EXAMPLES[tab.slug]]
            gr.Examples(rows, texts[: len(rows[0])], label="Examples", elem_id=f"{tab.slug}-examples")
        with gr.Column(scale=1, min_width=320):
            outputs, votes, asked = _add_place(tab.slug)
    _, _, _, shown, chat, _, noted, _, _ = outputs
    for kind, button in votes.items():
        button.click(_voting(page, kind), shown, noted, show_progress="hidden")
    bound: dict[str, Any] = {"concurrency_id": "judge", "concurrency_limit": page.limit}
    follows = asked.submit(
        follow(page), [shown, asked, *settings], [shown, chat, asked], show_progress="hidden", **bound
    )
    # whatever still runs would write into the same boxes
    inputs = [*settings, count, *texts]
    run: dict[str, Any] = {"show_progress": "minimal", "trigger_mode": "once", **bound}
    first = go.click(judge(page, tab, fresh=False), inputs, outputs, cancels=[follows], **run)
    second = again.click(judge(page, tab, fresh=True), inputs, outputs, cancels=[follows, first], **run)
    go.click(None, cancels=[second])
    everything: list[Any] = [first, second, follows]
    stop.click(None, cancels=everything)
    hidden = gr.update(visible=False)
    empty = [*("" for _ in texts), "", "", gr.update(value="", visible=False), {}, "", None, "", hidden, "", ""]
    clear.click(
        lambda: [*empty, *(None for _ in images)],
        None,
        [*texts, *outputs, asked, *images],
        cancels=everything,
        show_progress="hidden",
    )


def _add_texts(tab: Tab) -> tuple[gr.State, list[gr.Textbox]]:
    """How many answers can be seen; question, reference where there is one, answers."""

    def box(name: str, label: str, lines: int = 4, visible: bool = True, hint: str | None = None) -> gr.Textbox:
        return gr.Textbox(
            label=label, lines=lines, max_lines=14, visible=visible, placeholder=hint, elem_id=f"{tab.slug}-{name}"
        )

    texts = [box("question", "Dialogue", 8, hint=HINT) if tab.dialogue else box("question", "Question", 3)]
    if tab.reference:
        texts.append(box("reference", "Reference", 3))
    count = gr.State(2)
    if tab.task == "multi":
        answers = [box(f"answer{k}", f"Answer {k}", visible=k <= 2) for k in range(1, MAX_ANSWERS + 1)]
        with gr.Row():
            for name, label, step in (("more", "Add an answer", 1), ("fewer", "Remove the last", -1)):
                button = gr.Button(label, size="sm", elem_id=f"{tab.slug}-{name}")
                button.click(_change_count(step), count, [count, *answers], show_progress="hidden")
    else:
        names = NAMES.get(tab.task, ("Answer 1", "Answer 2"))
        answers = [box(f"answer{k}", name) for k, name in enumerate(names, 1)]
    return count, texts + answers


def _change_count(step: int) -> Callable[[int], list[Any]]:
    def change(count: int) -> list[Any]:
        count = min(MAX_ANSWERS, max(2, count + step))
        return [count, *(gr.update(visible=k <= count) for k in range(1, MAX_ANSWERS + 1))]

    return change


def _add_place(slug: str) -> tuple[list[Any], dict[str, gr.Button], gr.Textbox]:
    """Where the judgement is shown, in the order of `by_hand.judge` (picture, both orders' texts, what is remembered,
    chat, download, note, what thoughts are folded in, they), the votes on it and the box of questions.
    """

    def box(name: str, label: str, **more: Any) -> gr.Textbox:
        more |= {"lines": 7, "max_lines": 20, "interactive": False, "buttons": ["copy"], "min_width": 220}
        return gr.Textbox(label=label, elem_id=f"{slug}-{name}", **more)

    picture = gr.HTML(elem_id=f"{slug}-picture")
    with gr.Row():
        texts = [box("forward", "Judgement"), box("reversed", "Answers exchanged", visible=False)]
    with gr.Accordion("What the judge thought before", open=False, visible=False) as folded:
        thoughts = box("thoughts", "Thoughts")
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
    return [picture, *texts, gr.State({}), chat, download, noted, folded, thoughts], votes, asked


def _voting(page: Page, kind: str) -> Callable[[Shown], str]:
    return lambda shown: page.note_down(kind, shown)
