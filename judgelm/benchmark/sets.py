"""The benchmarks of judges: where each has its home, and its files -> labelled judge samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judgelm.answers import mmvet_record
from judgelm.benchmark.rows import Rows
from judgelm.benchmark.vocabularies import FROM_ZERO, VOCABULARIES, normal_form
from judgelm.errors import InputError
from judgelm.evaluation.results import find_line, read_truth
from judgelm.jsonl import (
    Line,
    Record,
    encodable,
    id_key,
    index_by_id,
    read_id,
    read_json,
    read_lines,
    read_text,
    require,
)
from judgelm.judgement import Outcome

GITHUB = "https://raw.githubusercontent.com"
_PANDALM = f"{GITHUB}/WeOpenML/PandaLM/3871806e72b4832f815ecafd24d3503c73403f48/data"
_JUDGEBENCH = f"{GITHUB}/ScalerLab/JudgeBench/e2c52c284e735e139b3daa61c206ee208f36c461/data"
_LLMBAR = f"{GITHUB}/princeton-nlp/LLMBar/900616bff90b6c6c8e1681f7d079250637c55992/Dataset/LLMBar"
_AUTO_J = f"{GITHUB}/GAIR-NLP/auto-j/2ae17a3965d933232e9cd50302aa0f176249c83b/data/test"
SHA256 = {
    f"{_PANDALM}/testset-v1.json": "cc154f9067c7382d7ea86f8f246511a5e1ac87e1fddd845c5938d789505b07a4",
    f"{_JUDGEBENCH}/dataset=judgebench,response_model=gpt-4o-2024-05-13.jsonl": (
        "d5106306b38dead1b2e964ecf5534a3e7b2fc4b8d3b8da327599edfcebd76042"
    ),
    f"{_JUDGEBENCH}/dataset=judgebench,response_model=claude-3-5-sonnet-20240620.jsonl": (
        "3b70504588e400613bf5744a20a345da8701b7150be9a30c9db0e6f3d7b70a62"
    ),
    f"{_LLMBAR}/Natural/dataset.json": "f7127b7aa78104cb8e03a2b1b3ac0077e95b125714dd441a8ee63666145a3375",
    f"{_LLMBAR}/Adversarial/Neighbor/dataset.json": "6712c7eda6342602e0bc7c06c282fa95e2110d4e741a284026a62d937f9780a0",
    f"{_LLMBAR}/Adversarial/GPTInst/dataset.json": "1002425f73c2cf54b6e6de99bce3f6c60fa2a17d13194772e37d7481c1351d42",
    f"{_LLMBAR}/Adversarial/GPTOut/dataset.json": "1ff56e520d7607750a9866a3be0f5b850392ca4477a1f69d80f32bd3e310f561",
    f"{_LLMBAR}/Adversarial/Manual/dataset.json": "0d9598769a39cdbbd265778c37e49939d41d5f76dcfb17bd75dcfa07516d3837",
    f"{_AUTO_J}/testdata_pairwise.jsonl": "56f32fad71d9b6b33bc4d51794c324981e26355bcbf3ce4908d7f8ddcc61f80e",
}
"""of what stands at an address that names a commit"""
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
    places: Sequence[int] = ()
    """of the records among all rows of the data; empty where a record is made of several rows"""
    reference: Path | None = None
    teacher: Path | None = None
    """judgements with which the published script compares"""


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a reader found."""

    parts: Sequence[Part]
    dropped: Mapping[str, int]
    """rows left out, by reason"""
    rows: int
    """of the data, those left out too"""
    odd: Sequence[str]
    """what is wrong with the rows that could not be read, each with its place"""


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


_TEXTS = ("question_body", "answer1_body", "answer2_body")


class _Records:
    """Labelled samples as they are read, row by row of one or more files."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.records: list[Record] = []
        self.places: list[int] = []
        self._ids: dict[str, str] = {}

    def read(self, path: Path, make: Callable[[Line], Record]) -> None:
        """Add what is made of each row; one that cannot be read, or has an id that is there already, is set aside."""

        def checked(line: Line) -> Record:
            record = make(line)
            key = id_key(record["question_id"])
            for name in _TEXTS:
                if not encodable(record[name]):
                    raise InputError(f"{line.where}: {name} has half a surrogate pair, which is no text")
            if key in self._ids:
                raise InputError(f"{line.where}: question_id {key} stands already in {self._ids[key]}")
            self._ids[key] = line.where
            return record

        for place, record in self.rows.read(path, checked):
            self.records.append(record)
            self.places.append(place)

    def labelled(self, dropped: Mapping[str, int]) -> Labelled:
        """One part, of the records that have a label."""
        kept = [(r, place) for r, place in zip(self.records, self.places, strict=True) if r["label"] is not None]
        part = Part("", [record for record, _ in kept], [place for _, place in kept])
        return Labelled((part,), dropped, self.rows.count, self.rows.odd)


def _read_texts(line: Line) -> dict[str, str]:
    return {name: read_text(line, name) for name in _TEXTS}


def _judgelm_val(files: Files) -> Labelled:
    """The paper's four runs: without and with the reference, each against the teacher who saw the same."""
    samples = _Records()
    teachers = {
        "without_reference": files["judgelm_val_5k_gpt4.jsonl"],
        "with_reference": files["judgelm_val_5k_gpt4_with_reference.jsonl"],
    }
    judgements = {name: index_by_id(read_lines(path)) for name, path in teachers.items()}

    def make(line: Line) -> Record:
        key, texts, labels = id_key(read_id(line)), _read_texts(line), {}
        for name, path in teachers.items():
            truth = read_truth(find_line(judgements[name], key, path, line, "judgement"))
            labels[name] = truth and LABEL_OF[truth.outcome]
        return {**line.record, **texts, "label": labels}

    samples.read(files["judgelm_val_5k.jsonl"], make)
    parts = []
    for name, path in teachers.items():
        reference = files["judgelm_val_5k_references.jsonl"] if name == "with_reference" else None
        records = [{**record, "label": record["label"][name]} for record in samples.records]
        parts.append(Part(name, records, samples.places, reference, path))
    unread = {f"teacher unparsed, {each.name}": sum(r["label"] is None for r in each.records) for each in parts}
    return Labelled(parts, unread, samples.rows.count, samples.rows.odd)


def _pandalm(files: Files) -> Labelled:
    """Three annotators, 0 tie, 1 first, 2 second."""
    found = _Records()

    def make(line: Line) -> Record:
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

    for path in files.values():
        found.read(path, make)
    return found.labelled({"no majority": _unlabelled(found.records)})


def majority(votes: Sequence[int]) -> int | None:
    """What more than half of the votes say."""
    label, count = Counter(votes).most_common(1)[0]
    return label if 2 * count > len(votes) else None


def _unlabelled(records: Iterable[Record]) -> int:
    return sum(record["label"] is None for record in records)


def _to_label(line: Line, field: str, vocabulary: str) -> int:
    if field not in line.record:
        require(line, field, str)
    value = line.record[field]
    outcome = VOCABULARIES[vocabulary].read(normal_form(value))
    if outcome is None:
        raise InputError(f"{line.where}: expected {field} to be {VOCABULARIES[vocabulary].help}, found {value!r}")
    return LABEL_OF[outcome]


def _judgebench(files: Files) -> Labelled:
    """Pairs of one model's answers, one of them right; ScalerLab/JudgeBench."""
    found = _Records()

    def make(line: Line) -> Record:
        model = line.record.get("response_model")
        return {
            "question_id": read_id(line, "pair_id"),
            "question_body": read_text(line, "question"),
            "answer1_body": read_text(line, "response_A"),
            "answer2_body": read_text(line, "response_B"),
            "answer1_model_id": model,
            "answer2_model_id": model,
            "label": _to_label(line, "label", "comparison"),
            "category": line.record.get("source"),
        }

    for path in files.values():
        found.read(path, make)
    return found.labelled({})


def _llmbar(files: Files) -> Labelled:
    """Each subset is a folder with a dataset.json; its rows have no ids, so these are subset and row."""
    found = _Records()
    for name, path in files.items():
        subset = Path(name).parent.name or path.parent.name

        def make(line: Line, subset: str = subset) -> Record:
            return {
                "question_id": f"{subset}-{line.number - 1}",
                "question_body": read_text(line, "input"),
                "answer1_body": read_text(line, "output_1"),
                "answer2_body": read_text(line, "output_2"),
                "label": _to_label(line, "label", "number"),
                "category": subset,
            }

        found.read(path, make)
    return found.labelled({})


def _autoj(files: Files) -> Labelled:
    """Labels 0 first, 1 second, 2 tie; rows have no ids, so these are the row, from 0."""
    found = _Records()

    def make(line: Line) -> Record:
        return {
            "question_id": found.rows.count - 1,
            "question_body": read_text(line, "prompt"),
            "answer1_body": read_text(line, "response 1"),
            "answer2_body": read_text(line, "response 2"),
            "label": _to_label(line, "label", FROM_ZERO),
            "category": line.record.get("scenario"),
        }

    for path in files.values():
        found.read(path, make)
    return found.labelled({})


MT_BENCH_CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
"""of the questions 81 to 160, ten each"""


def _mt_bench_human(files: Files) -> Labelled:
    """One row a vote; votes on the first turn of the same pair are counted together, whatever their order."""
    rows = Rows()
    pairs: dict[tuple[str, frozenset[str]], Record] = {}
    dropped: Counter[str] = Counter({"second turn": 0, "no majority": 0})
    for path in files.values():
        for _, vote in rows.read(path, _read_vote):
            if vote is None:
                dropped["second turn"] += 1
                continue
            models = vote["answer1_model_id"], vote["answer2_model_id"]
            pair = pairs.setdefault((vote["question"], frozenset(models)), vote)
            exchanged = pair["answer1_model_id"] != models[0]
            pair["annotators"].append({0: 0, 1: 2, 2: 1}[vote["vote"]] if exchanged else vote["vote"])
    kept = []
    for pair in pairs.values():
        label = majority(pair["annotators"])
        if label is None:
            dropped["no majority"] += 1
        else:
            kept.append({name: pair[name] for name in pair if name not in ("question", "vote")} | {"label": label})
    return Labelled((Part("", kept),), dropped, rows.count, rows.odd)


def _read_vote(line: Line) -> Record | None:
    """A pair with one vote; None for one on a later turn."""
    if read_id(line, "turn") != 1:
        return None
    question = read_id(line)
    models = [read_text(line, f"model_{side}") for side in "ab"]
    turns = [require(line, f"conversation_{side}", list) for side in "ab"]
    try:
        (asked, first), (_, second) = ([message["content"] for message in each[:2]] for each in turns)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{line.where}: a conversation has no first question and answer") from None
    texts = {"question_body": asked, "answer1_body": first, "answer2_body": second}
    texts_line = Line(texts, line.path, line.number)
    category = (question - 81) // 10 if isinstance(question, int) else -1
    return {
        "question_id": f"{question}-{models[0]}-{models[1]}",
        **{name: read_text(texts_line, name) for name in texts},
        "answer1_model_id": models[0],
        "answer2_model_id": models[1],
        "annotators": [],
        "category": MT_BENCH_CATEGORIES[category] if 0 <= category < len(MT_BENCH_CATEGORIES) else None,
        "question": id_key(question),
        "vote": _to_label(line, "winner", "letter"),
    }


def _pairs(files: Files) -> Labelled:
    """Judge samples with `label` 1 first, 2 second, 0 tie, null none.

    Where an id is missing or stands twice, the row's number, from 0, is the id, and the old one `source_id`.
    """
    found = _Records()
    ids: dict[int, Any] = {}

    def make(line: Line) -> Record:
        texts = _read_texts(line)
        if "label" not in line.record:
            require(line, "label", int)
        truth = read_truth(line)
        row = found.rows.count - 1
        ids[row] = None if line.record.get("question_id") is None else read_id(line)
        return {**line.record, **texts, "question_id": row, "label": truth and LABEL_OF[truth.outcome]}

    for path in files.values():
        found.read(path, make)
    sources = [ids[place] for place in found.places]
    own = None not in sources and len(set(map(id_key, sources))) == len(sources)
    for record, source in zip(found.records, sources, strict=True):
        record["question_id" if own else "source_id"] = source
    return found.labelled({"no label": _unlabelled(found.records)})


def _mmvet(files: Files) -> Labelled:
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
    return Labelled((Part("", records),), {}, len(entries), odd)


def _grade(value: Any, where: str) -> float:
    """From 0 to 1: a number, the mean of several runs' numbers, or of those under `score`, as GPT-4's files have it."""
    if isinstance(value, dict):
        value = value.get("score")
    numbers = value if isinstance(value, list) else [value]
    if not numbers or any(isinstance(n, bool) or not isinstance(n, int | float) or not 0 <= n <= 1 for n in numbers):
        raise InputError(f"{where}: expected grades from 0 to 1, found {value!r}")
    return float(sum(numbers) / len(numbers))


_SUBSETS = ("Natural", "Adversarial/Neighbor", "Adversarial/GPTInst", "Adversarial/GPTOut", "Adversarial/Manual")
_JUDGED_MODELS = ("gpt-4o-2024-05-13", "claude-3-5-sonnet-20240620")
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
        {"testset-v1.json": f"{_PANDALM}/testset-v1.json"},
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
            f"dataset=judgebench,response_model={model}.jsonl": f"{_JUDGEBENCH}/dataset=judgebench,"
            f"response_model={model}.jsonl"
            for model in _JUDGED_MODELS
        },
        all_needed=False,
    ),
    "llmbar": Benchmark(
        "LLMBar: instruction following, natural and adversarial pairs",
        "MIT",
        _llmbar,
        {f"{subset}/dataset.json": f"{_LLMBAR}/{subset}/dataset.json" for subset in _SUBSETS},
        all_needed=False,
    ),
    "autoj": Benchmark(
        "Auto-J's pairwise test, human labels of 58 scenarios",
        "Apache-2.0; the rows come from several public data sets",
        _autoj,
        {"testdata_pairwise.jsonl": f"{_AUTO_J}/testdata_pairwise.jsonl"},
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
