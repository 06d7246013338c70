"""Prometheus's files of answers that were graded by a rubric -> judge samples of task grade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from judgelm.benchmark.labelled import Files, Labelled, Split, check_texts
from judgelm.benchmark.rows import Rows
from judgelm.criteria import Aspect, Criteria, Scale
from judgelm.errors import InputError, encodable, in_short, one_line
from judgelm.jsonl import Line, Record, read_text, require

SCALE = Scale(1, 5)
RUBRIC = Criteria(
    "score rubric",
    (
        Aspect(
            "score rubric",
            "How well the response does by the score rubric that stands below the instruction.",
            scale=SCALE,
        ),
    ),
)
"""by which all rows are graded: the rubric is the row's own and stands in its question"""
SPLITS: Mapping[str, str] = {
    "vicuna_eval.json": "vicuna",
    "mt_bench_eval.json": "mt-bench",
    "flask_eval.json": "flask",
    "feedback_collection_ood_test.json": "feedback-bench",
}
"""files of Prometheus's repository -> the folder of each; a file of another name is a run of its own"""
FETCHED = ("vicuna_eval.json", "mt_bench_eval.json")
"""those of them whose digests are known"""
_TRUTHS = ("human_score", "orig_score", "gpt4_score")
"""fields of the grade to compare with, people's before GPT-4's; a list is of several gradings, whose mean it is"""
_CARRIED = {"source_id": "idx", "answer_model_id": "response_source", "category": "category"}
"""our fields -> theirs"""
_INSTRUCTION, _RESPONSE = "###The instruction to evaluate:\n", "\n###Response to evaluate:\n"
_REFERENCE, _RUBRICS, _FEEDBACK = "\n###Reference Answer (Score 5):\n", "\n###Score Rubrics:\n", "\n###Feedback:"
"""between the parts of what Prometheus shows a grader"""


@dataclass(frozen=True, slots=True)
class Graded:
    """What a grader was shown."""

    instruction: str
    response: str
    reference: str | None
    rubric: str


def read_sections(line: Line, field: str) -> Graded:
    """The parts of Prometheus's own prompt, which a field holds. Raises InputError for a text of another form."""
    text = read_text(line, field)
    _, begun, rest = text.partition(_INSTRUCTION)
    instruction, answered, rest = rest.partition(_RESPONSE)
    response, judged, rest = rest.partition(_RUBRICS)
    rubric, ended, _ = rest.partition(_FEEDBACK)
    if not (begun and answered and judged and ended):
        shown = one_line(text[:200])[:60]
        parts = "'###The instruction to evaluate:', '###Response to evaluate:' and '###Score Rubrics:'"
        raise InputError(f"{line.where}: expected {field} to have the parts {parts}, found {shown!r}")
    response, referred, reference = response.partition(_REFERENCE)
    shown_reference = reference.strip("\n") if referred else None
    return Graded(instruction.strip("\n"), response.strip("\n"), shown_reference, rubric.strip("\n"))


def read_rubrics(files: Files) -> Labelled:
    """A run for each file: Feedback-Bench, and the rows of Vicuna's, MT-bench's and FLASK's questions."""
    rows = Rows()
    splits = []
    for path in files.values():
        made = [each for _, each in rows.read(path, _make)]
        name = SPLITS.get(path.name, "") if len(files) > 1 else ""
        shown = [each for each in made if each[1] is not None]
        if shown:
            # they are judged in one run: all with a reference, or none
            ids = [record["question_id"] for record, reference in made if reference is None]
            rows.odd += [f"{path}:{n + 1}: has no reference answer, which other rows of the file have" for n in ids]
        references = [{"question_id": one["question_id"], "reference": {"text": text}} for one, text in shown]
        records = [record for record, _ in shown or made]
        splits.append(Split(name, records, task="grade", references=references, criteria=RUBRIC))
    return Labelled(splits, {}, rows.count, rows.odd)


def _make(line: Line) -> tuple[Record, str | None]:
    shown = _orig(line) if "orig_instruction" in line.record else read_sections(line, "instruction")
    record: Record = {
        "question_id": line.number - 1,
        "question_body": f"{shown.instruction}\n\nScore rubric:\n{shown.rubric}",
        "answer_body": shown.response,
        "score": _truth(line),
        **{ours: line.record[theirs] for ours, theirs in _CARRIED.items() if line.record.get(theirs) is not None},
    }
    check_texts(line, record)
    if not encodable(shown.reference or ""):
        raise InputError(f"{line.where}: the reference answer has half a surrogate pair, which is no text")
    return record, shown.reference


def _orig(line: Line) -> Graded:
    """Feedback-Bench's own fields."""
    rubric = [f"[{read_text(line, 'orig_criteria')}]"]
    rubric += [f"Score {n}: {read_text(line, f'orig_score{n}_description')}" for n in SCALE.scores]
    instruction, response = read_text(line, "orig_instruction"), read_text(line, "orig_response")
    return Graded(instruction, response, read_text(line, "orig_reference_answer"), "\n".join(rubric))


def _truth(line: Line) -> float:
    """From 1 to 5. Raises InputError for anything else."""
    field = next((name for name in _TRUTHS if line.record.get(name) is not None), _TRUTHS[1])
    given: Any = require(line, field)
    numbers = [_number(one) for one in (given if isinstance(given, list) else [given])]
    known = [one for one in numbers if one is not None and SCALE.least <= one <= SCALE.most]
    if not known or len(known) < len(numbers):
        found = in_short(given)
        raise InputError(f"{line.where}: expected {field} to be a grade from {SCALE}, or a list of some, found {found}")
    return sum(known) / len(known)


def _number(given: Any) -> float | None:
    """Feedback-Bench writes its grades as texts."""
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        return None
    try:
        return float(given)
    except (ValueError, OverflowError):
        return None
