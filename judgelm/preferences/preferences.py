"""Preference pairs as other trainers read them, and what was left out of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from judgelm.dialogue import ASSISTANT, Turn, Turns, to_messages
from judgelm.documents import AnyText, Count, Document
from judgelm.errors import InputError
from judgelm.exports import find_format, write_rows
from judgelm.files import PathLike
from judgelm.jsonl import Record

FORMATS = ("jsonl", "parquet")


class PreferenceCounts(Document):
    """What the file beside the pairs holds."""

    what: ClassVar[str] = "counts of preference pairs"

    of: str
    """answers, or texts of the judge"""
    folders: list[AnyText]
    """that were read"""
    sure: float | None = None
    """how probable it had to be that the chosen answer is better; null: both orders had to say so"""
    total: Count
    """pairs of answers that were judged; of texts prompts: questions in one order"""
    pairs: Count
    """that were written; of texts there may be several of a prompt"""
    left_out: dict[str, Count]
    """how many of the total gave no pair, by reason"""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two ways to go on, of which the first is preferred."""

    question_id: str
    prompt: Turns | str
    """what is continued: turns of a chat, or a text"""
    chosen: str
    rejected: str
    margin: float | None
    """by how many points; None where one of them has none"""
    order: str | None = None
    """in which the judge saw the answers, of a judge's texts"""

    def to_record(self, as_messages: bool) -> Record:
        """The fields that TRL knows, all texts or all lists of messages, then ours."""
        prompt, texts = self.prompt, [self.chosen, self.rejected]
        if not as_messages:
            said: list[object] = [prompt if isinstance(prompt, str) else prompt[-1].text, *texts]
        else:
            assert not isinstance(prompt, str)
            said = [to_messages(prompt), *(to_messages([Turn(ASSISTANT, text)]) for text in texts)]
        order = {} if self.order is None else {"order": self.order}
        fields = dict(zip(("prompt", "chosen", "rejected"), said, strict=True))
        return {"question_id": self.question_id, **fields, "margin": self.margin, **order}


@dataclass(frozen=True, slots=True)
class Preferences:
    """Pairs, and what became of all that could have been one."""

    pairs: Sequence[Pair]
    counts: PreferenceCounts
    as_messages: bool
    """whether rows are lists of messages: a trainer takes all rows in one form"""

    @classmethod
    def of(
        cls,
        what: str,
        folders: Sequence[PathLike],
        total: int,
        pairs: Sequence[Pair],
        left_out: Counter[str],
        as_messages: bool,
        sure: float | None = None,
    ) -> Preferences:
        counts = PreferenceCounts(
            of=what,
            folders=[str(folder) for folder in folders],
            sure=sure,
            total=total,
            pairs=len(pairs),
            left_out={reason: left_out[reason] for reason in sorted(left_out)},
        )
        return cls(pairs, counts, as_messages)

    def write(self, path: PathLike) -> Path:
        """As JSON Lines or Parquet, whole or not at all, and the counts beside; gives the counts' path.

        Raises InputError for another format, and where there is no pair.
        """
        runs = (Path(folder) / f"{order}.jsonl" for folder in self.counts.folders for order in ("forward", "reversed"))
        check_output(path, *runs)
        if not self.pairs:
            why = ", ".join(f"{count} {reason}" for reason, count in self.counts.left_out.items())
            raise InputError(f"{self.counts.folders[0]}: no pair is left of {self.counts.total} ({why})")
        write_rows(path, lambda: (pair.to_record(self.as_messages) for pair in self.pairs))
        place = Path(path).expanduser()
        beside = place.with_name(f"{place.name}.counts.json")
        self.counts.write(beside)
        return beside


def check_output(path: PathLike, *read: PathLike) -> None:
    """Raises InputError where the name of a file is that of neither format, or of a file that is read."""
    if find_format(path) not in FORMATS or Path(path).suffix.casefold() == ".gz":
        raise InputError(f"{path}: expected a name that ends in {' or '.join(f'.{each}' for each in FORMATS)}")
    place = Path(path).expanduser().resolve()
    if any(Path(each).expanduser().resolve() == place for each in read):
        raise InputError(f"{path} is a file that is read: name another one")
