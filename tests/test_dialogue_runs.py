"""Dialogues on their way: judged into folders, measured, audited, trained on, and served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, train_byte_tokenizer, write_jsonl
from judging import FakeEngine, run_command
from serving import Address
from test_dialogues import REPLIES, TALKS, said

from judgelm import Judge
from judgelm.audit import AuditSettings, run_audit
from judgelm.conversion import convert
from judgelm.criteria import read_criteria
from judgelm.dialogue import LeftOut
from judgelm.encoding import encode_prompt
from judgelm.engine.interface import Generation
from judgelm.errors import InputError
from judgelm.evaluation.results import read_folder
from judgelm.forms import Columns
from judgelm.jsonl import Line, LineFile
from judgelm.judge import JudgeChoice, JudgeSettings, judge_folder
from judgelm.judge.log import JudgementRecord
from judgelm.prompt import render_prompt
from judgelm.report import write_report
from judgelm.sample import Sample
from judgelm.samples import read_samples
from judgelm.serve.client import Client
from judgelm.serve.lengths import cut_texts
from judgelm.serve.worker_requests import JudgeSample
from judgelm.train.encoder import ExampleEncoder
from judgelm.train.sample import TrainingSample

ROWS = [REPLIES, TALKS, {"question_id": 3, "question_body": "Q", "answer1_body": "a", "answer2_body": "b"}]


class Liking(FakeEngine):
    """Prefers the answer with a number in it, if it comes first."""

    def generate(self, requests: Any, sampling: Any, *, done: Any = (), on_text: Any = None) -> Any:
        for request in requests:
            if request.key not in done:
                yield Generation(request.key, "8 7" if "700,000" in request.prompt else "6 9", 5, 3, "stop")


def choice(engine: FakeEngine | None = None) -> JudgeChoice:
    return JudgeChoice("fake", lambda: Judge(engine or Liking()), {"engine": "fake"})


def test_a_folder_of_dialogues_goes_on_is_measured_and_reported(tmp_path: Path) -> None:
    samples = read_samples(write_jsonl(tmp_path / "q.jsonl", ROWS))
    assert samples.files.dialogues
    judge_folder(samples, tmp_path / "out", choice(), orders="both")
    before = (tmp_path / "out" / "reversed.jsonl").read_bytes()
    first, second, _ = (line.record for line in LineFile(tmp_path / "out" / "reversed.jsonl"))
    assert (first["answer1_body"], first["messages"]) == ("Big.", REPLIES["messages"])
    assert second["conversation1"] == TALKS["conversation2"]
    # all of it is there, and is of these samples
    judge_folder(samples, tmp_path / "out", choice(), orders="both")
    assert (tmp_path / "out" / "reversed.jsonl").read_bytes() == before
    changed = {**TALKS, "conversation2": said("Where is Oslo?", "In Finland.", "Really?", "No, in Norway.")}
    others = read_samples(write_jsonl(tmp_path / "other.jsonl", [REPLIES, changed, ROWS[2]]))
    with pytest.raises(InputError, match="keeps the 4 of 6 judgements whose samples are unchanged"):
        judge_folder(others, tmp_path / "out", choice(), orders="both")
    read = {sample.key: sample for sample in read_folder(tmp_path / "out")}
    assert read["1"].question.startswith(
        "System: Be brief.\n\nUser: Where is Oslo?\n\nAssistant: In Norway.\n\nUser: And"
    )
    assert read["2"].question == "User: Where is Oslo?\n\nUser: Sure?"
    assert read["2"].answers[1].endswith("Assistant: In Sweden.\n\nUser: Really?\n\nAssistant: No, in Norway.")
    assert read["3"].question == "Q"
    write_report(tmp_path / "out")
    assert "Assistant: In Sweden." in (tmp_path / "out" / "report.html").read_text()


def test_a_folder_without_dialogues_keeps_its_fingerprint(tmp_path: Path) -> None:
    for name, rows in (("plain", ROWS[2:]), ("mixed", ROWS)):
        judge_folder(read_samples(write_jsonl(tmp_path / "q.jsonl", rows)), tmp_path / name, choice())
    plain, mixed = (
        json.loads((tmp_path / name / "run.json").read_text())["settings"]["prompt_fingerprint"]
        for name in ("plain", "mixed")
    )
    assert plain == "e24851bee070bb302e910d98e85e8ab0c92ff7cf7685e8860417f2320b1579e1" != mixed


def test_columns_name_messages(tmp_path: Path) -> None:
    row = {"chat": said("Q", "a", "R"), "one": "x", "two": "y"}
    path = write_jsonl(tmp_path / "q.jsonl", [row])
    (sample,) = read_samples(path, columns=Columns.parse("messages=chat,answer1=one,answer2=two"))
    assert (sample.question, sample.answers, sample.record["messages"]) == ("R", ("x", "y"), row["chat"])
    (sample,) = read_samples(path, "grade", columns=Columns.parse("messages=chat,answer=one"))
    assert (sample.question, sample.answers) == ("R", ("x",))
    talks = {"left": TALKS["conversation1"], "right": TALKS["conversation2"]}
    path = write_jsonl(tmp_path / "q.jsonl", [talks])
    (sample,) = read_samples(path, columns=Columns.parse("conversation1=left,conversation2=right"))
    assert sample.dialogue == Sample.from_record(TALKS).dialogue


@pytest.mark.parametrize("name", ["d.csv", "d.parquet", "d.json", "d.jsonl.gz"])
def test_dialogues_come_back_from_files_of_any_format(tmp_path: Path, name: str) -> None:
    source = ROOT / "examples" / "dialogues.jsonl"
    convert(source, tmp_path / name)
    before, after = (
        [(each.key, each.question, each.answers, each.dialogue) for each in read_samples(path)]
        for path in (source, tmp_path / name)
    )
    assert after == before


def test_a_table_of_both_kinds_is_read(tmp_path: Path) -> None:
    from pyarrow import Table, parquet

    names = list(REPLIES | TALKS)
    rows = [{name: row.get(name) for name in names} for row in (REPLIES, TALKS)]
    parquet.write_table(Table.from_pylist(rows), tmp_path / "t")
    first, second = read_samples(tmp_path / "t")
    assert first.dialogue == Sample.from_record(REPLIES).dialogue
    assert second.dialogue == Sample.from_record(TALKS).dialogue
    nothing = {"question_id": 1, "conversation1": None, "conversation2": None}
    with pytest.raises(InputError, match=r"q.jsonl:1: conversation1: expected a list of messages, found NoneType"):
        read_samples(write_jsonl(tmp_path / "q.jsonl", [nothing]))


def test_the_prompt_command_shows_dialogues(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["prompt", "--question-file", str(ROOT / "examples" / "dialogues.jsonl")]) == 0
    shown = [json.loads(line)["prompt"] for line in capsys.readouterr().out.splitlines()]
    samples = read_samples(ROOT / "examples" / "dialogues.jsonl")
    assert len(samples) == 4
    assert [sample.dialogue is not None for sample in samples] == [True] * 4
    assert shown == [render_prompt(sample) for sample in samples]


def test_a_record_says_what_was_left_out(tmp_path: Path) -> None:
    tokenizer = train_byte_tokenizer()
    long = {**REPLIES, "messages": said(*(f"turn {k} alpha beta " * 60 for k in range(8)), "Q")}

    class Short(Liking):
        def fit(self, sample: Any, task: str, max_new_tokens: int, aspect: Any = None, form: Any = None) -> Any:
            return encode_prompt(sample, task, tokenizer, 900, aspect)

    criteria = read_criteria(ROOT / "examples" / "criteria" / "concise.yaml")
    for name, settings in (("plain", JudgeSettings()), ("aspects", JudgeSettings(criteria=criteria))):
        samples = read_samples(write_jsonl(tmp_path / "q.jsonl", [long, ROWS[2]]))
        found = judge_folder(samples, tmp_path / name, choice(Short()), settings, orders="forward")["forward"]
        left_out = found.lines[0].record["pred_shortened"]
        assert set(left_out) == {"turns", "tokens"}
        assert left_out["turns"][0] >= 4
        assert JudgementRecord.from_line(found.lines[0]).pred_shortened is not None
        assert found.lines[1].record["pred_shortened"] is None
        assert found.counts["shortened"] == 1


def test_an_audit_changes_the_last_replies_of_dialogues(tmp_path: Path) -> None:
    rows = [{**row, "question_id": f"{k}{row['question_id']}"} for k in range(4) for row in ROWS[:2]]
    samples = read_samples(write_jsonl(tmp_path / "q.jsonl", rows))
    settings = AuditSettings(only=("position", "padded"), scoring="greedy")
    found = run_audit(samples, tmp_path / "audit", choice(), settings)
    assert [check.name for check in found.checks] == ["position", "padded"]
    padded = [
        line.record
        for line in LineFile(tmp_path / "audit" / "both" / "forward.jsonl")
        if str(line.record["question_id"]).startswith("padded:")
    ]
    assert len(padded) == 8
    for record in padded:
        assert ("messages" in record) != ("conversation1" in record)
        assert Sample.from_record({n: v for n, v in record.items() if not n.startswith("pred_")}).dialogue is not None


def test_training_rows_may_be_dialogues() -> None:
    tokenizer = train_byte_tokenizer()
    for row in (REPLIES, TALKS):
        training = TrainingSample.from_line(Line({**row, "text": "8 7\nGood."}, Path("t.jsonl"), 1))
        encoder = ExampleEncoder(tokenizer, 2000)
        example = encoder.encode(training.shown(swapped=True))
        shown = tokenizer.decode(example.input_ids[: example.num_prompt], skip_special_tokens=True)
        assert shown == render_prompt(Sample.from_record(row).swapped())
    long = {**REPLIES, "messages": said(*["alpha beta gamma " * 80] * 4, "Q"), "text": "8 7\nGood."}
    variant = TrainingSample.from_line(Line(long, Path("t.jsonl"), 1)).shown()
    encoder = ExampleEncoder(tokenizer, 800)
    assert encoder.fits_without_answers(variant)
    assert len(encoder.encode(variant).input_ids) <= 800
    full = variant._replace(sample=Sample.from_record({**long, "answer1_body": "alpha beta " * 400}))
    assert not encoder.fits_without_answers(full)


def test_a_very_long_dialogue_is_shown_as_if_all_of_it_had_been_read(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = train_byte_tokenizer()
    monkeypatch.setattr("judgelm.serve.lengths._PIECE", 512)
    turns = [f"word {k} and more. " * (k * 40) for k in range(12)]
    talks = {"conversation1": said(*turns, "Q", "a"), "conversation2": said(*turns[:4], "Q", "b")}
    for row in ({**REPLIES, "messages": said(*turns, "Q")}, {"question_id": 1, **talks}):
        sample = Sample.from_record(row)
        for context in (1500, 4000):
            cut, first = cut_texts(sample, tokenizer, context)
            whole = encode_prompt(sample, "pair", tokenizer, context)
            shown = encode_prompt(cut, "pair", tokenizer, context)
            assert shown.text == whole.text
            assert isinstance(first, LeftOut)
            assert isinstance(whole.shortened, LeftOut)
            assert isinstance(shown.shortened, LeftOut)
            both = LeftOut.total([first, shown.shortened])
            assert both.turns == whole.shortened.turns
            assert both.tokens == tuple(pytest.approx(count, rel=0.05) for count in whole.shortened.tokens)


BODY: dict[str, Any] = {"constrained": True, "max_new_tokens": 24, "temperature": 0.7, "seed": 3}


def test_dialogues_are_judged_by_the_api_as_by_the_python_api(api: Address, model_folder: Path) -> None:
    judge = Judge.load(str(model_folder), dtype="float32", device="cpu", constrained=True)
    answers = [REPLIES["answer1_body"], REPLIES["answer2_body"]]
    asked = [
        {"question_id": 1, "messages": REPLIES["messages"], "answers": answers},
        {"question_id": 2, "conversations": [TALKS["conversation1"], TALKS["conversation2"]]},
    ]
    client = Client(api.url)
    found = client.judge_all(asked, **BODY)
    settings = {name: BODY[name] for name in ("max_new_tokens", "temperature", "seed")}
    verdicts = judge.judge([Sample.from_record(row) for row in (REPLIES, TALKS)], orders="both", **settings)
    for result, verdict in zip(found, verdicts, strict=True):
        texts = [verdict.forward.text, verdict.reversed.text]  # type: ignore[union-attr]
        assert [one["text"] for one in result["judgements"]] == texts
        assert result["judgements"][0]["shortened"] is None
    parts = [{"type": "text", "text": "Hi."}]
    graded = client.judge_all(
        [{"messages": [{"role": "developer", "content": parts}, *said("Q")], "answers": ["a"]}], task="grade", **BODY
    )
    assert len(graded[0]["scores"]) == 1
    (replied,) = client.judge_all([asked[0]], task="multi", **BODY)
    assert len(replied["scores"]) == 2


def test_what_of_a_dialogue_does_not_fit_is_said(api: Address) -> None:
    long = said(*(f"turn {k} alpha beta " * 300 for k in range(8)), "Q")
    answer = api.post("/v1/judgements", {"samples": [{"messages": long, "answers": ["a", "b"]}], **BODY}).json()
    left_out = answer["data"][0]["judgements"][0]["shortened"]
    assert left_out["turns"][0] > 2
    assert left_out["tokens"][0] > 1000
    never_cut = {"messages": said("P", "p", "Q"), "answers": ["alpha beta " * 5000, "b"]}
    answer = api.post("/v1/judgements", {"samples": [never_cut], **BODY}).json()
    assert answer["data"][0]["error"]["code"] == "prompt_too_long"


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"messages": said("Q", "a"), "answers": ["x", "y"]}, "expected the last one to be the user's"),
        ({"messages": said("Q")}, "a question or messages need answers"),
        ({"answers": ["a", "b"]}, "a sample has a question, messages or conversations, found none"),
        ({"question": "Q", "messages": said("Q"), "answers": ["a"]}, "found question and messages"),
        ({"conversations": [said("Q", "a"), said("Q")]}, "conversation 2: expected it to end in a message of the ass"),
        ({"conversations": [said("Q", "a")]}, "task pair takes 2 answers, found 1"),
        ({"messages": said(*"Q" * 1001), "answers": ["a", "b"]}, "at most 1000 items"),
        ({"messages": [{"role": "tool", "content": "x"}], "answers": ["a", "b"]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}], "answers": ["a", "b"]}, "images can"),
    ],
)
def test_a_dialogue_that_is_none_is_answered_in_one_line(sample: dict[str, Any], message: str, api: Address) -> None:
    answer = api.post("/v1/judgements", {"samples": [sample], **BODY})
    assert answer.status_code in (400, 422)
    said_back = answer.json()["error"]["message"]
    assert message in said_back
    assert "\n" not in said_back


def test_single_takes_no_dialogue_in_the_api(api: Address) -> None:
    sample = {"messages": said("P", "p", "Q"), "answers": ["a", "b"]}
    answer = api.post("/v1/judgements", {"samples": [sample], "task": "single", **BODY})
    assert "task single takes no dialogue" in answer.json()["error"]["message"]


def test_a_worker_that_knows_no_dialogues_gets_the_prompt() -> None:
    from test_serve_criteria import through

    row = {"question_id": 1, "messages": said("P", "p", "Q", "a")}
    sample = Sample.from_graded_line(Line(row, Path("q.jsonl"), 1))
    for details in ({"judgelm": "1", "criteria": True}, {}):
        (body,) = through(details, None, sample, "grade")
        assert body["prompt"] == render_prompt(sample, "grade")
        assert "sample" not in body
    (body,) = through({"judgelm": "1", "criteria": True, "dialogues": True}, None, sample, "grade")
    assert JudgeSample.model_validate(body["sample"]).sample.dialogue == sample.dialogue
    talks = Sample.from_record(TALKS)
    assert JudgeSample.of(talks, "pair").prompt == render_prompt(talks)
