"""Verdicts that another judge has given already, read without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judgelm.benchmark.rows import Rows
from judgelm.dialogue import shown_conversation, shown_question
from judgelm.errors import InputError
from judgelm.evaluation.readings import read_category
from judgelm.evaluation.results import JudgedSample, read_truth
from judgelm.jsonl import Line, Record, id_key, read_id, require
from judgelm.judgement import Outcome, ParseState
from judgelm.verdict import Reading
from judgelm.vocabularies import FROM_ZERO, VOCABULARIES, check_vocabulary, find_vocabulary, normal_form

_SCORES = {Outcome.WIN: (1.0, 0.0), Outcome.TIE: (0.0, 0.0), Outcome.LOSE: (0.0, 1.0)}
"""a verdict has no scores: of these only the order means something"""
_IDS = ("question_id", "pair_id", "idx", "id", "uid")
_VERDICT, _JUDGEBENCH, _LLMBAR, _AUTO_J = "verdict", "judgments", "results", "output"
_ONE_VERDICT = ("decision", "winner", "preference", "prediction", _AUTO_J)
Given = tuple[Any, ...]
"""a row's verdict as it stands in the file, and where it has both orders that of the exchanged answers"""


@dataclass(frozen=True, slots=True)
class Predictions:
    """A file's verdicts by question_id, or by row where no row has an id."""

    readings: Mapping[str, Sequence[Reading]]
    """a row's verdict, and where it has both orders that of the exchanged answers, in the data's order"""
    vocabulary: str
    rows: int | None
    """rows of the file where verdicts go by row, counted from 0"""
    odd: Sequence[str]
    """what is wrong with the rows that could not be read"""

    @property
    def unparsed(self) -> int:
        """Of all verdicts, of both orders, those that the vocabulary has not."""
        return sum(each.scores is None for readings in self.readings.values() for each in readings)


def read_predictions(path: Path, vocabulary: str | None = None) -> Predictions:
    """A verdict file (question_id, verdict), or one as PandaLM, JudgeBench, LLMBar, Auto-J or AlpacaEval publish it.

    The vocabulary is one for the whole file: as told, the project's own, or the one that has its words. A row that
    cannot be read is set aside. Raises InputError where no row can, where the vocabulary is not clear, and for a double
    id.
    """
    rows = Rows()
    lines = list(rows.read(path, lambda line: line))
    field = _verdict_field([line for _, line in lines])
    id_field = next((name for name in _IDS if any(name in line.record for _, line in lines)), None)
    given: dict[str, Given] = {}
    for place, line in lines:
        try:
            key = str(place) if id_field is None else id_key(read_id(line, id_field))
            verdicts = _READERS.get(field, _one_verdict)(line, field)
        except InputError as error:
            rows.odd.append(str(error))
            continue
        if key in given:
            raise InputError(f"{line.where}: {id_field} {key} stands in the file already")
        given[key] = verdicts
    if not given:
        raise InputError(rows.odd[0])
    words = [normal_form(verdict) for verdicts in given.values() for verdict in verdicts]
    if vocabulary is None:
        vocabulary = find_vocabulary(words, str(path), _own_vocabulary(field, words))
    else:
        check_vocabulary(vocabulary, words, str(path))
    exchanged = (False, field == _JUDGEBENCH)
    readings = {
        key: [_reading(each, vocabulary, order) for each, order in zip(verdicts, exchanged, strict=False)]
        for key, verdicts in given.items()
    }
    return Predictions(readings, vocabulary, rows.count if id_field is None else None, rows.odd)


def _reading(verdict: Any, vocabulary: str, exchanged: bool) -> Reading:
    """A verdict as a judgement; `exchanged`, it calls the answers as they were shown."""
    outcome = VOCABULARIES[vocabulary].read(normal_form(verdict))
    if outcome is None:
        return Reading(str(verdict), ParseState.FAILED, None)
    return Reading(str(verdict), ParseState.OK, _SCORES[outcome.swapped() if exchanged else outcome])


def _verdict_field(lines: Sequence[Line]) -> str:
    """The field of a file's verdicts."""
    names = {name for line in lines for name in line.record}
    results = sorted(name for name in names if name.endswith("_result"))
    if "verdict" not in names and len(results) > 1:
        raise InputError(f"{lines[0].where}: expected one field that ends in _result, found {', '.join(results)}")
    for name in (_VERDICT, *results, *_READERS, *_ONE_VERDICT):
        if name in names:
            return name
    require(lines[0], _VERDICT)
    return _VERDICT


def _own_vocabulary(field: str, words: Sequence[str]) -> str | None:
    """The vocabulary in which files with this field are published."""
    if field == _AUTO_J:
        return FROM_ZERO if set(words) <= {"0", "1", "2", ""} else None
    if field == _JUDGEBENCH:
        return "comparison"
    return "number" if field == _LLMBAR or field.endswith("_result") else None


def _one_verdict(line: Line, field: str) -> Given:
    return (require(line, field),)


def _of_judgebench(line: Line, field: str) -> Given:
    """One judgement, or two of which the second saw the answers exchanged; null where the judge failed."""
    judgements = require(line, field, list)
    if not 1 <= len(judgements) <= 2:
        raise InputError(f"{line.where}: expected one or two {field}, found {len(judgements)}")
    if any(each is not None and not isinstance(each, dict) for each in judgements):
        raise InputError(f"{line.where}: expected {field} to be objects")
    return tuple(each and each.get("decision") for each in judgements)


def _of_llmbar(line: Line, field: str) -> Given:
    """What the last step says, `swap = False` and `swap = True`; both winners are in the data's order."""
    steps = require(line, field, list)
    last = steps[-1] if steps and isinstance(steps[-1], dict) else {}
    orders = [last[name] for name in ("swap = False", "swap = True") if isinstance(last.get(name), dict)]
    if not orders:
        raise InputError(f"{line.where}: expected {field} to end in an object with 'swap = False'")
    return tuple(each.get("winner") for each in orders)


_READERS: Mapping[str, Callable[[Line, str], Given]] = {_JUDGEBENCH: _of_judgebench, _LLMBAR: _of_llmbar}


def predicted_samples(
    records: Sequence[Record], predictions: Predictions, path: Path, places: Sequence[int] = (), count: int = 0
) -> list[JudgedSample]:
    """Those records that have a prediction, as if a judge had given it, in forward order or in both.

    Verdicts without ids are those of the rows at `places` of the data's `count` rows. Raises InputError where their
    numbers differ, and where no record has a prediction.
    """
    keys = [id_key(record["question_id"]) for record in records]
    if predictions.rows is not None:
        if len(places) < len(records):
            raise InputError(f"{path}: verdicts need a question_id, as the data's samples are of several rows each")
        if predictions.rows != count:
            raise InputError(
                f"{path}: {predictions.rows} verdicts without ids, which go by row, but the data has {count} rows"
                " (--data names the file that they are of)"
            )
        keys = list(map(str, places))
    samples = [
        _sample(Line(record, path, number), key, predictions)
        for number, (key, record) in enumerate(zip(keys, records, strict=True), start=1)
        if key in predictions.readings
    ]
    if not samples:
        raise InputError(f"{path}: none of its ids is one of the data's ({', '.join(keys[:3])}, ..)")
    return samples


def _sample(line: Line, key: str, predictions: Predictions) -> JudgedSample:
    record = line.record
    forward, *back = predictions.readings[key]
    return JudgedSample(
        forward,
        back[0] if back else None,
        key=id_key(record["question_id"]),
        question=shown_question(record),
        answers=(
            shown_conversation(record, 1, record["answer1_body"]),
            shown_conversation(record, 2, record["answer2_body"]),
        ),
        models=(record.get("answer1_model_id"), record.get("answer2_model_id")),
        category=read_category(record),
        truth=read_truth(line, needed=False),
    )
