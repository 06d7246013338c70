"""The benchmarks of judges: where each has its home, and its files -> labelled judge samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judgelm.jsonl import InputError, Line, Record, check_ids, id_key, index_by_id, read_json, read_lines, require
from judgelm.llm_judge.judged import find_line, read_truth
from judgelm.llm_judge.row_files import read_rows
from judgelm.preprocess import combine_mmvet
from judgelm.verdict import Outcome

GITHUB = "https://raw.githubusercontent.com"
HUB = "https://huggingface.co"
LABEL_OF = {Outcome.WIN: 1, Outcome.LOSE: 2, Outcome.TIE: 0}
ANSWERS, GRADES = "answers", "grades"
"""files that the user gives beside MM-Vet's own"""
Files = Mapping[str, Path]
"""a benchmark's files by name"""


@dataclass(frozen=True, slots=True)
class Part:
    """Samples that are judged in one run, each with its label: 1 first, 2 second, 0 tie."""

    name: str
    """its folder; empty where the benchmark is one run"""
    records: Sequence[Record]
    reference: Path | None = None
    teacher: Path | None = None
    """judgements with which the published script compares"""


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a reader found."""

    parts: Sequence[Part]
    dropped: Mapping[str, int]
    """rows left out, by reason"""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark, its files' public addresses, and what reads them."""

    title: str
    licence: str
    """of the data, as far as its authors state one; the project ships none of it"""
    read: Callable[[Files], Labelled]
    homes: Mapping[str, str]
    """file name -> address; empty where the user brings the file"""
    task: str = "pair"
    all_needed: bool = True
    """whether a folder must hold all files, or any of them will do"""


def _judgelm_val(files: Files) -> Labelled:
    """The paper's four runs: without and with the reference, each against the teacher who saw the same."""
    samples = list(check_ids(read_lines(files["judgelm_val_5k.jsonl"])))
    without, with_reference = files["judgelm_val_5k_gpt4.jsonl"], files["judgelm_val_5k_gpt4_with_reference.jsonl"]
    references = files["judgelm_val_5k_references.jsonl"]
    parts = (
        Part("without_reference", _label_by_teacher(samples, without), None, without),
        Part("with_reference", _label_by_teacher(samples, with_reference), references, with_reference),
    )
    unread = {f"teacher unparsed, {each.name}": sum(r["label"] is None for r in each.records) for each in parts}
    return Labelled(parts, unread)


def _label_by_teacher(samples: Sequence[Line], teacher: Path) -> list[Record]:
    judgements = index_by_id(read_lines(teacher))
    records = []
    for line in samples:
        truth = read_truth(find_line(judgements, id_key(line.record["question_id"]), teacher, line, "judgement"))
        records.append({**line.record, "label": truth and LABEL_OF[truth.outcome]})
    return records


def _pandalm(files: Files) -> Labelled:
    """Three annotators, 0 tie, 1 first, 2 second."""
    (path,) = files.values()
    labelled, split = [], 0
    for line in read_rows(path):
        votes = [_to_label(line, f"annotator{k}", {"0": 0, "1": 1, "2": 2}) for k in (1, 2, 3)]
        instruction, more = require(line, "instruction", str), line.record.get("input") or ""
        record = {
            "question_id": require(line, "idx", (int, str)),
            "question_body": f"{instruction}\n{more}" if more else instruction,
            "answer1_body": require(line, "response1", str),
            "answer2_body": require(line, "response2", str),
            "annotators": votes,
            "category": line.record.get("motivation_app"),
        }
        label = majority(votes)
        split += label is None
        labelled.append({**record, "label": label})
    return _one_part(labelled, {"no majority": split})


def majority(votes: Sequence[int]) -> int | None:
    """What more than half of the votes say."""
    label, count = Counter(votes).most_common(1)[0]
    return label if 2 * count > len(votes) else None


def _one_part(records: Sequence[Record], dropped: Mapping[str, int]) -> Labelled:
    return Labelled((Part("", [record for record in records if record["label"] is not None]),), dropped)


def _to_label(line: Line, field: str, labels: Mapping[str, int]) -> int:
    value = require(line, field, (int, str))
    if str(value) not in labels:
        raise InputError(f"{line.where}: expected {field} {', '.join(labels)}, found {value!r}")
    return labels[str(value)]


def _judgebench(files: Files) -> Labelled:
    """Pairs of one model's answers, one of them right; ScalerLab/JudgeBench."""
    records = []
    for path in files.values():
        for line in read_rows(path):
            model = line.record.get("response_model")
            records.append(
                {
                    "question_id": require(line, "pair_id", (int, str)),
                    "question_body": require(line, "question", str),
                    "answer1_body": require(line, "response_A", str),
                    "answer2_body": require(line, "response_B", str),
                    "answer1_model_id": model,
                    "answer2_model_id": model,
                    "label": _to_label(line, "label", {"A>B": 1, "B>A": 2, "A=B": 0}),
                    "category": line.record.get("source"),
                }
            )
    return _one_part(records, {})


def _llmbar(files: Files) -> Labelled:
    """Each subset is a folder with a dataset.json; its rows have no ids, so these are subset and row."""
    records = []
    for name, path in files.items():
        subset = Path(name).parent.name or path.parent.name
        for line in read_rows(path):
            records.append(
                {
                    "question_id": f"{subset}-{line.number - 1}",
                    "question_body": require(line, "input", str),
                    "answer1_body": require(line, "output_1", str),
                    "answer2_body": require(line, "output_2", str),
                    "label": _to_label(line, "label", {"1": 1, "2": 2}),
                    "category": subset,
                }
            )
    return _one_part(records, {})


def _autoj(files: Files) -> Labelled:
    """Labels 0 first, 1 second, 2 tie; rows have no ids, so these are the row, from 0."""
    (path,) = files.values()
    records = [
        {
            "question_id": number,
            "question_body": require(line, "prompt", str),
            "answer1_body": require(line, "response 1", str),
            "answer2_body": require(line, "response 2", str),
            "label": _to_label(line, "label", {"0": 1, "1": 2, "2": 0}),
            "category": line.record.get("scenario"),
        }
        for number, line in enumerate(read_rows(path))
    ]
    return _one_part(records, {})


MT_BENCH_CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
"""of the questions 81 to 160, ten each"""


def _mt_bench_human(files: Files) -> Labelled:
    """One row a vote; votes on the first turn of the same pair are counted together, whatever their order."""
    (path,) = files.values()
    pairs: dict[tuple[Any, frozenset[str]], Record] = {}
    dropped: Counter[str] = Counter({"second turn": 0, "no majority": 0})
    for line in read_rows(path):
        if require(line, "turn", int) != 1:
            dropped["second turn"] += 1
            continue
        question = require(line, "question_id", (int, str))
        models = [require(line, f"model_{side}", str) for side in "ab"]
        vote = _to_label(line, "winner", {"model_a": 1, "model_b": 2, "tie": 0, "tie (inconsistent)": 0})
        pair = pairs.setdefault((question, frozenset(models)), _mt_bench_pair(line, question, models))
        exchanged = pair["answer1_model_id"] != models[0]
        pair["annotators"].append({0: 0, 1: 2, 2: 1}[vote] if exchanged else vote)
    for pair in pairs.values():
        pair["label"] = majority(pair["annotators"])
        dropped["no majority"] += pair["label"] is None
    return _one_part(list(pairs.values()), dropped)


def _mt_bench_pair(line: Line, question: int | str, models: Sequence[str]) -> Record:
    turns = [require(line, f"conversation_{side}", list) for side in "ab"]
    try:
        (asked, first), (_, second) = ([message["content"] for message in each[:2]] for each in turns)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{line.where}: a conversation has no first question and answer") from None
    category = (question - 81) // 10 if isinstance(question, int) else -1
    return {
        "question_id": f"{question}-{models[0]}-{models[1]}",
        "question_body": asked,
        "answer1_body": first,
        "answer2_body": second,
        "answer1_model_id": models[0],
        "answer2_model_id": models[1],
        "annotators": [],
        "category": MT_BENCH_CATEGORIES[category] if 0 <= category < len(MT_BENCH_CATEGORIES) else None,
    }


def _pairs(files: Files) -> Labelled:
    """Judge samples with `label` 1 first, 2 second, 0 tie, null none.

    Where an id is missing or stands twice, the row's number, from 0, is the id, and the old one `source_id`.
    """
    (path,) = files.values()
    lines = read_rows(path)
    ids = [line.record.get("question_id") for line in lines]
    own = None not in ids and len({id_key(each) for each in ids if each is not None}) == len(ids)
    records = []
    for number, line in enumerate(lines):
        for field in ("question_body", "answer1_body", "answer2_body"):
            require(line, field, str)
        if "label" not in line.record:
            require(line, "label", int)
        truth = read_truth(line)
        ids_of_row = {} if own else {"question_id": number, "source_id": ids[number]}
        records.append({**line.record, **ids_of_row, "label": truth and LABEL_OF[truth.outcome]})
    return _one_part(records, {"no label": sum(record["label"] is None for record in records)})


def _mmvet(files: Files) -> Labelled:
    """The ground truth and a vision model's answers; with grades of others beside each where there are."""
    truth = files["mm-vet.json"]
    if ANSWERS not in files:
        raise InputError("mm-vet judges a vision model's answers: --answers FILE names them")
    grades = read_json(files[GRADES]) if GRADES in files else {}
    records = []
    for name, record in zip(read_json(truth), combine_mmvet(truth, files[ANSWERS]), strict=True):
        grade = _grade(grades[name], f"{files[GRADES]}: {name}") if name in grades else None
        category = "+".join(sorted(record.get("capability") or ())) or None
        records.append({**record, "mmvet_id": name, "grade": grade, "category": category})
    return Labelled((Part("", records),), {})


def _grade(value: Any, where: str) -> float:
    """From 0 to 1: a number, the mean of several runs' numbers, or of those under `score`, as GPT-4's files have it."""
    if isinstance(value, dict):
        value = value.get("score")
    numbers = value if isinstance(value, list) else [value]
    if not numbers or any(isinstance(n, bool) or not isinstance(n, int | float) or not 0 <= n <= 1 for n in numbers):
        raise InputError(f"{where}: expected grades from 0 to 1, found {value!r}")
    return float(sum(numbers) / len(numbers))


_LLMBAR = ("Natural", "Adversarial/Neighbor", "Adversarial/GPTInst", "Adversarial/GPTOut", "Adversarial/Manual")
_JUDGEBENCH = ("gpt-4o-2024-05-13", "claude-3-5-sonnet-20240620")
_VAL = ("", "_gpt4", "_gpt4_with_reference", "_references")
BENCHMARKS = {
    "judgelm-val": Benchmark(
        "the JudgeLM paper's validation set, judged by GPT-4",
        "CC BY-NC 4.0",
        _judgelm_val,
        {
            f"judgelm_val_5k{n}.jsonl": f"{HUB}/datasets/BAAI/JudgeLM-100K/resolve/main/judgelm_val_5k{n}.jsonl"
            for n in _VAL
        },
    ),
    "pandalm": Benchmark(
        "PandaLM's test set, majority of three annotators",
        "Apache-2.0",
        _pandalm,
        {"testset-v1.json": f"{GITHUB}/WeOpenML/PandaLM/main/data/testset-v1.json"},
    ),
    "mm-vet": Benchmark(
        "MM-Vet: a vision model's answers against the ground truth",
        "CC BY-NC 4.0",
        _mmvet,
        {"mm-vet.json": "https://github.com/yuweihao/MM-Vet/releases/download/v1/mm-vet.zip"},
        task="mmvet",
    ),
    "judgebench": Benchmark(
        "JudgeBench: pairs of which one is objectively right",
        "MIT",
        _judgebench,
        {
            f"dataset=judgebench,response_model={model}.jsonl": f"{GITHUB}/ScalerLab/JudgeBench/main/data/"
            f"dataset=judgebench,response_model={model}.jsonl"
            for model in _JUDGEBENCH
        },
        all_needed=False,
    ),
    "llmbar": Benchmark(
        "LLMBar: instruction following, natural and adversarial pairs",
        "MIT",
        _llmbar,
        {f"{s}/dataset.json": f"{GITHUB}/princeton-nlp/LLMBar/main/Dataset/LLMBar/{s}/dataset.json" for s in _LLMBAR},
        all_needed=False,
    ),
    "autoj": Benchmark(
        "Auto-J's pairwise test, human labels of 58 scenarios",
        "Apache-2.0; the rows come from several public data sets",
        _autoj,
        {"testdata_pairwise.jsonl": f"{GITHUB}/GAIR-NLP/auto-j/main/data/test/testdata_pairwise.jsonl"},
    ),
    "mt-bench-human": Benchmark(
        "MT-bench's human votes, first turn, majority of a pair's voters",
        "CC BY 4.0",
        _mt_bench_human,
        {
            "human.parquet": f"{HUB}/datasets/lmsys/mt_bench_human_judgments/resolve/main/data/"
            "human-00000-of-00001-25f4910818759289.parquet"
        },
    ),
    "pairs": Benchmark("any labelled pairs, JSON Lines", "that of your file", _pairs, {}),
}
