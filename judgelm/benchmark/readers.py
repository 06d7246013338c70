"""A benchmark's files -> labelled judge samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from judgelm.answers import mmvet_record
from judgelm.benchmark.labelled import Files, Labelled, Records, Split, read_texts
from judgelm.benchmark.rows import Rows
from judgelm.dialogue import join_conversations, read_turns
from judgelm.errors import InputError, located
from judgelm.evaluation.readings import is_number
from judgelm.evaluation.results import find_line, read_truth
from judgelm.jsonl import (
    Line,
    Record,
    id_key,
    index_by_id,
    read_id,
    read_json,
    read_lines,
    read_text,
    require,
)
from judgelm.judgement import LABEL_OF
from judgelm.vocabularies import FROM_ZERO, VOCABULARIES, normal_form

ANSWERS, GRADES = "answers", "grades"
"""files that the user gives beside MM-Vet's own"""


def read_judgelm_val(files: Files) -> Labelled:
    """The paper's four runs: without and with the reference, each against the teacher who saw the same."""
    samples = Records()
    teachers = {
        "without_reference": files["judgelm_val_5k_gpt4.jsonl"],
        "with_reference": files["judgelm_val_5k_gpt4_with_reference.jsonl"],
    }
    judgements = {name: index_by_id(read_lines(path)) for name, path in teachers.items()}

    def make(line: Line, row: int) -> Record:
        key, texts, labels = id_key(read_id(line)), read_texts(line), {}
        for name, path in teachers.items():
            truth = read_truth(find_line(judgements[name], key, path, line, "judgement"))
            labels[name] = truth and LABEL_OF[truth.outcome]
        return {**line.record, **texts, "label": labels}

    samples.read(files["judgelm_val_5k.jsonl"], make)
    splits = []
    for name, path in teachers.items():
        reference = files["judgelm_val_5k_references.jsonl"] if name == "with_reference" else None
        records = [{**record, "label": record["label"][name]} for record in samples.records]
        splits.append(Split(name, records, samples.places, reference, path))
    unread = {f"teacher unparsed, {each.name}": sum(r["label"] is None for r in each.records) for each in splits}
    return Labelled(splits, unread, samples.rows.count, samples.rows.odd)


def pandalm(line: Line, row: int) -> Record:
    """Three annotators, 0 tie, 1 first, 2 second."""
    votes = [_to_label(line, f"annotator{k}", "number") for k in (1, 2, 3)]
    instruction = read_text(line, "instruction")
    more = "" if line.record.get("input") is None else read_text(line, "input")
    return {
        "question_id": read_id(line, "idx"),
        "question_body": f"{instruction}\n{more}" if more else instruction,
        "answer1_body": read_text(line, "response1"),
        "answer2_body": read_text(line, "response2"),
        "annotators": votes,
        "category": line.record.get("motivation_app"),
        "label": majority(votes),
    }


def majority(votes: Sequence[int]) -> int | None:
    """What more than half of the votes say."""
    label, count = Counter(votes).most_common(1)[0]
    return label if 2 * count > len(votes) else None


def _to_label(line: Line, field: str, vocabulary: str) -> int:
    value = require(line, field)
    outcome = VOCABULARIES[vocabulary].read(normal_form(value))
    if outcome is None:
        raise InputError(f"{line.where}: expected {field} to be {VOCABULARIES[vocabulary].help}, found {value!r}")
    return LABEL_OF[outcome]


def judgebench(line: Line, row: int) -> Record:
    """Pairs of one model's answers, one of them right; ScalerLab/JudgeBench."""
    model = line.record.get("response_model")
    return {
        "question_id": read_id(line, "pair_id"),
        **read_texts(line, "question", "response_A", "response_B"),
        "answer1_model_id": model,
        "answer2_model_id": model,
        "label": _to_label(line, "label", "comparison"),
        "category": line.record.get("source"),
    }


def llmbar(line: Line, row: int) -> Record:
    """Each subset is a folder with a dataset.json; its rows have no ids, so these are subset and row."""
    subset = line.path.parent.name
    return {
        "question_id": f"{subset}-{line.number - 1}",
        **read_texts(line, "input", "output_1", "output_2"),
        "label": _to_label(line, "label", "number"),
        "category": subset,
    }


def autoj(line: Line, row: int) -> Record:
    """Labels 0 first, 1 second, 2 tie; rows have no ids, so these are the row, from 0."""
    return {
        "question_id": row,
        **read_texts(line, "prompt", "response 1", "response 2"),
        "label": _to_label(line, "label", FROM_ZERO),
        "category": line.record.get("scenario"),
    }


MT_BENCH_CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
"""of the questions 81 to 160, ten each"""
TURNS: Mapping[str, Sequence[int]] = {"1": (1,), "2": (2,), "both": (1, 2)}
"""turns of MT-bench that can be asked for"""
_LEFT_OUT: Mapping[tuple[int, ...], str] = {(1,): "second turn", (2,): "first turn"}


def read_mt_bench_human(files: Files, turns: Sequence[int] = TURNS["1"]) -> Labelled:
    """One row a vote; votes on the same turn of the same pair are counted together, whatever their order."""
    rows = Rows()
    pairs: dict[tuple[str, int, frozenset[str]], Record] = {}
    other = _LEFT_OUT.get(tuple(turns), "other turn")
    dropped: Counter[str] = Counter({other: 0, "no majority": 0})
    for path in files.values():
        for _, vote in rows.read(path, lambda line: _read_vote(line, turns)):
            if vote is None:
                dropped[other] += 1
                continue
            models = vote["answer1_model_id"], vote["answer2_model_id"]
            pair = pairs.setdefault((vote["question"], vote.get("turn", 1), frozenset(models)), vote)
            exchanged = pair["answer1_model_id"] != models[0]
            pair["annotators"].append({0: 0, 1: 2, 2: 1}[vote["vote"]] if exchanged else vote["vote"])
    kept = []
    for pair in pairs.values():
        label = majority(pair["annotators"])
        if label is None:
            dropped["no majority"] += 1
        else:
            kept.append({name: pair[name] for name in pair if name not in ("question", "vote")} | {"label": label})
    return Labelled((Split("", kept),), dropped, rows.count, rows.odd)


def _read_vote(line: Line, turns: Sequence[int]) -> Record | None:
    """A pair with one vote; None for one on another turn."""
    if (turn := read_id(line, "turn")) not in turns:
        return None
    question = read_id(line)
    models = [read_text(line, f"model_{side}") for side in "ab"]
    category = (question - 81) // 10 if isinstance(question, int) else -1
    return {
        "question_id": f"{question}-{models[0]}-{models[1]}" + (f"-turn{turn}" if turn != 1 else ""),
        **(_first_turns(line) if turn == 1 else {**_later_turns(line, int(turn)), "turn": turn}),
        "answer1_model_id": models[0],
        "answer2_model_id": models[1],
        "annotators": [],
        "category": MT_BENCH_CATEGORIES[category] if 0 <= category < len(MT_BENCH_CATEGORIES) else None,
        "question": id_key(question),
        "vote": _to_label(line, "winner", "letter"),
    }


def _first_turns(line: Line) -> Record:
    turns = [require(line, f"conversation_{side}", list) for side in "ab"]
    try:
        (asked, first), (_, second) = ([message["content"] for message in each[:2]] for each in turns)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{line.where}: a conversation has no first question and answer") from None
    texts = {"question_body": asked, "answer1_body": first, "answer2_body": second}
    return read_texts(line._replace(record=texts))


def _later_turns(line: Line, turn: int) -> Record:
    """Both conversations up to the reply of this turn."""
    names = [f"conversation_{side}" for side in "ab"]
    with located(line.where):
        both = [read_turns(line.record.get(name), name)[: 2 * turn] for name in names]
        if any(len(turns) < 2 * turn for turns in both):
            raise ValueError(f"a conversation has no {2 * turn} messages, and turn {turn} no answer")
        return join_conversations(both).to_fields()


def read_pairs(files: Files) -> Labelled:
    """Judge samples with `label` 1 first, 2 second, 0 tie, null none.

    Where an id is missing or stands twice, the row's number, from 0, is the id, and the old one `source_id`.
    """
    found = Records()
    ids: dict[int, Any] = {}

    def make(line: Line, row: int) -> Record:
        texts = read_texts(line)
        require(line, "label")
        truth = read_truth(line)
        ids[row] = None if line.record.get("question_id") is None else read_id(line)
        return {**line.record, **texts, "question_id": row, "label": truth and LABEL_OF[truth.outcome]}

    for path in files.values():
        found.read(path, make)
    sources = [ids[place] for place in found.places]
    own = None not in sources and len(set(map(id_key, sources))) == len(sources)
    for record, source in zip(found.records, sources, strict=True):
        record["question_id" if own else "source_id"] = source
    return found.labelled("no label")


def read_mmvet(files: Files) -> Labelled:
    """The ground truth and a vision model's answers; with grades of others beside each where there are."""
    truth = files["mm-vet.json"]
    if ANSWERS not in files:
        raise InputError("mm-vet judges a vision model's answers: --answers FILE names them")
    entries, answers = read_json(truth, finite=True), read_json(files[ANSWERS], finite=True)
    grades = read_json(files[GRADES]) if GRADES in files else {}
    records, odd = [], []
    for number, name in enumerate(entries):
        try:
            record = mmvet_record(number, name, entries, answers, (truth, files[ANSWERS]))
            grade = _grade(grades[name], f"{files[GRADES]}: {name}") if name in grades else None
        except InputError as error:
            odd.append(str(error))
            continue
        capabilities = record["capability"] if isinstance(record.get("capability"), list) else []
        category = "+".join(sorted(map(str, capabilities))) or None
        records.append({**record, "mmvet_id": name, "grade": grade, "category": category})
    if odd and not records:
        raise InputError(odd[0])
    return Labelled((Split("", records),), {}, len(entries), odd)


def _grade(value: Any, where: str) -> float:
    """From 0 to 1: a number, the mean of several runs' numbers, or of those under `score`, as GPT-4's files have it."""
    if isinstance(value, dict):
        value = value.get("score")
    numbers = value if isinstance(value, list) else [value]
    if not numbers or not all(is_number(number) and 0 <= number <= 1 for number in numbers):
        raise InputError(f"{where}: expected grades from 0 to 1, found {value!r}")
    return float(sum(numbers) / len(numbers))
