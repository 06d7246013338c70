"""What a training file holds: counted before a training, and by `judgelm train-data check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from judgelm.judgement import Outcome
from judgelm.sample import question_key
from judgelm.train.sample import TrainingSample


@dataclass
class RowCounts:
    """Counts over the rows of a training file; texts are kept as short hashes, so that many rows need little memory."""

    states: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    scores: Counter[str] = field(default_factory=Counter)
    """of both answers"""
    questions: Counter[str] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)
    """how often each question with these two answers, in whatever order, stands in the file"""
    with_reference: int = 0
    repaired: int = 0
    longest: int = 0
    """tokens of a row's longest variant, before shortening"""
    total_tokens: int = 0

    def add(self, state: str, row: TrainingSample | None, num_tokens: int) -> None:
        """Count a row; None is one that is skipped for its text, and 0 tokens stand for those not counted."""
        self.states[state] += 1
        if row is None:
            return
        sample, judgement = row.sample, row.judgement
        self.questions[_short(question_key(sample.question))] += 1
        self.pairs[_short(sample.question, *sorted(sample.answers))] += 1
        self.longest = max(self.longest, num_tokens)
        self.total_tokens += num_tokens
        self.with_reference += row.judgement_with_reference is not None
        self.repaired += judgement.state.value == "repaired"
        if judgement.scores is not None and judgement.outcome is not None:
            self.scores.update(f"{score:g}" for score in judgement.scores)
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
        return self.pairs.total() - len(self.pairs)

    def overlap(self, other: RowCounts) -> int:
        """How many questions stand in both files, whatever their case and white space."""
        return len(self.questions.keys() & other.questions.keys())

    def lines(self) -> list[str]:
        """The report, a line for each thing worth knowing."""
        judged = max(1, self.outcomes.total())
        shares = {outcome: f"{100 * self.outcomes[outcome.value] / judged:.1f} %" for outcome in Outcome}
        lines = [
            f"rows {self.rows}, trained on {self.trained}; skipped: teacher error {self.states['error']}, no scores"
            f" {self.states['unparsed']}, too long {self.states['too_long']}",
            f"questions {len(self.questions)}, same question and answers again {self.double},"
            f" with a reference {self.with_reference}, repaired score lines {self.repaired}",
            f"teacher: first wins {shares[Outcome.WIN]}, ties {shares[Outcome.TIE]},"
            f" second wins {shares[Outcome.LOSE]}",
            "scores: " + " ".join(f"{score}:{self.scores[score]}" for score in sorted(self.scores, key=float)),
        ]
        if self.total_tokens:
            mean = self.total_tokens / judged
            lines.append(f"tokens: mean {mean:.0f}, longest {self.longest}; shortened {self.states['shortened']}")
        return lines

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> RowCounts:
        """Counts that were written as `vars(counts)`."""
        values: dict[str, Any] = {
            name: Counter(found) if isinstance(found, dict) else found for name, found in record.items()
        }
        return cls(**values)


def _short(*texts: str) -> str:
    """Two texts in a billion rows are hardly alike."""
    digest = blake2b(digest_size=12)
    for text in texts:
        digest.update(b"%d:" % len(text) + text.encode())
    return digest.hexdigest()
