"""What a training file holds: counted before a training, and by `judgelm train-data check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from judgelm.judgement import Outcome
from judgelm.sample import question_key

if TYPE_CHECKING:
    from judgelm.train.dataset import ScannedRow


@dataclass(slots=True)
class Summary:
    """Counts over the rows of a training file."""

    states: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    scores: Counter[float] = field(default_factory=Counter)
    """of both answers"""
    pairs: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """how often each question with these two answers, in whatever order, stands in the file"""
    questions: Counter[str] = field(default_factory=Counter)
    with_reference: int = 0
    repaired: int = 0
    longest: int = 0
    total_tokens: int = 0

    @classmethod
    def of(cls, rows: Iterable[ScannedRow]) -> Summary:
        summary = cls()
        for row in rows:
            summary.add(row)
        return summary

    def add(self, row: ScannedRow) -> None:
        self.states[row.state.value] += 1
        if row.sample is None:
            return
        sample, judgement = row.sample.sample, row.sample.judgement
        self.questions[question_key(sample.question)] += 1
        self.pairs[(sample.question, *sorted(sample.answers))] += 1
        self.longest = max(self.longest, row.num_tokens)
        self.total_tokens += row.num_tokens
        self.with_reference += row.sample.judgement_with_reference is not None
        self.repaired += judgement.state.value == "repaired"
        if judgement.scores is not None and judgement.outcome is not None:
            self.scores.update(judgement.scores)
            self.outcomes[judgement.outcome.value] += 1

    @property
    def rows(self) -> int:
        return self.states.total()

    @property
    def trained(self) -> int:
        return self.states["ok"] + self.states["shortened"]

    @property
    def double(self) -> int:
        """Rows beyond the first of each question with the same two answers."""
        return sum(self.pairs.values()) - len(self.pairs)

    def overlap(self, other: Summary) -> int:
        """How many questions stand in both files, whatever their case and white space."""
        return len(self.questions.keys() & other.questions.keys())

    def lines(self) -> list[str]:
        """The report, a line for each thing worth knowing."""
        skipped = {
            "teacher error": self.states["error"],
            "no scores": self.states["unparsed"],
            "too long": self.states["too_long"],
        }
        judged = max(1, self.outcomes.total())
        shares = {outcome: f"{100 * self.outcomes[outcome.value] / judged:.1f} %" for outcome in Outcome}
        lines = [
            f"rows {self.rows}, trained on {self.trained}; skipped: "
            + ", ".join(f"{name} {count}" for name, count in skipped.items()),
            f"questions {len(self.questions)}, same question and answers again {self.double},"
            f" with a reference {self.with_reference}, repaired score lines {self.repaired}",
            f"teacher: first wins {shares[Outcome.WIN]}, ties {shares[Outcome.TIE]},"
            f" second wins {shares[Outcome.LOSE]}",
            "scores: " + " ".join(f"{score:g}:{count}" for score, count in sorted(self.scores.items())),
        ]
        if self.total_tokens:
            mean = self.total_tokens / max(1, len(self.outcomes) and self.outcomes.total())
            lines.append(f"tokens: mean {mean:.0f}, longest {self.longest}; shortened {self.states['shortened']}")
        return lines
