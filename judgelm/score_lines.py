"""Where the scores stand in what a judge wrote: behind its thoughts, on the first line or the last, bare or dressed up.

A line is read where it is scores and nothing else, once marks, brackets, labels and an end dot are looked past. A
number within prose is never a score.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from judgelm.criteria import READABLE, Scale

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_SEPARATOR = r"(?:[ \t]*,[ \t]*|[ \t]+)"
_EXACT_LINE = re.compile(rf"{_NUMBER}(?: {_NUMBER})*")
_CONTENT = re.compile(r"\S[^\n]*")

_TAG = r"(?:think|thinking|thought|reasoning)"
THOUGHTS_BEGIN = re.compile(rf"<{_TAG}>|\[THINK\]", re.IGNORECASE)
_SPACE = re.compile(r"\s*")
THOUGHTS_END = re.compile(rf"</{_TAG}>|\[/THINK\]", re.IGNORECASE)

_WINDOW = 4096
"""characters at either end in which dressed-up scores are looked for"""
_LONGEST = 640
"""characters of a dressed-up line: ten labels and scores"""
# one character for one, so that places stay: full-width forms; ideographic comma, full stop and space; no width at all
_PLAIN = {full: full - 0xFEE0 for full in range(0xFF01, 0xFF5F)} | str.maketrans(
    "、。｡【】　\xa0\ufeff\u200b\u200e\u200f\u2060", ",..[]       "
)
_EMPTY = re.compile(
    r"^[ \t]*(?:(?:```|~~~)\w*|[\[\](){}])\s*?$|</?(?:b|strong|em|code|answer|scores?)>", re.IGNORECASE | re.MULTILINE
)
"""code fences, brackets alone on a line, tags"""
_MARKS = re.compile(r'[*_`"“”]+')
_BULLET = re.compile(r"[#>\s]*(?:[-+*•]\s+)?")
_GAP = re.compile(r"\s*[,;|]\s*|\s+")
_CLOSING = str.maketrans("[({", "])}")

_WORDS = (
    *("the", "my", "your", "final", "overall", "total", "ai", "two", "both", "for", "of", "to", "and", "is", "are"),
    *("scores?", "ratings?", "grades?", "verdicts?", "judge?ments?", "evaluations?", "results?", "respectively"),
    *("assistants?", "answers?", "responses?", "models?", "candidates?", "outputs?"),
)
_WORD = rf"(?i:{'|'.join(_WORDS)})(?![A-Za-z])|['’]s(?![A-Za-z])|最终|评分|分数|得分|助手|回答|答案|模型|的|和"
_ANSWER = r"(?<![0-9.])(?:10|[1-9])(?![0-9.])|(?<![A-Za-z])[A-J](?![A-Za-z])"


class _Patterns:
    """What scores look like on a scale that ends at `most`: "8/10", "(out of 10)" """

    def __init__(self, most: int) -> None:
        score = rf"{_NUMBER}(?:/{most})?"
        self.most = most
        self.plain_line = re.compile(rf"{score}(?:{_SEPARATOR}{score})*")
        self.plain_score = re.compile(score)
        self.item = re.compile(
            rf"\s*+(?P<open>[\[({{]*)\s*(?P<score>(?P<number>{_NUMBER})(?:\s*/\s*{most}(?![0-9]))?)"
            rf"\s*(?P<close>[\])}}]*)"
        )
        scale = rf"\(?\s*(?:out\s+of\s+|[01]\s*[-–]\s*|/\s*){most}(?![0-9])\s*\)?"
        # atomic, so that a label that ends in nothing is given up at once
        tokens = rf"(?>\s*(?:{scale}|{_WORD}|{_ANSWER}|[(),&#]))+"
        self.label = re.compile(rf"{tokens}(?:\s*(?:[:=]|[-–—](?=\s))|(?=[ \t]*\n))")
        self.label_line = re.compile(rf"(?=.*[^\W\d_]){_BULLET.pattern}{tokens}\s*[:=]?")
        self.named = re.compile(rf"{scale}|(?P<answer>{_ANSWER})")


_patterns = functools.cache(_Patterns)


@dataclass(frozen=True, slots=True)
class ScoreLine:
    """The line or lines with one score an answer: characters `begin` to `end` of the text."""

    begin: int
    end: int
    places: tuple[tuple[int, int], ...]
    """begin and end of each answer's score"""
    values: tuple[float, ...]
    exact: bool = False
    """just as it is asked for"""


@dataclass(frozen=True, slots=True)
class _Found:
    """One score of a line."""

    begin: int
    end: int
    value: float
    answer: int | None
    """the number in its label"""


@dataclass(frozen=True, slots=True)
class _Line:
    begin: int
    end: int
    scores: list[_Found] | None
    """None where there is anything else"""
    labelled: bool


def find_score_line(text: str, num_answers: int, scale: Scale = READABLE) -> ScoreLine | None:
    """The scores of so many answers, each on the scale; None where they cannot be told without a guess.

    What stands behind the last thought is looked at first; where there are no scores, the text's own beginning.
    """
    begin = thoughts_end(text)
    if begin is None:
        return None
    patterns = _patterns(scale.most)
    line = _leading(text, begin, num_answers, patterns) or _closing(text, begin, num_answers, patterns)
    if line is None and begin:
        line = _leading(text, 0, num_answers, patterns)
    return None if line is None or min(line.values) < scale.least else line


def thoughts_end(text: str) -> int | None:
    """Where the judge's thoughts end, which stand in tags such as <think>; the opening tag may be the template's.

    0 where there are none, None where they have not ended yet.
    """
    end = 0
    if "</" in text or "[/" in text:
        for match in THOUGHTS_END.finditer(text):
            end = match.end()
    return None if not end and THOUGHTS_BEGIN.match(text.lstrip()) else end


def leading_thoughts(text: str) -> int:
    """How many characters at a text's beginning are whole thoughts between tags, and the white space around them.

    0 where there are none. Thoughts that do not end, or whose opening tag is missing, are none: what is thought and
    what is said could only be guessed.
    """
    end = 0
    while (begin := _SPACE.match(text, end)) and (opened := THOUGHTS_BEGIN.match(text, begin.end())):
        if not (closed := THOUGHTS_END.search(text, opened.end())):
            break
        end = closed.end()
    return len(text) - len(text[end:].lstrip()) if end else 0


def text_begin(text: str) -> int | None:
    """Behind thoughts with which a text begins, and the white space after them; None while they go on."""
    end = thoughts_end(text) if text.lstrip()[:1] in ("<", "[") else 0
    return len(text) - len(text[end:].lstrip()) if end else end


def _leading(text: str, begin: int, num_answers: int, patterns: _Patterns) -> ScoreLine | None:
    """Scores with which the text begins."""
    first = _CONTENT.search(text, begin)
    if first is None:
        return None
    start = first.start()
    plain = _plain(text, start, first[0].rstrip(), num_answers, patterns)
    return plain or _dressed(text, start, num_answers, patterns)


def _plain(text: str, begin: int, line: str, num_answers: int, patterns: _Patterns) -> ScoreLine | None:
    found = list(itertools.islice(patterns.plain_score.finditer(line), num_answers + 1))
    if len(found) != num_answers or not patterns.plain_line.fullmatch(line):
        return None
    values = tuple(float(match[0].partition("/")[0]) for match in found)
    if max(values) > patterns.most:
        return None
    end = begin + len(line)
    exact = begin == 0 and text[end : end + 1] in ("", "\n") and _EXACT_LINE.fullmatch(line) is not None
    return ScoreLine(begin, end, tuple((begin + match.start(), begin + match.end()) for match in found), values, exact)


def _dressed(text: str, begin: int, num_answers: int, patterns: _Patterns) -> ScoreLine | None:
    """All on one line, or each on its own; another line of numbers behind them makes it unclear which are meant."""
    window = text[begin : begin + _WINDOW]
    if len(text) > begin + _WINDOW:
        # not the line that is cut
        window = window[: window.rfind("\n") + 1]
    lines = _read_lines(window, patterns, num_answers + 1)
    if not lines or lines[0].scores is None:
        return None
    used = 1 if len(lines[0].scores) == num_answers else num_answers
    after = lines[used] if len(lines) > used else None
    if after is not None and after.scores is not None:
        return None
    end = len(window if after is None else window[: after.begin].rstrip())
    return _together(lines[:used], num_answers, begin, (0, len(window[:end].rstrip())), patterns.most)


def _closing(text: str, begin: int, num_answers: int, patterns: _Patterns) -> ScoreLine | None:
    """Scores with which the text ends, reasons before them: on the last line, or each on its own with a label."""
    end = len(text.rstrip())
    if THOUGHTS_BEGIN.search(text, begin, end):
        return None
    if end - begin > _WINDOW:
        # not the line that is cut
        begin = text.find("\n", end - _WINDOW, end) + 1
        if not begin:
            return None
    window = text[begin:end]
    lines = _read_lines(window, patterns)
    if not lines or lines[-1].scores is None:
        return None
    used = 1 if len(lines[-1].scores) == num_answers else num_answers
    before = lines[-used - 1] if len(lines) > used else None
    if not lines[-1].labelled and (used > 1 or (before is not None and before.scores is not None)):
        return None
    start = 0 if before is None else before.end
    start += len(window[start:]) - len(window[start:].lstrip())
    return _together(lines[-used:], num_answers, begin, (start, len(window)), patterns.most)


def _together(
    lines: Sequence[_Line], num_answers: int, offset: int, span: tuple[int, int], most: int
) -> ScoreLine | None:
    scores = [score for line in lines for score in line.scores or ()]
    if len(lines) > 1 and any(line.scores is None or len(line.scores) != 1 for line in lines):
        return None
    if len(scores) != num_answers or max(score.value for score in scores) > most:
        return None
    if any(score.answer is not None for score in scores):
        named = {score.answer: score for score in scores}
        if set(named) != set(range(1, num_answers + 1)):
            return None
        scores = [named[answer] for answer in range(1, num_answers + 1)]
    places = tuple((score.begin + offset, score.end + offset) for score in scores)
    return ScoreLine(span[0] + offset, span[1] + offset, places, tuple(score.value for score in scores))


def _read_lines(window: str, patterns: _Patterns, most: int | None = None) -> list[_Line]:
    """The lines that are not blank, at most so many; a line that is a label is one with the line below it."""
    plain = _undress(window)
    lines: list[_Line] = []
    joined: int | None = None
    for match in _CONTENT.finditer(plain):
        begin, end = match.start(), match.start() + len(match[0].rstrip())
        start = begin if joined is None else joined
        short = end - start <= _LONGEST
        if match.end() < len(plain) and short and patterns.label_line.fullmatch(plain, begin, end):
            joined = start
            continue
        joined = None
        scores = _read_scores(plain, start, end, patterns) if short else None
        # marks in front of it belong to the line
        first = plain.rfind("\n", 0, start) + 1
        first += len(window[first:start]) - len(window[first:start].lstrip())
        labelled = any(character.isalpha() for character in plain[start:end]) if short else True
        lines.append(_Line(first, end, scores, labelled))
        if len(lines) == most:
            break
    return lines


def _undress(text: str) -> str:
    """The text in plain characters, with spaces for what only dresses it up."""
    text = _EMPTY.sub(_blank, text.translate(_PLAIN))
    return _MARKS.sub(_blank_mark, text)


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _blank_mark(match: re.Match[str]) -> str:
    """A mark belongs to a word: not to two numbers ("8*7"), and a single one not to none ("8 * 7", a bullet)."""
    text, begin, end = match.string, match.start(), match.end()
    before, after = text[begin - 1 : begin], text[end : end + 1]
    if before.isdigit() and after.isdigit():
        return match[0]
    lonely = not before.strip() and not after.strip()
    return match[0] if lonely and end - begin == 1 else _blank(match)


def _read_scores(text: str, begin: int, end: int, patterns: _Patterns, depth: int = 0) -> list[_Found] | None:
    """The scores of a line that holds nothing else; None for any other."""
    line = text[begin:end].rstrip()
    end = begin + len(line[:-1].rstrip() if line.endswith((".", ",", ";")) else line)
    named: list[int] = []
    while True:
        begin = _skip(_BULLET, text, begin, end)
        label = patterns.label.match(text, begin, end)
        answers = [] if label is None else _answers(label[0], patterns)
        if label is None or len(answers) == 1:
            break
        if named:
            return None
        named, begin = answers, label.end()
    scores = _read_items(text, begin, end, patterns)
    if scores is None and depth < 3 and end - begin > 1 and text[begin].translate(_CLOSING) == text[end - 1]:
        scores = _read_scores(text, begin + 1, end - 1, patterns, depth + 1) if text[begin] in "[({" else None
    if scores is None or not named:
        return scores
    if len(named) != len(scores) or any(score.answer is not None for score in scores):
        return None
    return [replace(score, answer=answer) for score, answer in zip(scores, named, strict=True)]


def _read_items(text: str, begin: int, end: int, patterns: _Patterns) -> list[_Found] | None:
    """Scores with gaps between them, all in the same brackets or none, each with a label or none."""
    scores: list[_Found] = []
    brackets: str | None = None
    while True:
        label = patterns.label.match(text, begin, end)
        answers = [None] if label is None else _answers(label[0], patterns)
        if len(answers) != 1:
            return None
        item = patterns.item.match(text, begin if label is None else label.end(), end)
        if item is None or item["close"] != item["open"].translate(_CLOSING)[::-1]:
            return None
        if brackets is not None and item["open"] != brackets:
            return None
        brackets = item["open"]
        scores.append(_Found(*item.span("score"), float(item["number"]), answers[0]))
        if item.end() == end:
            return scores
        begin = _skip(_GAP, text, item.end(), end)
        if begin == item.end() and not brackets and not item[0][-1:].isspace():
            return None


def _skip(pattern: re.Pattern[str], text: str, begin: int, end: int) -> int:
    match = pattern.match(text, begin, end)
    return begin if match is None else match.end()


def _answers(label: str, patterns: _Patterns) -> list[int]:
    """The numbers of the answers that a label names; A is 1."""
    named = [match["answer"] for match in patterns.named.finditer(label) if match["answer"]]
    return [int(name) if name.isdigit() else ord(name) - ord("A") + 1 for name in named]
