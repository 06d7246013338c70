"""The words in which judges say who is better, and which of them a file speaks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from judgelm.jsonl import InputError
from judgelm.verdict import Outcome

FIRST, TIE, SECOND = Outcome.WIN, Outcome.TIE, Outcome.LOSE
FROM_ZERO = "from-zero"
_TIES = dict.fromkeys(("tie", "draw", "equal", "both", "neither"), TIE)


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
    "sign": Vocabulary("1 first, 0 or Tie tie, -1 second", {"1": FIRST, "0": TIE, "-1": SECOND, **_TIES}),
    "number": Vocabulary("1 first, 2 second, Tie or 0 tie", {"1": FIRST, "2": SECOND, "0": TIE, **_TIES}),
    FROM_ZERO: Vocabulary("0 first, 1 second, 2 or Tie tie", {"0": FIRST, "1": SECOND, "2": TIE, **_TIES}),
    "letter": Vocabulary("A, B, C for a tie, in brackets or not", {"a": FIRST, "b": SECOND, "c": TIE, **_TIES}),
    "comparison": Vocabulary(
        "A>B, A>>B, A=B, B>A, B>>A, in brackets or not",
        {"a>b": FIRST, "a>>b": FIRST, "a=b": TIE, "b=a": TIE, "b>a": SECOND, "b>>a": SECOND}
        | {"a<b": SECOND, "a<<b": SECOND, "b<a": FIRST, "b<<a": FIRST, **_TIES},
    ),
    "score": Vocabulary("a number from 1.0, first, to 2.0, second; 1.5 is a tie", _TIES, scores=True),
}


def normal_form(verdict: Any) -> str:
    """A verdict's first line as a word: [[A]] is A, 1.0 is 1, case and white space do not matter."""
    if isinstance(verdict, bool) or not isinstance(verdict, str | int | float):
        return ""
    first_line = str(verdict).strip().split("\n")[0]
    word = "".join(first_line.split()).strip("[]").casefold()
    try:
        number = float(word)
    except ValueError:
        return word
    return str(int(number)) if number.is_integer() else str(number)


def find_vocabulary(words: Iterable[str], where: str) -> str:
    """The name of a whole file's vocabulary, from its verdicts' normal forms.

    It has every word that any vocabulary has; other words are nobody's, and unparsed. Raises InputError where none has
    all, and where several have and mean different things by them.
    """
    known = {word for word in words if any(each.read(word) is not None for each in VOCABULARIES.values())}
    fitting = {name: each for name, each in VOCABULARIES.items() if _fits(name, known)}
    shown = ", ".join(sorted(known)[:8])
    ways = f"say which with --vocabulary {'|'.join(fitting or VOCABULARIES)}"
    if not known:
        raise InputError(f"{where}: no verdict that can be read")
    if not fitting:
        raise InputError(f"{where}: no vocabulary has all of these verdicts: {shown}; {ways}")
    meanings = {tuple(each.read(word) for word in sorted(known)) for each in fitting.values()}
    if len(meanings) > 1:
        raise InputError(f"{where}: the verdicts {shown} can be read in more than one way; {ways}")
    return next(iter(fitting))


def _fits(name: str, known: Collection[str]) -> bool:
    # a 2 is the second answer, as in this project's labels, unless a user says otherwise; without one, a 0 may be a tie
    # or the first answer
    if name == FROM_ZERO and ("0" not in known or "2" in known):
        return False
    return all(VOCABULARIES[name].read(word) is not None for word in known)
