"""A result in plain words and as a picture of bars; what users or models wrote never gets into the HTML."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from judgelm.dialogue import LeftOut
from judgelm.distribution import likeliest
from judgelm.judgement import Outcome, ParseState
from judgelm.prompt import count_markers
from judgelm.sample import rotation, unshow
from judgelm.serve.judgement_requests import Result
from judgelm.verdict import BothOrders
from judgelm.verdict_forms import SCORES

GRADED = ("Reference answer", "Answer")
"""names of the answers where the first one is the measure of the second"""
_FORMS = {
    "letter": "This judge says which answer is better with a letter: a win has 1 point, a loss 0, a tie one half.",
    "grade": "This judge writes a grade, in a prompt of its own.",
    "json": "This judge writes its verdict as JSON, in a prompt of its own.",
}
"""verdict formats but lines of scores, in words"""
_MEANING = {"forward": "answers in the order given", "reversed": "answers 1 and 2 exchanged"}


def meaning(order: str) -> str:
    """In which order the answers were."""
    return _MEANING.get(order) or f"answers rotated by {rotation(order)}"


def show_result(result: Result, names: Sequence[str]) -> str:
    """The HTML of a result; `names` are our own words for the answers."""
    sure = result.verdict.consistent is not False and result.verdict.scores is not None
    return str(_shapes().result(statement(result, names), sure, _bars(result, names), notes_on(result)))


def show_waiting() -> str:
    """The same place, before there is anything to show."""
    return str(_shapes().message("note", "status", "The judge is reading …"))


def show_message(text: str) -> str:
    """The same place, for a message or an error."""
    return str(_shapes().message("statement unsure", "alert", text))


def show_talk(turns: Sequence[tuple[str, str]]) -> str:
    """Questions to the judge and its replies."""
    return str(_shapes().talk(turns))


@functools.cache
def _shapes() -> Any:
    """The macros of result.html, which escape what users and models wrote."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["rounded"] = _rounded
    return environment.get_template("result.html").module


def statement(result: Result, names: Sequence[str]) -> str:
    """What the judge found, in one sentence or two."""
    if result.error is not None:
        return f"Nothing was judged: {result.error}."
    unread = [one for one in result.judged if one.judgement.scores is None]
    scores = result.verdict.scores
    if unread or scores is None:
        where = "" if len(result.judged) == 1 else f" ({' and '.join(meaning(one.order) for one in unread)})"
        if _by_aspects(result):
            return f"Not every aspect has scores that could be read{where}. The judge's texts are below."
        what = "scores" if unread and unread[0].judgement.form == SCORES else "verdict"
        return f"No {what} could be read from what the judge wrote{where}. Its text is below."
    if names == GRADED or len(names) == 1:
        return f"The answer gets {_rounded(scores[-1])} of {_most(result)}."
    if (likely := result.verdict.probabilities) is not None:
        calibrated = result.verdict.calibrated
        outcome, most = likeliest(likely), max(likely.values())
        contradict = " The orders contradict each other." if result.verdict.consistent is False else ""
        if calibrated:
            outcome = calibrated.outcome
        elif likely[outcome] < most:
            return f"Each answer is better with a probability of {most:.0%}.{contradict}"
        winners = {Outcome.WIN: names[:1], Outcome.LOSE: names[1:]}.get(outcome, names)
        how = "calibrated " if calibrated else ""
        return f"{_winners(winners, names)}, with a {how}probability of {likely[outcome]:.0%}.{contradict}"
    found = [_winners([names[number - 1] for number in one.best], names) for one in result.verdict.readings]
    if len(found) == 1:
        return f"{found[0]}."
    if result.verdict.consistent:
        return f"{found[0]}, in {'all' if result.verdict.rotations else 'both'} orders."
    if result.verdict.rotations:
        best = [name for name, score in zip(names, scores, strict=True) if score == max(scores)]
        return f"The orders do not agree on the best. By the mean of all: {_winners(best, names)}."
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
        where = "" if len(result.generated) == 1 else f" ({meaning(one.order)})"
        if isinstance(one.shortened, LeftOut):
            turns, tokens = sum(one.shortened.turns), sum(one.shortened.tokens)
            notes.append(
                f"The dialogue was too long for the model: it left out {turns} of the oldest turns,"
                f" {tokens} tokens in all{where}."
            )
        elif one.shortened:
            cut = list(one.shortened)
            cut = list(unshow(tuple(cut), one.order))
            parts = [f"answer {k} by {count} tokens" for k, count in enumerate(cut, start=1) if count]
            notes.append(f"The prompt was too long for the model: it shortened {', '.join(parts)}{where}.")
        if one.generation is not None and one.generation.finish_reason == "length":
            notes.append(f"The judge's text ends at the length limit{where}.")
        if one.judgement.state is ParseState.REPAIRED:
            what = "score line" if one.judgement.form == SCORES else "verdict"
            notes.append(f"The {what} was not quite in the form asked for{where}.")
    notes += dict.fromkeys(_FORMS[one.judgement.form] for one in result.generated if one.judgement.form in _FORMS)
    masses = [one.likelihood.mass for one in result.judged if one.likelihood is not None]
    if masses:
        notes.append(f"Score lines have a probability of {min(masses):.0%}; the scores are their means by it.")
    if (places := result.verdict.place_scores) is not None:
        said = ", ".join(f"{k}: {_rounded(score)}" for k, score in enumerate(places, start=1))
        notes.append(f"Mean score by the place in which answers were shown: {said}.")
    markers = count_markers(result.verdict.sample)
    if markers:
        notes.append(
            f"{markers} lines of the texts imitate the markers of the judge's own prompt;"
            " the scores may be tampered with."
        )
    return notes


def _by_aspects(result: Result) -> bool:
    return any(one.criteria is not None for one in result.judged)


def _most(result: Result) -> int:
    """The highest score that an answer can get."""
    return result.judged[0].judgement.scale.most


def _bars(result: Result, names: Sequence[str]) -> Mapping[str, Any] | None:
    """What the picture shows: a row for each answer, or one for each aspect and the weighted means below; None where
    there is nothing to show.
    """
    verdict, by_aspects = result.verdict, _by_aspects(result)
    rows = [] if by_aspects else [(order, scores) for order, scores in _shown_scores(verdict) if scores]
    if not rows and (not by_aspects or result.error is not None):
        return None
    aspects = verdict.readings[0].aspects if by_aspects else ()
    orders: dict[str, str] = {
        one.order: meaning(one.order) for one in result.judged if by_aspects or one.judgement.scores
    }
    likely = verdict.probabilities or {}
    words = {Outcome.WIN: f"{names[0]} is better", Outcome.TIE: "equal", Outcome.LOSE: f"{names[-1]} is better"}
    return {
        "names": names,
        "most": _most(result),
        "rows": rows,
        "aspects": [(each.name, each.weight, _shown_scores(verdict.aspects[each.name])) for each in aspects],
        "mean": _shown_scores(verdict),
        "orders": {"forward": "mean of all orders"} if verdict.rotations else orders,
        "outcomes": [(outcome.value, words[outcome], likely[outcome]) for outcome in words if likely],
    }


def _shown_scores(both: BothOrders) -> list[tuple[str, tuple[float, ...] | None]]:
    """What the bars of an answer show: a score of each order, of rotations their mean."""
    if both.rotations:
        return [("forward", both.scores)]
    given = (("forward", both.forward), ("reversed", both.reversed))
    return [(order, reading.points) for order, reading in given if reading is not None]


def _rounded(score: float) -> str:
    return f"{round(score, 2):g}"
