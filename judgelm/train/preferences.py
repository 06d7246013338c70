"""Pairs of a judge's texts, one of them preferred, as token ids: what `--method dpo` learns from."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field

from judgelm.encoding import encode
from judgelm.errors import InputError, encodable
from judgelm.files import hash_file
from judgelm.hub import find_file
from judgelm.jsonl import Line, LineFile, require
from judgelm.train.encoder import ExampleEncoder

FIELDS = ("prompt", "chosen", "rejected")
_ENCODED = ("prompt_ids", "chosen_ids", "rejected_ids")
"""as TRL calls them"""


@dataclass
class PreferenceRows:
    """The pairs of a file that can be trained on, and what became of the others."""

    name: str
    fingerprint: str
    """changes with the file's content, the tokenizer and the length"""
    columns: dict[str, list[list[int]]] = field(default_factory=lambda: {name: [] for name in _ENCODED})
    skipped: Counter[str] = field(default_factory=Counter)

    @classmethod
    def load(cls, source: str, encoder: ExampleEncoder) -> PreferenceRows:
        """Rows `{"prompt", "chosen", "rejected"}` of a file in any format, or of a hub data set's `train` split.

        Raises InputError for a missing file, a row without these fields, and where no pair can be trained on.
        """
        path = find_file(source, "train")
        lines = LineFile(path, texts=FIELDS)
        key = f"preferences:{hash_file(path)}:{encoder.fingerprint}"
        rows = cls(source, hashlib.sha256(key.encode()).hexdigest()[:32])
        for line in lines:
            rows._add(line, encoder)
        if not rows:
            states = ", ".join(f"{count} {state}" for state, count in rows.skipped.items())
            raise InputError(f"{source}: no pair can be trained on (found: {states})")
        return rows

    def _add(self, line: Line, encoder: ExampleEncoder) -> None:
        prompt, chosen, rejected = texts = [require(line, name, str) for name in FIELDS]
        if not all(map(encodable, texts)):
            raise InputError(f"{line.where}: a text has half a surrogate pair, which no tokenizer can read")
        if chosen == rejected or not prompt:
            self.skipped["alike" if prompt else "without a prompt"] += 1
            return
        prompt_ids = encode(prompt, encoder.tokenizer)
        followed = [[*encoder.follow(prompt, prompt_ids, text)[0], encoder.eos] for text in (chosen, rejected)]
        if len(prompt_ids) + max(map(len, followed)) > encoder.max_tokens:
            self.skipped["too long"] += 1
            return
        for column, ids in zip(self.columns.values(), (prompt_ids, *followed), strict=True):
            column.append(ids)

    def __len__(self) -> int:
        return len(self.columns["prompt_ids"])

    @property
    def summary(self) -> str:
        """Of the file, in a line."""
        return f"{len(self)} of {len(self) + self.skipped.total()} pairs"

    def lines(self) -> list[str]:
        """The report, a line for each thing worth knowing."""
        lengths = [sum(map(len, ids)) for ids in zip(*self.columns.values(), strict=True)]
        states = ", ".join(f"{name} {self.skipped[name]}" for name in ("alike", "too long", "without a prompt"))
        return [
            f"{self.summary} are trained on; skipped: {states}",
            f"tokens of a prompt and both texts: mean {sum(lengths) / len(lengths):.0f}, longest {max(lengths)}",
        ]
