"""Verdicts that another judge has given already, read without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judgelm.jsonl import InputError, Line, Record, id_key, require
from judgelm.llm_judge.judged import JudgedSample, Reading, read_truth
from judgelm.llm_judge.row_files import read_rows
from judgelm.llm_judge.vocabularies import VOCABULARIES, find_vocabulary, normal_form
from judgelm.verdict import Outcome, ParseState

_SCORES = {Outcome.WIN: (1.0, 0.0), Outcome.TIE: (0.0, 0.0), Outcome.LOSE: (0.0, 1.0)}
"""a verdict has no scores: of these only the order means something"""


@dataclass(frozen=True, slots=True)
class Predictions:
    """A file's verdicts by question_id, of the answers in the data's order."""

    verdicts: Mapping[str, Any]
    """as they stand in the file"""
    vocabulary: str

    def reading(self, key: str) -> Reading:
        """A verdict as a judgement; one that its vocabulary has not is unparsed."""
        verdict = self.verdicts[key]
        outcome = VOCABULARIES[self.vocabulary].read(normal_form(verdict))
        state = ParseState.FAILED if outcome is None else ParseState.OK
        return Reading(str(verdict), state, None if outcome is None else _SCORES[outcome])

    @property
    def unparsed(self) -> int:
        return sum(self.reading(key).state is ParseState.FAILED for key in self.verdicts)


def read_predictions(path: Path, vocabulary: str | None = None) -> Predictions:
    """A verdict file (question_id, verdict) or PandaLM's list (idx, <model>_result), JSON Lines or a JSON list.

    The vocabulary is one for the whole file: as told, PandaLM's own, or the one that has its words. Raises InputError
    where that is not clear and for a double id.
    """
    rows = read_rows(path)
    id_field, field = _fields(rows[0])
    verdicts: dict[str, Any] = {}
    for line in rows:
        key = id_key(require(line, id_field, (int, str)))
        if key in verdicts:
            raise InputError(f"{line.where}: {id_field} {key} stands in the file already")
        if field not in line.record:
            require(line, field, str)
        verdicts[key] = line.record[field]
    if vocabulary is None and field.endswith("_result"):
        vocabulary = "number"
    words = (normal_form(verdict) for verdict in verdicts.values())
    return Predictions(verdicts, vocabulary or find_vocabulary(words, str(path)))


def _fields(first: Line) -> tuple[str, str]:
    """The fields of a file's ids and verdicts."""
    results = [name for name in first.record if name.endswith("_result")]
    if "verdict" in first.record or not results:
        require(first, "question_id", (int, str))
        return "question_id", "verdict"
    if len(results) > 1:
        raise InputError(f"{first.where}: expected one field that ends in _result, found {', '.join(results)}")
    return "idx", results[0]


def predicted_samples(records: Sequence[Record], predictions: Predictions, path: Path) -> list[JudgedSample]:
    """Those records that have a prediction, as if a judge had given it in forward order.

    Raises InputError where none has.
    """
    samples = []
    for number, record in enumerate(records, start=1):
        key = id_key(record["question_id"])
        if key in predictions.verdicts:
            samples.append(
                JudgedSample(
                    key,
                    record["question_body"],
                    (record["answer1_body"], record["answer2_body"]),
                    (record.get("answer1_model_id"), record.get("answer2_model_id")),
                    record.get("category", record.get("subset")),
                    predictions.reading(key),
                    None,
                    read_truth(Line(record, path, number)),
                )
            )
    if not samples:
        known = ", ".join(id_key(record["question_id"]) for record in records[:3])
        raise InputError(f"{path}: none of its ids is one of the data's ({known}, ..)")
    return samples
