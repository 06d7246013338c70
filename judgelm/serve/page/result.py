"""A result in plain words and as a picture of bars; what users or models wrote never gets into the HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TypeVar

from judgelm.judgement import MAX_SCORE
from judgelm.serve.judgements import JudgementOut, ResultOut

STYLE = """
.verdict { padding: .25rem 0; color: var(--body-text-color); }
.verdict .statement { font-size: 1.15rem; font-weight: 600; margin: 0 0 .75rem; }
.verdict .statement.unsure { border-left: 4px solid #d97706; padding-left: .6rem; }
.verdict .statement.sure { border-left: 4px solid #059669; padding-left: .6rem; }
.verdict .answer { display: grid; grid-template-columns: 7.5rem 1fr 3rem; gap: .15rem .6rem; align-items: center;
  margin-bottom: .6rem; }
.verdict .name { grid-row: span 2; font-weight: 500; }
.verdict .answer.one .name { grid-row: span 1; }
.verdict .track { height: .85rem; border-radius: .45rem; background: var(--border-color-primary); overflow: hidden; }
.verdict .bar { height: 100%; border-radius: .45rem; }
.verdict .forward { background: #4f46e5; }
.verdict .reversed { background: #0d9488; }
.verdict .score { font-variant-numeric: tabular-nums; text-align: right; }
.verdict .legend, .verdict .note { font-size: .85rem; color: var(--body-text-color-subdued); margin: .25rem 0; }
.verdict .key { display: inline-block; width: .7rem; height: .7rem; border-radius: .2rem; margin: 0 .35rem 0 0; }
.verdict .key + span { margin-right: 1rem; }
.talk { display: flex; flex-direction: column; gap: .5rem; max-height: 24rem; overflow-y: auto; }
.talk p { margin: 0; padding: .5rem .75rem; border-radius: .75rem; white-space: pre-wrap; overflow-wrap: anywhere;
  max-width: 85%; color: var(--body-text-color); }
.talk .user { align-self: flex-end; background: var(--color-accent-soft); }
.talk .judge { align-self: flex-start; background: var(--background-fill-secondary); }
#batch-metrics textarea { font-family: var(--font-mono); white-space: pre; overflow-x: auto; }
@media (max-width: 640px) { .verdict .answer { grid-template-columns: 5.5rem 1fr 2.5rem; } }
"""
_T = TypeVar("_T")
GRADED = ("Reference answer", "Answer")
"""names of the answers where the first one is the measure of the second"""
_MEANING = {"forward": "answers in the order given", "reversed": "answers 1 and 2 exchanged"}


def show_result(result: ResultOut, names: Sequence[str]) -> str:
    """The HTML of a result; `names` are our own words for the answers."""
    sure = "unsure" if result.consistent is False or result.scores is None else "sure"
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in notes_on(result))
    return (
        f'<div class="verdict"><p class="statement {sure}" role="status">{escape(statement(result, names))}</p>'
        f"{_bars(result.judgements, names)}{notes}</div>"
    )


def show_message(text: str) -> str:
    """The same place, for a message or an error."""
    return f'<div class="verdict"><p class="statement unsure" role="alert">{escape(text)}</p></div>'


def show_talk(turns: Sequence[tuple[str, str]]) -> str:
    """Questions to the judge and its replies."""
    said = "".join(
        f'<p class="user">{escape(question)}</p><p class="judge">{escape(reply)}</p>' for question, reply in turns
    )
    return f'<div class="talk" role="log">{said}</div>'


def statement(result: ResultOut, names: Sequence[str]) -> str:
    """What the judge found, in one sentence or two."""
    if result.error is not None:
        return f"Nothing was judged: {result.error.message}."
    unread = [one for one in result.judgements if one.scores is None]
    if unread:
        where = "" if len(result.judgements) == 1 else f" ({' and '.join(_MEANING[one.order] for one in unread)})"
        return f"No scores could be read from what the judge wrote{where}. Its text is below."
    if names == GRADED:
        assert result.scores is not None
        return f"The answer gets {result.scores[1]:g} of 10."
    found = [_winners(one, names) for one in result.judgements]
    if len(found) == 1:
        return f"{found[0]}."
    if result.consistent:
        return f"{found[0]}, in both orders."
    return (
        "The verdict does not survive the swap. "
        f"In the order given: {_low(found[0])}. With answers 1 and 2 exchanged: {_low(found[1])}. Count it as a tie."
    )


def _winners(judgement: JudgementOut, names: Sequence[str]) -> str:
    scores = _in_given_order(judgement)
    assert scores is not None
    best = [name for name, score in zip(names, scores, strict=True) if score == max(scores)]
    if len(best) == len(names):
        return f"{'Both answers are' if len(names) == 2 else 'All answers are'} worth the same"
    if len(best) == 1:
        return f"{best[0]} is better" if len(names) == 2 else f"{best[0]} is the best"
    return f"{', '.join(best[:-1])} and {best[-1]} share the first place"


def _low(text: str) -> str:
    return text[0].lower() + text[1:]


def notes_on(result: ResultOut) -> list[str]:
    """What a reader of the scores should know: texts that were shortened or cut, and imitated markers."""
    notes = []
    for one in result.judgements:
        where = "" if len(result.judgements) == 1 else f" ({_MEANING[one.order]})"
        if one.shortened:
            cut = one.shortened if one.order == "forward" else _exchanged(one.shortened)
            parts = [f"answer {k} by {count} tokens" for k, count in enumerate(cut, start=1) if count]
            notes.append(f"The prompt was too long for the model: it shortened {', '.join(parts)}{where}.")
        if one.finish_reason == "length":
            notes.append(f"The judge's text ends at the length limit{where}.")
        if one.parse == "repaired":
            notes.append(f"The score line was not quite in the form asked for{where}.")
    if result.suspicious_markers:
        notes.append(
            f"{result.suspicious_markers} lines of the texts imitate the markers of the judge's own prompt;"
            " the scores may be tampered with."
        )
    return notes


def _bars(judgements: Sequence[JudgementOut], names: Sequence[str]) -> str:
    readable = [one for one in judgements if one.scores is not None]
    if not readable:
        return ""
    rows = []
    for k, name in enumerate(names):
        cells = []
        for one in readable:
            scores = _in_given_order(one)
            assert scores is not None
            width = 100 * scores[k] / MAX_SCORE
            cells.append(
                f'<div class="track"><div class="bar {one.order}" style="width:{width:.1f}%"></div></div>'
                f'<span class="score">{scores[k]:g}</span>'
            )
        rows.append(
            f'<div class="answer {"one" if len(readable) == 1 else "two"}">'
            f'<span class="name">{escape(name)}</span>{"".join(cells)}</div>'
        )
    keys = "".join(
        f'<span class="key {one.order}"></span><span>{escape(_MEANING[one.order])}</span>' for one in readable
    )
    return f'{"".join(rows)}<p class="legend">{keys}</p>'


def _in_given_order(judgement: JudgementOut) -> list[float] | None:
    if judgement.scores is None or judgement.order == "forward":
        return judgement.scores
    return _exchanged(judgement.scores)


def _exchanged(values: Sequence[_T]) -> list[_T]:
    return [values[1], values[0], *values[2:]]
