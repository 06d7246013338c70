"""Benchmarks of chosen and rejected answers -> judge samples: RewardBench, RewardBench 2 and HHH.

Of a pair the chosen answer stands first or second as its id says, so that its place tells nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from judgelm.benchmark.labelled import Files, Labelled, Records, Split, check_texts
from judgelm.benchmark.rows import Rows
from judgelm.benchmark.rubrics import read_sections
from judgelm.dialogue import ASSISTANT, Turn, join_conversations, read_turns
from judgelm.errors import InputError, encodable, located, one_line
from judgelm.evaluation.readings import is_number
from judgelm.jsonl import Line, Record, read_id, read_json, read_text, require

SECTIONS: Mapping[str, Mapping[str, int]] = {
    "Chat": {
        "alpacaeval-easy": 100,
        "alpacaeval-length": 95,
        "alpacaeval-hard": 95,
        "mt-bench-easy": 28,
        "mt-bench-med": 40,
    },
    "Chat Hard": {
        "mt-bench-hard": 37,
        "llmbar-natural": 100,
        "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47,
        "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100,
        "refusals-offensive": 100,
        "xstest-should-refuse": 154,
        "xstest-should-respond": 250,
        "donotanswer": 136,
    },
    # 447 pairs of mathematics count as much as all of code
    "Reasoning": {
        "math-prm": 984,
        **dict.fromkeys((f"hep-{x}" for x in ("cpp", "go", "java", "js", "python", "rust")), 164),
    },
    "Prior Sets": dict.fromkeys(("anthropic_helpful", "anthropic_hhh", "shp", "summarize"), 1),
}
"""of RewardBench: by section each subset's weight, which is its size as published"""
PRIOR_FILES = tuple(f"{name}-00000-of-00001.parquet" for name in SECTIONS["Prior Sets"])
"""of the hub's allenai/preference-test-sets; RewardBench's own file does without them"""
SUBSETS = {subset for section in SECTIONS.values() for subset in section}
TIES = "Ties"
"""the subset of RewardBench 2 that is rated, and has a score of its own"""
WAYS = ("ratings", "pairs")
"""how the best of four is found: each answer is graded alone, or the chosen one meets each of the others"""
HHH_FILES = tuple(f"{name}/task.json" for name in ("harmless", "helpful", "honest", "other"))
"""as BIG-bench has them"""
_TIES_ID = re.compile(r"(ref|tied):([0-9]{1,9})")


def pair_record(
    key: str, asked: Mapping[str, Any], texts: tuple[str, str], models: Sequence[Any], subset: str
) -> Record:
    """A pair of a chosen and a rejected answer, in an order that its id gives. `asked` is the question."""
    chosen_first = hashlib.sha256(key.encode()).digest()[0] % 2 == 0
    sides = (1, 2) if chosen_first else (2, 1)
    record: Record = {"question_id": key, **asked}
    for side in (1, 2):
        which = sides.index(side)
        record[f"answer{side}_body"] = texts[which]
        if isinstance(models[which], str):
            record[f"answer{side}_model_id"] = models[which]
    return {**record, "label": sides[0], "category": subset}


def read_rewardbench(files: Files) -> Labelled:
    """One row a pair, of RewardBench itself and of prior sets, whose files have their subsets' names."""
    found = Records()
    for path in files.values():
        found.read(path, _rewardbench)
    return found.labelled(None)


def _rewardbench(line: Line, row: int) -> Record:
    prior = next((name for name in SECTIONS["Prior Sets"] if line.path.name.startswith(f"{name}-")), None)
    subset = prior or read_subset(line)
    texts = (read_text(line, "chosen"), read_text(line, "rejected"))
    models = [line.record.get(f"{which}_model") for which in ("chosen", "rejected")]
    key = f"{subset}-{line.number - 1}"
    if not isinstance(line.record.get("prompt"), list):
        return _with_source(line, pair_record(key, {"question_body": read_text(line, "prompt")}, texts, models, subset))
    record = pair_record(key, {"question_body": ""}, texts, models, subset)
    return _with_source(line, {**record, **_as_dialogue(line, record)})


def read_name(line: Line, field: str = "subset") -> str:
    """A subset or a category. Raises InputError for what no file can hold."""
    name = read_text(line, field)
    if not encodable(name):
        raise InputError(f"{line.where}: {field} has half a surrogate pair, which is no text")
    return name


def read_subset(line: Line) -> str:
    """One of RewardBench's; raises InputError for another."""
    subset = read_text(line, "subset")
    if subset not in SUBSETS:
        found = one_line(subset)[:60]
        raise InputError(
            f"{line.where}: expected subset to be one of RewardBench's, such as donotanswer, found {found!r}"
        )
    return subset


def _as_dialogue(line: Line, record: Record) -> Record:
    """The texts of a prompt that is a list of messages."""
    with located(line.where):
        turns = read_turns(line.record["prompt"], "prompt")
        both = ((*turns, Turn(ASSISTANT, record[f"answer{side}_body"])) for side in (1, 2))
        return join_conversations(list(both)).to_fields()


def _with_source(line: Line, record: Record) -> Record:
    """With the data's own id, which several rows may have."""
    return record if line.record.get("id") is None else {**record, "source_id": read_id(line, "id")}


def read_rewardbench2(files: Files, by: str = WAYS[0]) -> Labelled:
    """One row a prompt with several answers, of which each becomes a sample to grade; by `pairs` all rows but those of
    Ties become a pair for each rejected answer.
    """
    rows = Rows()
    pairs: list[Record] = []
    grades: list[Record] = []
    seen: set[tuple[str, int]] = set()
    for path in files.values():
        for _, made in rows.read(path, lambda line: list(_rewardbench2(line, by, seen))):
            for record in made:
                (pairs if "label" in record else grades).append(record)
    if by == "ratings":
        splits = [Split("", grades, task="grade")]
    else:
        splits = [Split("pairs", pairs, task="pair"), Split("ties", grades, task="grade")]
    return Labelled([split for split in splits if split.records], {}, rows.count, rows.odd)


def _rewardbench2(line: Line, by: str, seen: set[tuple[str, int]]) -> Iterator[Record]:
    subset, question = read_name(line), read_text(line, "prompt")
    chosen, rejected = (_texts(line, name) for name in ("chosen", "rejected"))
    source = read_id(line, "id")
    if subset == TIES:
        check_prompt(line, str(source), seen)
    if subset != TIES and len(chosen) != 1:
        raise InputError(f"{line.where}: expected one chosen answer, found {len(chosen)}")
    key = f"{subset}-{line.number - 1}"
    item = {"item": key, "source_id": source}
    if by == "pairs" and subset != TIES:
        for number, text in enumerate(rejected, start=1):
            record = pair_record(
                f"{key}-{number}", {"question_body": question}, (chosen[0], text), (None, None), subset
            )
            check_texts(line, record)
            yield {**record, **item, "answers": len(rejected)}
        return
    for number, text in enumerate((*chosen, *rejected)):
        record = {"question_id": f"{key}-{number}", "question_body": question, "answer_body": text, "category": subset}
        check_texts(line, record)
        yield {**record, **item, "chosen": number < len(chosen), "answers": len(chosen) + len(rejected)}


def _texts(line: Line, field: str) -> list[str]:
    given = require(line, field, list)
    if not given:
        raise InputError(f"{line.where}: field {field!r} must hold at least one answer")
    for number, text in enumerate(given, start=1):
        if not isinstance(text, str):
            raise InputError(f"{line.where}: field {field!r}: answer {number} must be str, found {type(text).__name__}")
    return list(given)


def find_prompt(source: str) -> tuple[str, int] | None:
    """Of a row of Ties whether one answer is right (ref) or several (tied), and the number that both have."""
    found = _TIES_ID.fullmatch(source)
    return None if found is None else (found[1], int(found[2]))


def check_prompt(line: Line, source: str, seen: set[tuple[str, int]]) -> None:
    """Raises InputError where the id of a row of Ties says no prompt, or one that was `seen`, to which it is added."""
    prompt = find_prompt(source)
    if prompt is None:
        found = one_line(source)[:60]
        raise InputError(f"{line.where}: expected the id of a row of Ties to be ref:N or tied:N, found {found!r}")
    if prompt in seen:
        raise InputError(f"{line.where}: another row of Ties has the id {source} already")
    seen.add(prompt)


def read_hhh(files: Files) -> Labelled:
    """Helpful, honest, harmless: BIG-bench's task files, or Prometheus's one file of the same pairs."""
    found = Records()
    if len({path.name for path in files.values()}) > 1:
        raise InputError(f"hhh has its pairs in one form, found all of {', '.join(map(str, files.values()))}")
    for path in files.values():
        if path.name == "task.json":
            found.read(path, _bigbench, _examples(path))
        else:
            found.read(path, _prometheus)
    return found.labelled(None)


def _examples(path: Path) -> list[Line]:
    """BIG-bench's examples, numbered from 1."""
    document = Line(read_json(path), path, 1)
    given = require(document, "examples", list)
    if not given:
        raise InputError(f"{path}: field 'examples' holds none")
    return [Line(each if isinstance(each, dict) else {}, path, number) for number, each in enumerate(given, start=1)]


def _bigbench(line: Line, row: int) -> Record:
    targets = require(line, "target_scores", dict)
    if len(targets) != 2 or {1, 0} != {one for one in targets.values() if is_number(one)}:
        found = one_line(str(list(targets.values())))[:60]
        raise InputError(f"{line.where}: expected target_scores of two answers, one 1 and one 0, found {found}")
    chosen, rejected = sorted(targets, key=lambda text: -targets[text])
    subset = line.path.parent.name
    key = f"{subset}-{line.number - 1}"
    return pair_record(key, {"question_body": read_text(line, "input")}, (chosen, rejected), (None, None), subset)


def _prometheus(line: Line, row: int) -> Record:
    both = [read_sections(line, f"{which}_instruction") for which in ("chosen", "rejected")]
    if both[0].instruction != both[1].instruction:
        raise InputError(f"{line.where}: chosen_instruction and rejected_instruction have not one question")
    subset = read_name(line, "source")
    key = f"{subset}-{line.number - 1}"
    return pair_record(
        key, {"question_body": both[0].instruction}, (both[0].response, both[1].response), (None, None), subset
    )
