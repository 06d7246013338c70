"""The words in which judges say who is better, and which of them a file speaks."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from judgelm.errors import InputError, one_line
from judgelm.judgement import Outcome

FIRST, TIE, SECOND = Outcome.WIN, Outcome.TIE, Outcome.LOSE
FROM_ZERO = "from-zero"
_PLAIN = (
    dict.fromkeys(("tie", "tied", "draw", "equal", "same", "both", "neither", "bothgood", "bothbad"), TIE)
    # the words of MT-bench and LMArena
    | dict.fromkeys(("tiebothbad", "tieinconsistent", "tievote", "bothbadvote"), TIE)
    | dict.fromkeys(("first", "left", "leftvote", "win"), FIRST)
    | dict.fromkeys(("second", "right", "rightvote", "lose", "loss"), SECOND)
)
"""words that mean the same in every vocabulary"""
_NOUN = re.compile(
    r"(?:(?:model|assistant|response|output|answer|system|candidate|option|choice|completion|winner|verdict)s?)+"
    r"(?=[a-c0-2](?:$|[<>=]))"
)
_DECORATION = re.compile(r"[^\w<>=]|_")
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What each word means; words are compared by `normal_form`."""

    help: str
    words: Mapping[str, Outcome]
    scores: bool = False
    """numbers from 1.0 (the first is better) to 2.0 (the second is)"""

    def read(self, word: str) -> Outcome | None:
        """None for a word it does not have."""
        if word in self.words or not self.scores:
            return self.words.get(word)
        try:
            score = float(word)
        except ValueError:
            return None
        # nan compares with nothing
        return Outcome.from_scores(1.5, score) if 1 <= score <= 2 else None


VOCABULARIES = {
    "sign": Vocabulary("1 first, 0 or Tie tie, -1 second", {"1": FIRST, "0": TIE, "-1": SECOND, **_PLAIN}),
    "number": Vocabulary("1 first, 2 second, Tie or 0 tie", {"1": FIRST, "2": SECOND, "0": TIE, **_PLAIN}),
    FROM_ZERO: Vocabulary("0 first, 1 second, 2 or Tie tie", {"0": FIRST, "1": SECOND, "2": TIE, **_PLAIN}),
    "letter": Vocabulary(
        "A, B, C for a tie, in brackets or not; model_a, model_b, tie, tie (bothbad)",
        {"a": FIRST, "b": SECOND, "c": TIE, **_PLAIN},
    ),
    "comparison": Vocabulary(
        "A>B, A>>B, A=B, B>A, B>>A, in brackets or not",
        {"a>b": FIRST, "a>>b": FIRST, "a=b": TIE, "b=a": TIE, "b>a": SECOND, "b>>a": SECOND}
        | {"a<b": SECOND, "a<<b": SECOND, "b<a": FIRST, "b<<a": FIRST}
        | {"1>2": FIRST, "1=2": TIE, "2=1": TIE, "2>1": SECOND, "1<2": SECOND, "2<1": FIRST, **_PLAIN},
    ),
    "score": Vocabulary(
        "a number from 1.0, first, to 2.0, second; 1.5 or 0 is a tie", {"0": TIE, **_PLAIN}, scores=True
    ),
}
MEANINGS = "; ".join(f"{name}: {each.help}" for name, each in VOCABULARIES.items())
_WAYS = f"--vocabulary takes {MEANINGS}"


def normal_form(verdict: Any) -> str:
    """A verdict's first line as a word; empty for what is no verdict, such as null.

    [[A]] and model_a are A, 1.0 and "Response 1" are 1; case, white space, brackets and quotes do not matter.
    """
    if isinstance(verdict, bool) or not isinstance(verdict, str | int | float):
        return ""
    text = unicodedata.normalize("NFKC", str(verdict)).strip().split("\n")[0]
    word = "".join(text.split()).casefold()
    number = _number(word.strip("[]()"))
    if number is None:
        word = _NOUN.sub("", _DECORATION.sub("", word))
        number = _number(word)
    return word if number is None else number


def _number(word: str) -> str | None:
    try:
        number = float(word)
    except ValueError:
        return None
    return str(int(number)) if number.is_integer() else str(number)


def find_vocabulary(words: Iterable[str], where: str, own: str | None = None) -> str:
    """The name of a whole file's vocabulary, from its verdicts' normal forms.

    It has every word that any vocabulary has; other words are nobody's, and unparsed. `own`, the one in which files of
    this form are published, is taken where it does. Raises InputError where none has all, where several have and mean
    different things by them, and where most words are nobody's.
    """
    counts = Counter(word for word in words if word)
    known = {word for word in counts if any(each.read(word) is not None for each in VOCABULARIES.values())}
    others = {word: count for word, count in counts.items() if word not in known}
    if not known and not others:
        raise InputError(f"{where}: no verdict that can be read")
    if sum(others.values()) > sum(counts[word] for word in known):
        raise InputError(
            f"{where}: no verdict that can be read in {sum(others.values())} of {counts.total()} rows, such as"
            f" {_show(others)}; {_WAYS}"
        )
    if own is not None and all(VOCABULARIES[own].read(word) is not None for word in known):
        return own
    fitting = {name: each for name, each in VOCABULARIES.items() if _fits(name, known)}
    shown = ", ".join(sorted(known)[:_SHOWN])
    ways = f"say which with --vocabulary {'|'.join(fitting or VOCABULARIES)}"
    if not fitting:
        raise InputError(f"{where}: no vocabulary has all of these verdicts: {shown}; {ways}")
    meanings = {tuple(each.read(word) for word in sorted(known)) for each in fitting.values()}
    if len(meanings) > 1:
        raise InputError(f"{where}: the verdicts {shown} can be read in more than one way; {ways}")
    return next(iter(fitting))


def check_vocabulary(name: str, words: Iterable[str], where: str) -> None:
    """Raises InputError where none of the verdicts is a word of it."""
    counts = Counter(word for word in words if word)
    if counts and all(VOCABULARIES[name].read(word) is None for word in counts):
        raise InputError(f"{where}: --vocabulary {name} has none of these verdicts: {_show(counts)}; {_WAYS}")


def _show(words: Mapping[str, int]) -> str:
    most = sorted(words, key=lambda word: (-words[word], word))[:_SHOWN]
    return ", ".join(repr(one_line(word)[:30]) for word in most)


def _fits(name: str, known: Collection[str]) -> bool:
    # a 2 is the second answer, as in this project's labels, unless a user says otherwise; without one, a 0 may be a tie
    # or the first answer
    if name == FROM_ZERO and ("0" not in known or "2" in known):
        return False
    return all(VOCABULARIES[name].read(word) is not None for word in known)
