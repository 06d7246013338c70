"""Juries and cascades as text for a terminal, and a cascade's curve as a picture and a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from judgelm.errors import one_line
from judgelm.files import write_text
from judgelm.report.page import render_page
from judgelm.report.pictures import STANDALONE, curve
from judgelm.report.terminal import estimate_cells, render_table
from judgelm.report.words import DIFFERENCE, EXACT_NUMBER, MOST_NAME, SHARE, Form, Row, cut, row, shorten

if TYPE_CHECKING:
    from judgelm.evaluation.cascade import Cascade, CascadePoint
    from judgelm.evaluation.jury import Jury, JuryJudge
    from judgelm.evaluation.rate import Rate

_LONGEST_NAME = 32
_SHARE_IN_BRACKETS, _DIFFERENCE_IN_BRACKETS = Form(unit="", nothing="-"), Form("+.1f", unit="", nothing="-")
_CAPTION = "share sent to the second judge"
_HEADER = ("sure", "sent on %", "agreement %", "less second alone")
_EXPLAINED = "Each point is a threshold: the further right, the more samples the second judge is asked about."
_STYLE = """
.frame { fill: none; stroke: currentColor; stroke-opacity: 0.3; }
.grid { stroke: currentColor; stroke-opacity: 0.15; }
.diagonal { stroke: currentColor; stroke-opacity: 0.6; stroke-dasharray: 5 4; }
.curve { fill: none; stroke: #2f81f7; stroke-width: 2; }
.dot { fill: #2f81f7; }
"""


def jury_tables(jury: Jury) -> str:
    """The jury, then each judge against the others and against people."""
    rows = [("Krippendorff's alpha of the judges", *estimate_cells(jury.alpha, EXACT_NUMBER))] if jury.alpha else []
    if jury.with_people is not None:
        rows.append(("agreement of the jury with people", *estimate_cells(jury.with_people)))
    parts = [
        f"{jury.samples} samples of {jury.questions} questions, {jury.labelled} with a truth; method {jury.method}",
        *([render_table(("jury", "value", "95 % interval", "samples"), rows)] if rows else []),
        render_table(
            ("judge", "verdicts", "flips", "unread", "weight", "with the others %", "with people %", "changes %"),
            [_judge_row(judge) for judge in jury.judges],
        ),
    ]
    if jury.labelled:
        gains = [(_named(judge), *_gains(judge)) for judge in jury.judges]
        parts.append(render_table(("judge", "jury less judge", "jury less jury without it", "adds"), gains))
    if jury.undecided:
        parts.append(f"no judge has a verdict on {jury.undecided} samples: they have no scores")
    return "\n\n".join(parts)


def _named(judge: JuryJudge) -> str:
    return shorten(judge.name, _LONGEST_NAME)


def _judge_row(judge: JuryJudge) -> tuple[str, ...]:
    return (
        _named(judge),
        *(str(count) for count in (judge.verdicts, judge.flipped, judge.unread)),
        "-" if judge.weight is None else f"{judge.weight:.2f}",
        *map(_SHARE_IN_BRACKETS.both, (judge.with_jury, judge.with_people, judge.changes)),
    )


def _gains(judge: JuryJudge) -> tuple[str, ...]:
    harms = judge.added is not None and judge.added.high is not None and judge.added.high < 0
    adds = "yes" if judge.adds_nothing is False else "it does harm" if harms else "nothing that shows"
    return (*map(_DIFFERENCE_IN_BRACKETS.both, (judge.jury_gain, judge.added)), adds)


def cascade_lines(cascade: Cascade) -> list[str]:
    """What a cascade does, in sentences."""
    odd = f", {cascade.contradicting} of them as the first contradicts itself or has no scores"
    said = [
        f"{_title(cascade)} where the first is less sure than {cascade.sure:g}:"
        f" {cascade.sent} of {cascade.samples} samples are sent on{odd if cascade.contradicting else ''}."
    ]
    if cascade.chosen_on is not None:
        said.append(
            f"The threshold was chosen on {cascade.chosen_on} labelled samples; what follows is of the"
            f" {cascade.reported_on} others."
        )
    return said


def _title(cascade: Cascade) -> str:
    return one_line(f"{cascade.first}, then {cascade.second}")


def cascade_tables(cascade: Cascade) -> str:
    """Sentences, agreements, and the curve by threshold."""
    parts = ["\n".join(cascade_lines(cascade))]
    if cascade.point is not None:
        rows = [(label, *estimate_cells(rate, form)) for label, rate, form in _agreements(cascade, cascade.point)]
        parts.append(render_table(("agreement with people", "value", "95 % interval", "samples"), rows))
    if cascade.curve:
        parts.append(render_table(_HEADER, _points(cascade.curve)))
    return "\n\n".join(parts)


def _agreements(cascade: Cascade, point: CascadePoint) -> list[tuple[str, Rate, Form]]:
    found = [
        (f"{shorten(cascade.first, _LONGEST_NAME)} alone", cascade.first_alone, SHARE),
        (f"{shorten(cascade.second, _LONGEST_NAME)} alone", cascade.second_alone, SHARE),
        ("cascade", point.agreement, SHARE),
        ("cascade less second alone", point.to_second, DIFFERENCE),
        (_CAPTION, point.sent, SHARE),
    ]
    return [(label, rate, form) for label, rate, form in found if rate is not None]


def _points(points: list[CascadePoint]) -> list[tuple[str, ...]]:
    return [
        (
            f"{each.sure:g}",
            *map(_SHARE_IN_BRACKETS.both, (each.sent, each.agreement)),
            _DIFFERENCE_IN_BRACKETS.both(each.to_second),
        )
        for each in points
    ]


def write_cascade(cascade: Cascade, folder: Path) -> list[Path]:
    """cascade.json, and with labels, without which there is nothing to draw, cascade.svg and cascade.html: what was
    written.
    """
    document, picture, page = (folder / f"cascade.{ending}" for ending in ("json", "svg", "html"))
    cascade.write(document, indent=2)
    if not cascade.curve or cascade.point is None:
        return [document]
    write_text(picture, _picture(cascade, STANDALONE + _STYLE))
    rows: list[Row] = [row(*each) for each in _agreements(cascade, cascade.point)]
    context = {
        "title": cut(_title(cascade), MOST_NAME),
        "lines": cascade_lines(cascade),
        "rows": rows,
        "caption": "judge",
        "picture": _picture(cascade),
        "explained": f"{_EXPLAINED} The same {cascade.reported_on} samples.",
        "header": _HEADER,
        "points": _points(cascade.curve),
    }
    write_text(page, render_page(context, "cascade.html"))
    return [document, picture, page]


def _picture(cascade: Cascade, style: str = "") -> str:
    points = [
        (100 * each.sent.value, 100 * each.agreement.value, f"sure {each.sure:g}: {SHARE.number(each.agreement.value)}")
        for each in cascade.curve or ()
        if each.sent.value is not None and each.agreement.value is not None
    ]
    alone = ((cascade.first, cascade.first_alone), (cascade.second, cascade.second_alone))
    levels = [(f"{name} alone", 100 * rate.value) for name, rate in alone if rate and rate.value is not None]
    return curve(points, levels, (f"{_CAPTION}, %", "agreement, %"), "Agreement against cost", style)
