"""Folders judged with criteria, and folders of grades, as a judge writes them: no model is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conftest import write_jsonl

from judgelm.criteria import PUBLISHED, Aspect, Criteria, Scale
from judgelm.distribution import Distribution, score_lines
from judgelm.engine.interface import Generation
from judgelm.jsonl import Line
from judgelm.judge.judged import Judged, Likelihood
from judgelm.judge.settings import Order
from judgelm.judgement import Judgement
from judgelm.sample import Sample

Said = Mapping[str, str]
"""by aspect what the judge writes, of the answers in the file's order"""


def criteria(scale: Scale = PUBLISHED, **weights: float) -> Criteria:
    """Aspects of these weights."""
    return Criteria("test", tuple(Aspect(name, "what it means", weight, (), scale) for name, weight in weights.items()))


def judged(
    sample: Sample, by: Criteria | None, said: Said | str, order: Order = "forward", task: str = "pair"
) -> dict[str, Any]:
    """A judge's record of answers that it saw in this order; texts are of the answers as it saw them."""
    seen = sample.swapped() if order == "reversed" else sample
    if by is None:
        assert isinstance(said, str)
        return _one(seen, said, order, task, None).to_record()
    assert not isinstance(said, str)
    parts = [_one(seen, said[aspect.name], order, task, by.scale) for aspect in by.aspects if aspect.name in said]
    asked = Criteria(by.name, tuple(aspect for aspect in by.aspects if aspect.name in said))
    return Judged.by_criteria(asked, parts).to_record()


def _one(sample: Sample, text: str, order: Order, task: str, scale: Scale | None) -> Judged:
    count = len(sample.answers)
    judgement = Judgement.parse(text, count) if scale is None else Judgement.parse(text, count, scale)
    return Judged(sample, order, task, judgement, Generation(sample.key, text, 9, 3, "stop"), None)


def expected(
    sample: Sample, by: Criteria, order: Order = "forward", task: str = "pair", lead: float = 0.1
) -> dict[str, Any]:
    """The same with scoring `expected`: each aspect surer that the last answer is good."""
    seen = sample.swapped() if order == "reversed" else sample
    lines = score_lines(num_answers=len(seen.answers), scale=by.scale)
    parts = []
    for place, aspect in enumerate(by.aspects):
        found = Distribution.from_log_probs(lines, [lead * (place + 1) * line[-1] - 9 for line in lines])
        judgement = Judgement.parse(" ".join(map(str, lines[-1])), len(seen.answers), aspect.scale)
        generation = Generation(seen.key, judgement.text, 9, 3, "stop")
        parts.append(Judged(seen, order, task, judgement, generation, None, Likelihood.of(found)))
    return Judged.by_criteria(by, parts).to_record()


def pair(key: int, **more: Any) -> Sample:
    """Two answers."""
    record = {"question_id": key, "question_body": f"Question {key}?", "answer1_body": "one", "answer2_body": "two"}
    return Sample.from_record(record | more)


def graded(key: int | str, model: str = "m", question: int | str | None = None, **more: Any) -> Sample:
    """One answer of a model."""
    asked = key if question is None else question
    record = {"question_id": key, "question_body": f"Question {asked}?", "answer_body": "text"}
    return Sample.from_graded_line(Line(record | {"answer_model_id": model} | more, Path("rows"), 1))


def grade_folder(folder: Path, by: Criteria | None, rows: Sequence[tuple[Sample, Said | str]]) -> Path:
    """What judging with task grade leaves."""
    write_jsonl(folder / "forward.jsonl", [judged(sample, by, said, task="grade") for sample, said in rows])
    return folder


def pair_folder(folder: Path, by: Criteria, rows: Sequence[tuple[Sample, Said, Said | None]]) -> Path:
    """What judging pairs leaves: what is said in forward order and, with the answers exchanged, in reversed order."""
    write_jsonl(folder / "forward.jsonl", [judged(sample, by, said) for sample, said, _ in rows])
    back = [judged(sample, by, said, "reversed") for sample, _, said in rows if said is not None]
    if back:
        write_jsonl(folder / "reversed.jsonl", back)
    return folder


def said(*texts: str, names: Sequence[str] = ("Depth", "Style")) -> dict[str, str]:
    """By aspect."""
    return dict(zip(names[: len(texts)], texts, strict=True))
