"""The verdict in what a judge wrote, in the form that its prompt asks for: scores, one grade, a letter, or JSON.

Only what stands for a verdict is read: a letter or a number within prose is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from judgelm.criteria import READABLE, Scale
from judgelm.score_lines import find_score_line, thoughts_end

VERDICT_FORMATS = {
    "scores": "a line with a score for each answer, as published",
    "grade": "task grade: [RESULT] 4, [[7]], or a number alone on the first or the last line",
    "letter": "task pair: [[A]], or A, B, C or tie alone on the first or the last line; the better answer has 1 point, "
    "the other 0, both 0.5 in a tie",
    "json": '{"score": 7}, {"scores": [7, 8]} or {"winner": "A"}, fenced or not',
}
SCORES = "scores"
POINTS = Scale(0, 1)
"""of letters and winners"""
_WIN, _LOSE, _TIE = (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_LETTER = r"A\s*>>?\s*B|B\s*>>?\s*A|A\s*=\s*B|[ABC]|(?i:tie)"
_MARKED_LETTER = re.compile(rf"\[\[\s*({_LETTER})\s*\]\]", re.IGNORECASE)
_MARKED_GRADE = re.compile(
    rf"(?:\[RESULT\][\s:(\[*]*|\[\[\s*)(?P<grade>{_NUMBER})(?![0-9.]*[0-9%])(?!\s*[-–]\s*[0-9])"
    rf"(?:\s*/\s*(?P<most>{_NUMBER}))?",
    re.IGNORECASE,
)
_LABEL = (
    r"(?:(?:the|my|your)\s+)?(?:(?:final|overall)\s+)?"
    r"(?:verdict|answer|choice|winner|decision|judge?ment|preference|result|output|better\s+(?:answer|response))"
    r"(?:\s+is\b)?\s*[:=]?"
)
_NOUN = r"(?:assistant|answer|response|model|option|output)"
_LETTER_LINE = re.compile(rf"(?:(?i:{_LABEL})\s*)?(?:(?i:{_NOUN})\s+)?(?P<letter>{_LETTER})")
_DRESS = " \t*_`\"'“”()[]{}<>#.:"
_LONGEST = 200
"""characters of a line that is a letter and its label"""
_MOST_OBJECTS = 256
"""braces at which an object may begin"""


class Verdict(NamedTuple):
    """What was read."""

    scores: tuple[float, ...]
    exact: bool
    """just as it is asked for"""


def find_verdict(text: str, form: str, num_answers: int, scale: Scale = READABLE) -> Verdict | None:
    """The verdict behind the judge's thoughts; of several that are marked as such, the last. None where there is none,
    or it cannot be told without a guess.
    """
    begin = thoughts_end(text)
    if begin is None:
        return None
    said = text[begin:]
    if form == "letter":
        return _find_letter(said) if num_answers == 2 else None
    if form == "json":
        return _find_object(said, num_answers, scale)
    found = _find_grade(said, scale) if form == "grade" else None
    if found is not None or (form == "grade" and _MARKED_GRADE.search(said)):
        return found
    line = find_score_line(text, num_answers, scale)
    return None if line is None else Verdict(line.values, line.exact)


def _find_letter(said: str) -> Verdict | None:
    marked = [_points(match[1]) for match in _MARKED_LETTER.finditer(said)]
    if marked:
        return Verdict(marked[-1], len(set(marked)) == 1)
    lines = [line for line in said.splitlines() if line.strip()]
    if not lines:
        return None
    ends = [_read_letter(line) for line in (lines[0], lines[-1])]
    found = {each.scores for each in ends if each is not None}
    if len(found) != 1:
        return None
    return Verdict(found.pop(), all(each is None or each.exact for each in ends))


def _read_letter(line: str) -> Verdict | None:
    """A line that is a letter, its label and marks around both."""
    if len(line) > _LONGEST:
        return None
    plain = re.sub(r"[*_`\"“”()\[\]]+", "", line).strip(_DRESS)
    match = _LETTER_LINE.fullmatch(plain)
    return None if match is None else Verdict(_points(match["letter"]), line.strip() == match["letter"])


def _points(letter: str) -> tuple[float, float]:
    sign = "".join(letter.split()).upper().replace(">>", ">")
    return {"A": _WIN, "A>B": _WIN, "B": _LOSE, "B>A": _LOSE}.get(sign, _TIE)


def _find_grade(said: str, scale: Scale) -> Verdict | None:
    marked = list(_MARKED_GRADE.finditer(said))
    if not marked:
        return None
    last, values = marked[-1], {match["grade"] for match in marked}
    most = last["most"]
    if most is not None and float(most) != scale.most:
        return None
    return _on_scale((float(last["grade"]),), scale, len(values) == 1)


def _on_scale(scores: tuple[float, ...], scale: Scale, exact: bool) -> Verdict | None:
    return Verdict(scores, exact) if all(scale.least <= score <= scale.most for score in scores) else None


def _find_object(said: str, num_answers: int, scale: Scale) -> Verdict | None:
    """The last object that is a verdict, whatever stands around it."""
    for found, alone in _objects(said):
        given = [(name, found[name]) for name in ("score", "scores", "winner") if name in found]
        if given:
            # two of them may contradict each other
            return _read_field(*given[0], num_answers, scale, alone) if len(given) == 1 else None
    return None


def _objects(said: str) -> Sequence[tuple[dict[str, Any], bool]]:
    """The objects in a text that are in no other, the last first, and whether each is all there is."""
    decoder, begin = json.JSONDecoder(), said.find("{")
    found: list[tuple[dict[str, Any], bool]] = []
    for _ in range(_MOST_OBJECTS):
        if begin < 0:
            break
        try:
            value, end = decoder.raw_decode(said, begin)
            found.append((value, not said[:begin].strip() and not said[end:].strip()))
        except (ValueError, RecursionError):
            end = begin + 1
        begin = said.find("{", end)
    return found[::-1]


def _read_field(name: str, given: Any, num_answers: int, scale: Scale, alone: bool) -> Verdict | None:
    if name == "winner":
        sure = isinstance(given, str) and num_answers == 2 and re.fullmatch(_LETTER, given.strip())
        return _on_scale(_points(given.strip()), scale, alone) if sure else None
    scores = [given] if name == "score" else given
    if not isinstance(scores, list) or len(scores) != num_answers or (name == "score" and num_answers != 1):
        return None
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in scores):
        return None
    found = _on_scale(tuple(scores), scale, alone)
    return found and found._replace(scores=tuple(map(float, found.scores)))
