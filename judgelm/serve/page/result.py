"""A result in plain words and as a picture of bars; what users or models wrote never gets into the HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from judgelm.judgement import MAX_SCORE, ParseState
from judgelm.prompt import count_markers
from judgelm.serve.judgement_requests import Result

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
GRADED = ("Reference answer", "Answer")
"""names of the answers where the first one is the measure of the second"""
_MEANING = {"forward": "answers in the order given", "reversed": "answers 1 and 2 exchanged"}


def show_result(result: Result, names: Sequence[str]) -> str:
    """The HTML of a result; `names` are our own words for the answers."""
    sure = "unsure" if result.verdict.consistent is False or result.verdict.scores is None else "sure"
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in notes_on(result))
    return (
        f'<div class="verdict"><p class="statement {sure}" role="status">{escape(statement(result, names))}</p>'
        f"{_bars(result, names)}{notes}</div>"
    )


def show_waiting() -> str:
    """The same place, before there is anything to show."""
    return '<div class="verdict"><p class="note" role="status">The judge is reading …</p></div>'


def show_message(text: str) -> str:
    """The same place, for a message or an error."""
    return f'<div class="verdict"><p class="statement unsure" role="alert">{escape(text)}</p></div>'


def show_talk(turns: Sequence[tuple[str, str]]) -> str:
    """Questions to the judge and its replies."""
    said = "".join(
        f'<p class="user">{escape(question)}</p><p class="judge">{escape(reply)}</p>' for question, reply in turns
    )
    return f'<div class="talk" role="log">{said}</div>'


def statement(result: Result, names: Sequence[str]) -> str:
    """What the judge found, in one sentence or two."""
    if result.error is not None:
        return f"Nothing was judged: {result.error}."
    unread = [one for one in result.judged if one.judgement.scores is None]
    scores = result.verdict.scores
    if unread or scores is None:
        where = "" if len(result.judged) == 1 else f" ({' and '.join(_MEANING[one.order] for one in unread)})"
        return f"No scores could be read from what the judge wrote{where}. Its text is below."
    if names == GRADED:
        return f"The answer gets {scores[1]:g} of 10."
    found = [_winners([names[number - 1] for number in one.best], names) for one in result.verdict.readings]
    if len(found) == 1:
        return f"{found[0]}."
    if result.verdict.consistent:
        return f"{found[0]}, in both orders."
    given, exchanged = (text[0].lower() + text[1:] for text in found)
    return (
        "The verdict does not survive the swap. "
        f"In the order given: {given}. With answers 1 and 2 exchanged: {exchanged}. Count it as a tie."
    )


def _winners(best: Sequence[str], names: Sequence[str]) -> str:
    if len(best) == len(names):
        return f"{'Both answers are' if len(names) == 2 else 'All answers are'} worth the same"
    if len(best) == 1:
        return f"{best[0]} is better" if len(names) == 2 else f"{best[0]} is the best"
    return f"{', '.join(best[:-1])} and {best[-1]} share the first place"


def notes_on(result: Result) -> list[str]:
    """What a reader of the scores should know: texts that were shortened or cut, and imitated markers."""
    notes = []
    for one in result.generated:
        where = "" if len(result.generated) == 1 else f" ({_MEANING[one.order]})"
        if one.shortened:
            first, second, *others = one.shortened
            cut = [first, second, *others] if one.order == "forward" else [second, first, *others]
            parts = [f"answer {k} by {count} tokens" for k, count in enumerate(cut, start=1) if count]
            notes.append(f"The prompt was too long for the model: it shortened {', '.join(parts)}{where}.")
        if one.generation is not None and one.generation.finish_reason == "length":
            notes.append(f"The judge's text ends at the length limit{where}.")
        if one.judgement.state is ParseState.REPAIRED:
            notes.append(f"The score line was not quite in the form asked for{where}.")
    markers = count_markers(result.verdict.sample)
    if markers:
        notes.append(
            f"{markers} lines of the texts imitate the markers of the judge's own prompt;"
            " the scores may be tampered with."
        )
    return notes


def _bars(result: Result, names: Sequence[str]) -> str:
    both = zip(result.judged, result.verdict.readings, strict=True)
    readable = [(judged.order, reading.scores) for judged, reading in both if reading.scores]
    if not readable:
        return ""
    rows = []
    for k, name in enumerate(names):
        cells = "".join(
            f'<div class="track"><div class="bar {order}" style="width:{100 * scores[k] / MAX_SCORE:.1f}%"></div></div>'
            f'<span class="score">{scores[k]:g}</span>'
            for order, scores in readable
        )
        rows.append(
            f'<div class="answer {"one" if len(readable) == 1 else "two"}">'
            f'<span class="name">{escape(name)}</span>{cells}</div>'
        )
    keys = "".join(f'<span class="key {order}"></span><span>{escape(_MEANING[order])}</span>' for order, _ in readable)
    return f'{"".join(rows)}<p class="legend">{keys}</p>'
