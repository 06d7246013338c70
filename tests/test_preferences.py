"""Judged folders as preference pairs for other trainers: of answers, and of the judge's own texts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import build_model, train_byte_tokenizer, write_jsonl
from judging import FakeEngine, run_command

from judgelm import Judge
from judgelm.distribution import line_text, score_lines
from judgelm.engine.interface import Generation, LineScores
from judgelm.errors import InputError
from judgelm.jsonl import LineFile, read_json
from judgelm.judge import JudgeChoice, JudgeSettings, judge_folder
from judgelm.preferences import prefer_answers, prefer_texts
from judgelm.prompt import RESPONSE, render_prompt
from judgelm.sample import Sample
from judgelm.samples import read_samples
from judgelm.train.encoder import ExampleEncoder
from judgelm.train.preferences import PreferenceRows

CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
Said = Mapping[str, tuple[str, str]]
"""by question_id what the judge writes in forward and in reversed order"""


class Speaking(FakeEngine):
    """Writes what it is told to, in each order; or finds the line of these scores likeliest."""

    def __init__(self, said: Said, likely: float = 0.7) -> None:
        self.said, self.likely = said, likely
        self.block = 64

    def _text(self, request: Any) -> str:
        return self.said[request.seed_key][request.key.startswith("reversed")]

    def generate(self, requests: Any, sampling: Any, *, done: Any = (), on_text: Any = None) -> Any:
        for request in requests:
            yield Generation(request.key, self._text(request), 9, 3, "stop")

    def score(self, requests: Any, lines: Sequence[str]) -> Any:
        rest = math.log((1 - self.likely) / (len(lines) - 1))
        for request in requests:
            wanted = line_text(tuple(map(int, self._text(request).split("\n")[0].split())))
            log_probs = tuple(math.log(self.likely) if line == wanted else rest for line in lines)
            yield LineScores(request.key, log_probs, 9)


def judged(folder: Path, rows: list[dict[str, Any]], said: Said, name: str = "out", seed: int = 0, **more: Any) -> Path:
    """A folder judged by a judge that says this; `more` are settings of the judge, of judging, or the orders."""
    questions = write_jsonl(folder / f"{name}.questions.jsonl", rows)
    kept = {key: more.pop(key) for key in ("described", "prompt_format") if key in more}
    choice = JudgeChoice(
        "scripted",
        lambda: Judge(Speaking(said)),
        kept.get("described", {}),
        prompt_format=kept.get("prompt_format", "plain"),
    )
    orders = more.pop("orders", "both")
    references = more.pop("references", None)
    samples = read_samples(questions, reference_file=references)
    judge_folder(samples, folder / name, choice, JudgeSettings(seed=seed, **more), orders=orders)
    return folder / name


def row(question_id: int, first: str = "yes", second: str = "no", **more: Any) -> dict[str, Any]:
    record = {"question_id": question_id, "question_body": f"Q{question_id}?", "answer1_body": first}
    return {**record, "answer2_body": second, **more}


ROWS = [
    row(1),
    row(2),
    row(3),
    row(4),
    row(5, second=" \n"),
    row(6, second="yes"),
    row(7, first="no", second="<think>hm</think>\nyes"),
    row(8),
]
SAID: Said = {
    "1": ("8 3\nthe first", "3 8"),
    "2": ("8 3", "8 3"),
    "3": ("5 5", "5 5"),
    "4": ("8 3", "I cannot say"),
    "5": ("8 3", "3 8"),
    "6": ("8 3", "3 8"),
    "7": ("2 9", "9 1"),
    "8": ("5 5", "6 5"),
}


def test_answers_that_both_orders_prefer_are_pairs_and_all_else_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = judged(tmp_path, ROWS, SAID)
    output = tmp_path / "pairs.jsonl"
    assert run_command(["preferences", str(folder), "--output", str(output)]) == 0
    assert [line.record for line in LineFile(output)] == [
        {"question_id": "1", "prompt": "Q1?", "chosen": "yes", "rejected": "no", "margin": 5.0},
        {"question_id": "7", "prompt": "Q7?", "chosen": "yes", "rejected": "no", "margin": 7.5},
    ]
    counts = read_json(tmp_path / "pairs.jsonl.counts.json")
    left_out = {
        "contradicted by the other order": 2,
        "of two answers that are the same": 1,
        "ties": 1,
        "with an empty answer": 1,
        "without a verdict that could be read": 1,
    }
    assert counts == {
        **{"format": 1, "of": "answers", "folders": [str(folder)], "sure": None, "total": 8, "pairs": 2},
        "left_out": left_out,
    }
    out = capsys.readouterr().out
    assert "2 preference pairs of 8 pairs of answers\n  left out: 2 contradicted by the other order\n" in out
    # what was written is read as such rows are, the better answer first
    found = read_samples(output)
    assert [(s.question, s.answers, s.record["label"]) for s in found] == [
        ("Q1?", ("yes", "no"), 1),
        ("Q7?", ("yes", "no"), 1),
    ]


def test_sure_takes_what_is_probable_whatever_single_orders_say(tmp_path: Path) -> None:
    said = {key: texts if key != "4" else ("9 1", "1 9") for key, texts in SAID.items()}
    folder = judged(tmp_path, ROWS, said, scoring="expected")
    lines = score_lines()
    each = 0.3 / (len(lines) - 1)
    # 45 of the 100 lines are wins, and the likeliest one is one of them
    sure = 0.7 + 44 * each
    for threshold, ids in ((sure - 1e-9, ["1", "4", "7"]), (sure + 1e-9, [])):
        found = prefer_answers(folder, threshold)
        assert [pair.question_id for pair in found.pairs] == ids
        assert found.counts.left_out["not sure enough"] == 8 - len(ids) - (2 if ids else 0)
    found = prefer_answers(folder, sure - 1e-9)
    # 0.7 and what all lines share: their scores' mean is the same for both answers
    assert found.pairs[0].margin == pytest.approx(0.7 * 5 - each * 5)
    assert found.counts.sure == sure - 1e-9


TALK = [
    {"role": "system", "content": "Rhyme."},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "Because."},
    {"role": "user", "content": "And then?"},
]


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.parquet"])
def test_dialogues_become_messages_as_trl_has_them_and_so_do_all_rows_beside_them(name: str, tmp_path: Path) -> None:
    import datasets

    talks = {f"conversation{k}": [*TALK[:2], {"role": "assistant", "content": f"a{k}"}] for k in (1, 2)}
    talks["conversation2"] = [{"role": "user", "content": "What?"}, *talks["conversation2"][-1:]]
    rows = [
        {"question_id": 1, "messages": TALK, "answer1_body": "yes", "answer2_body": "no"},
        row(2),
        {"question_id": 3, **talks},
    ]
    folder = judged(tmp_path, rows, dict.fromkeys("123", ("3 8", "8 3")))
    found = prefer_answers(folder)
    assert found.counts.left_out == {"of two different conversations": 1}
    found.write(tmp_path / name)
    kind = "json" if name.endswith("jsonl") else "parquet"
    loaded = datasets.load_dataset(kind, data_files=str(tmp_path / name), split="train", cache_dir=str(tmp_path))
    assert [dict(each) for each in loaded] == [
        {
            "question_id": question_id,
            "prompt": prompt,
            "chosen": [{"role": "assistant", "content": "no"}],
            "rejected": [{"role": "assistant", "content": "yes"}],
            "margin": 5.0,
        }
        for question_id, prompt in (("1", TALK), ("2", [{"role": "user", "content": "Q2?"}]))
    ]
    assert next(iter(LineFile(tmp_path / name))).record["prompt"] == TALK
    assert [sample.answers for sample in read_samples(tmp_path / name)] == [("no", "yes")] * 2


def test_texts_in_parquet_are_texts(tmp_path: Path) -> None:
    import datasets

    prefer_answers(judged(tmp_path, ROWS, SAID)).write(tmp_path / "p.parquet")
    loaded = datasets.load_dataset("parquet", data_files=str(tmp_path / "p.parquet"), cache_dir=str(tmp_path))["train"]
    assert {name: str(feature.dtype) for name, feature in loaded.features.items()} == {
        **{"question_id": "string", "prompt": "string", "chosen": "string", "rejected": "string", "margin": "float64"}
    }


LABELLED = [
    row(1, label=1, answer1_model_id="m"),
    row(2, label=2),
    row(3),
    row(4, label=0),
    row(5, label=1),
    row(6, label=1),
]
RUNS: list[Said] = [
    {
        "1": ("8 3\nA", "3 8\nA"),
        "2": ("8 3", "3 8"),
        "3": ("8 3", "3 8"),
        "4": ("5 5\nA", "5 5\nA"),
        "5": ("9 1\nA", "1 9\nA"),
        "6": ("8 3\nsame", "3 8\nsame"),
    },
    {
        "1": ("2 4\nB", "3 8\nB"),
        "2": ("9 3", "3 9"),
        "3": ("3 8", "3 8"),
        "4": ("6 5\nB", "4 5\nB"),
        "5": ("no idea", "2 9\nB"),
        "6": ("8 3\nsame", "3 8\nsame"),
    },
]
PAIRED = [
    # id, order, chosen, rejected, margin
    ("1", "forward", "8 3\nA", "2 4\nB", 7.0),
    ("4", "forward", "5 5\nA", "6 5\nB", 1.0),
    ("4", "reversed", "5 5\nA", "4 5\nB", 1.0),
    ("5", "forward", "9 1\nA", "no idea", None),
]
NOT_PAIRED = {
    "without a label": 2,
    "without a whole text that is right and consistent": 2,
    # of the others one is right too, or in its order alone
    "without a wrong text": 4,
}


def two_runs(folder: Path, **more: Any) -> list[Path]:
    return [judged(folder, LABELLED, said, f"run{k}", k, **more) for k, said in enumerate(RUNS)]


def test_a_judges_own_texts_are_paired_within_a_question_and_an_order(tmp_path: Path) -> None:
    references = write_jsonl(
        tmp_path / "r.jsonl", [{"question_id": k, "reference": {"text": f"R{k}"}} for k in range(1, 7)]
    )
    folders = two_runs(tmp_path, references=references)
    output = tmp_path / "texts.jsonl"
    assert run_command(["preferences", *map(str, folders), "--of-judge", "--output", str(output)]) == 0
    found = [line.record for line in LineFile(output)]
    names = ("question_id", "order", "chosen", "rejected", "margin")
    assert [tuple(record[name] for name in names) for record in found] == PAIRED
    for record in found:
        sample = Sample(1, f"Q{record['question_id']}?", ("yes", "no"), f"R{record['question_id']}")
        assert record["prompt"] == render_prompt(sample.shown(record["order"]))
    counts = read_json(tmp_path / "texts.jsonl.counts.json")
    assert (counts["of"], counts["total"], counts["pairs"], counts["left_out"]) == ("texts", 12, 4, NOT_PAIRED)


def test_a_judges_pairs_are_trained_on_here(tmp_path: Path) -> None:
    found = prefer_texts(two_runs(tmp_path))
    found.write(tmp_path / "texts.parquet")
    tokenizer = train_byte_tokenizer()
    rows = PreferenceRows.load(str(tmp_path / "texts.parquet"), ExampleEncoder(tokenizer, 2048))
    assert (len(rows), rows.skipped) == (4, {})
    assert [tokenizer.decode(ids, skip_special_tokens=True) for ids in rows.columns["chosen_ids"]] == [
        pair.chosen for pair in found.pairs
    ]


@pytest.mark.skipif(find_spec("trl") is None, reason="needs the extra rl")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["texts.jsonl", "texts.parquet", "chats.jsonl", "chats.parquet"])
def test_trl_trains_on_what_is_written(name: str, tmp_path: Path) -> None:
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    rows: list[dict[str, Any]] = [row(1), row(2)]
    if name.startswith("chats"):
        rows[1] = {"question_id": 2, "messages": TALK, "answer1_body": "yes", "answer2_body": "no"}
    prefer_answers(judged(tmp_path, rows, dict.fromkeys("12", ("8 3", "3 8")))).write(tmp_path / name)
    tokenizer = train_byte_tokenizer(pad=True)
    tokenizer.chat_template = CHATML
    model = build_model(tmp_path / "model", tokenizer)
    kind = "json" if name.endswith("jsonl") else "parquet"
    loaded = datasets.load_dataset(kind, data_files=str(tmp_path / name), split="train", cache_dir=str(tmp_path))
    settings = {"max_steps": 1, "use_cpu": True, "bf16": False, "report_to": [], "disable_tqdm": True}
    trainer = DPOTrainer(
        AutoModelForCausalLM.from_pretrained(model),
        args=DPOConfig(output_dir=str(tmp_path / "out"), save_strategy="no", **settings),
        train_dataset=loaded,
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    assert trainer.train().training_loss == pytest.approx(math.log(2), abs=0.05)
    seen = [tokenizer.decode(ids) for ids in trainer.train_dataset["prompt_ids"]]
    if name.startswith("chats"):
        assert "<|system|>\nRhyme.</s>" in seen[1]
        assert seen[0].startswith("<|user|>\nQ1?</s>")
    else:
        assert [text.removeprefix("<s>") for text in seen] == ["Q1?", "Q2?"]


def test_labels_of_a_file_say_what_is_right_and_chats_are_messages(tmp_path: Path) -> None:
    labels = write_jsonl(tmp_path / "l.jsonl", [{"id": k, "winner": "B" if k == 1 else None} for k in range(1, 7)])
    told = ["--labels", str(labels), "--columns", "question_id=id,label=winner"]
    message = render_prompt(Sample(1, "Q1?", ("yes", "no")))
    for name, prompt, how in (
        ("chat", message.removesuffix(RESPONSE).rstrip(), {"prompt_format": "chat"}),
        ("server", message, {"described": {"engine": "openai", "api": "chat"}}),
    ):
        # by these labels run 1 is right in forward order alone, and run 0 wrong
        other = judged(tmp_path / name, LABELLED, {**RUNS[1], "1": ("2 4\nC", "5 1\nC")}, "run2", 2, **how)
        folders = [*two_runs(tmp_path / name, **how), other]
        output = tmp_path / name / "texts.jsonl"
        assert run_command(["preferences", *map(str, folders), "--of-judge", *told, "--output", str(output)]) == 0
        first, second = (line.record for line in LineFile(output))
        assert first == {
            "question_id": "1",
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": "2 4\nC"}],
            "rejected": [{"role": "assistant", "content": "8 3\nA"}],
            "margin": 7.0,
            "order": "forward",
        }
        assert (second["order"], second["chosen"][0]["content"], second["margin"]) == ("reversed", "5 1\nC", 9.0)


def test_texts_of_shortened_prompts_and_those_that_were_not_written_give_no_pair(tmp_path: Path) -> None:
    folders = two_runs(tmp_path)
    for folder, field, value in (
        (folders[0], "pred_shortened", [3, 0]),
        (folders[1], "pred_finish_reason", "refused"),
    ):
        path = folder / "forward.jsonl"
        records = [json.loads(line) | {field: value} for line in path.read_text().splitlines()]
        write_jsonl(path, records)
    found = prefer_texts(folders)
    assert [(pair.question_id, pair.order) for pair in found.pairs] == [("4", "reversed")]
    assert found.counts.left_out["shortened, with images or without a text"] == 5


def test_a_text_whose_reasons_were_cut_is_never_chosen(tmp_path: Path) -> None:
    """EOS is learnt behind it."""

    def cut(folders: Sequence[Path]) -> list[Path]:
        for path in (folder / f"{order}.jsonl" for folder in folders for order in ("forward", "reversed")):
            write_jsonl(path, [{**line.record, "pred_finish_reason": "length"} for line in LineFile(path)])
        return list(folders)

    with pytest.raises(InputError, match=r"no pair is left of 12 .*10 without a whole text that is right"):
        prefer_texts(cut(two_runs(tmp_path / "reasons"))).write(tmp_path / "pairs.jsonl")
    # a score line is whole
    found = prefer_texts(cut(two_runs(tmp_path / "scores", scores_only=True)))
    assert [(pair.question_id, pair.order) for pair in found.pairs] == [each[:2] for each in PAIRED]


Change = Callable[[Path], list[str]]
WRONG: list[tuple[str, Change, str]] = [
    (
        "one order",
        lambda f: [str(judged(f, ROWS, SAID, orders="forward"))],
        "no reversed.jsonl there: preferences need",
    ),
    ("no folder", lambda f: [str(f / "none")], "no forward.jsonl or reversed.jsonl there"),
    ("sure without probabilities", lambda f: [str(judged(f, ROWS, SAID)), "--sure", "0.9"], "has no probabilities"),
    ("sure of nothing", lambda f: [str(f), "--sure", "0.4"], "expected a probability from 0.5 on, below 1, found 0.4"),
    ("two folders", lambda f: [str(f), str(f)], "several folders go with --of-judge"),
    ("labels", lambda f: [str(f), "--labels", "l"], "--labels goes with --of-judge"),
    ("one run", lambda f: [str(f), "--of-judge"], "pairs of a judge's texts are made of two or more runs"),
    ("one run twice", lambda f: [str(f), f"{f}/.", "--of-judge"], "one folder is named twice"),
    ("sure of texts", lambda f: [str(f), "--of-judge", "--sure", "0.9"], "--sure is of answers"),
    (
        "no pair",
        lambda f: [str(judged(f, ROWS[1:3], SAID))],
        "no pair is left of 2 (1 contradicted by the other order, 1 ties)",
    ),
    (
        "expected",
        lambda f: [*(str(judged(f, ROWS[:1], SAID, n, scoring="expected")) for n in "ab"), "--of-judge"],
        "judged with scoring expected, which writes no texts",
    ),
    (
        "two judges",
        lambda f: [*(str(judged(f, ROWS[:1], SAID, n, described={"model": n})) for n in "ab"), "--of-judge"],
        "is of another judge than",
    ),
]


@pytest.mark.parametrize(("change", "message"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_what_cannot_be_paired_is_one_line(
    change: Change, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "p.jsonl"
    given = change(tmp_path)
    capsys.readouterr()
    assert run_command(["preferences", *given, "--output", str(output)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not output.exists()


def test_what_was_judged_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = judged(tmp_path, ROWS, SAID)
    labels = write_jsonl(tmp_path / "labels.jsonl", [{"question_id": 1, "label": 1}])
    for path, more in (
        (folder / "forward.jsonl", [str(folder)]),
        (labels, [str(folder), str(tmp_path), "--of-judge", "--labels", str(labels)]),
    ):
        before = path.read_bytes()
        assert run_command(["preferences", *more, "--output", f"{path.parent}/../{path.parent.name}/{path.name}"]) == 2
        assert "is a file that is read: name another one" in capsys.readouterr().err
        assert path.read_bytes() == before


def test_rows_with_images_are_left_out(tmp_path: Path) -> None:
    url = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
    asked = [{"type": "text", "text": "Q1?"}, url]
    folders = []
    for name in ("a", "b"):
        folders.append(judged(tmp_path, LABELLED[:1], RUNS[0], name))
        for order in ("forward", "reversed"):
            path = folders[-1] / f"{order}.jsonl"
            write_jsonl(path, [json.loads(line) | {"question_body": asked} for line in path.read_text().splitlines()])
    assert prefer_answers(folders[0]).counts.left_out == {"with images": 1}
    assert prefer_texts(folders).counts.left_out == {"shortened, with images or without a text": 2}


def test_another_format_or_task_is_refused(tmp_path: Path) -> None:
    folder = judged(tmp_path, ROWS, SAID)
    for name in ("p.csv", "p.json", "p.jsonl.gz"):
        with pytest.raises(InputError, match=r"expected a name that ends in \.jsonl or \.parquet"):
            prefer_answers(folder).write(tmp_path / name)
    graded = tmp_path / "graded"
    write_jsonl(graded / "forward.jsonl", [{"question_id": 1, "pred_task": "grade", "pred_text": "7"}])
    with pytest.raises(InputError, match="preferences are those of task pair, found task grade"):
        prefer_answers(graded)
