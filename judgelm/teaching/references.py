"""References: read from a file, or written by a model that is asked the bare questions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from judgelm.errors import InputError
from judgelm.files import PathLike
from judgelm.jsonl import Line, LineFile, Record, index_by_id, read_reference, read_text
from judgelm.judge.folder import judge_folder
from judgelm.judge.kept import keep_questions
from judgelm.judge.settings import JudgeSettings
from judgelm.prompt_template import PromptTemplate
from judgelm.samples import read_samples
from judgelm.score_lines import leading_thoughts
from judgelm.teaching.questions import Question

if TYPE_CHECKING:
    from judgelm.judge.choice import JudgeChoice

QUESTION = PromptTemplate(
    "{% for turn in dialogue %}{{ turn.role }}: {{ turn.text }}\n\n{% endfor %}{{ question }}{{ answer }}",
    "the prompt of references",
)
"""nothing but the question, and what was said before it: there is no answer yet"""


@dataclass(frozen=True, slots=True)
class References:
    """A good answer to each question, as far as there is one."""

    texts: Mapping[str, Record]
    """by the question's key: `text`, and maybe `model` and `decoding_method`"""
    name: str
    """of the file, or of the model"""
    source: str = "file"
    """or model"""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """why how many questions have none"""
    tokens: tuple[int, int] = (0, 0)
    """of prompts, and generated"""
    prices: tuple[float, float] | None = None
    """of a million of each"""


def read_references(path: PathLike, questions: Sequence[Question]) -> References:
    """Of a file of references (question_id, reference), or of answers (question_id, text), such as a model's.

    One holds for all questions in the same words: of which several answers were collected, that has several ids.

    Raises InputError for a double id, a row that is neither, and where none is of these questions.
    """
    lines = index_by_id(LineFile(path))
    found = {each.key: _reference(lines[each.key]) for each in questions if each.key in lines}
    texts = _shared({key: reference for key, reference in found.items() if reference["text"].strip()}, questions)
    if not texts:
        raise InputError(f"{path}: there is no reference for any of the {len(questions)} questions")
    without = [each.key for each in questions if each.key not in texts]
    left_out = Counter("empty" if key in found else "missing" for key in without)
    return References(texts, Path(path).name, "file", left_out)


def _shared(texts: Mapping[str, Record], questions: Sequence[Question]) -> dict[str, Record]:
    """The references of questions, and of all others that ask the same."""
    by_text = {each.whole: texts[each.key] for each in reversed(questions) if each.key in texts}
    shared = {each.key: by_text[each.whole] for each in questions if each.whole in by_text}
    return {key: texts.get(key, reference) for key, reference in shared.items()}


def _reference(line: Line) -> Record:
    record = line.record
    if "reference" in record:
        text = read_reference(line)
        return {**record["reference"], "text": text}
    text = read_text(line, "text")
    more = {name: record[name] for name in ("model", "decoding_method") if record.get(name) is not None}
    return {"text": text[leading_thoughts(text) :], **more}


def write_references(
    questions: Sequence[Question], folder: Path, writer: JudgeChoice, judging: JudgeSettings, keep_judged: bool
) -> References:
    """Have a model answer the questions, each once, however many ids it has; what is there already is not asked again.

    It is run as a judge is, with a prompt that is the question alone: so its folder has the same files. An answer that
    was refused, is empty, or did not come to its end is no reference. Raises InputError where none is left.
    """
    path, alike = folder / "questions.jsonl", defaultdict[str, list[Question]](list)
    for each in questions:
        alike[each.whole].append(each)
    num_alike = {each.key: len(others) for each, *others in alike.values()}
    asked = [
        {"question_id": each.key, "question_body": each.text, "answer_body": "", **each.carried}
        for each, *_ in alike.values()
    ]
    keep_questions(path, asked, keep_judged, "holds other questions")
    settings = replace(
        judging, task="grade", scores_only=False, scoring="sample", criteria=None, prompt_template=QUESTION
    )
    settings = replace(settings, temperature=judging.temperature if judging.scoring == "sample" else 0.0)
    found = judge_folder(read_samples(path, "grade"), folder, writer, settings, keep_judged=keep_judged)["forward"]
    method = f"temperature {settings.temperature:g}" if settings.temperature else "greedy"
    texts: dict[str, Record] = {}
    left_out: Counter[str] = Counter()
    for line in found.lines:
        text, reason = str(line.record["pred_text"]), line.record["pred_finish_reason"]
        text, key = text[leading_thoughts(text) :].strip(), str(line.record["question_id"])
        if text and reason == "stop":
            texts[key] = {"text": text, "model": writer.model_id, "decoding_method": method}
        else:
            left_out["cut" if reason == "length" else "empty" if reason == "stop" else reason] += 1 + num_alike[key]
    if not texts:
        why = ", ".join(f"{reason}: {count}" for reason, count in left_out.items())
        raise InputError(f"{writer.name} wrote no reference that can be used ({why}); see {found.path}")
    tokens = found.counts["prompt_tokens"], found.counts["generated_tokens"]
    return References(_shared(texts, questions), writer.model_id, "model", left_out, tokens, writer.prices)
