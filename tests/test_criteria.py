"""Answers judged by criteria, aspect by aspect, and single answers graded."""

from __future__ import annotations

import itertools
import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, make_samples, write_jsonl
from judging import FakeEngine, lasting, run_command
from played import Played, wrote
from test_engine import load_engine

from judgelm import Judge
from judgelm.criteria import Aspect, Criteria, Scale, read_criteria
from judgelm.distribution import line_text
from judgelm.engine.interface import Generation
from judgelm.engine.score_line import line_tokens
from judgelm.errors import InputError
from judgelm.forms import Columns
from judgelm.jsonl import Line
from judgelm.judge import JudgeChoice, JudgeSettings, judge_folder
from judgelm.judge.log import JudgementRecord
from judgelm.judgement import Judgement, Outcome, ParseState
from judgelm.prompt import prompt_fingerprint, render_prompt
from judgelm.sample import Sample
from judgelm.samples import read_samples
from judgelm.train.encoder import ExampleEncoder
from judgelm.train.sample import TrainingSample

FILE = """
name: exam
scale: [1, 5]
aspects:
  - name: Truth
    text: What it states is true.
    weight: 3
    anchors: {1: All wrong., 5: All right.}
  - name: Brevity
    text: It is short.
"""
EXAM = Criteria(
    "exam",
    (
        Aspect("Truth", "What it states is true.", 3.0, ((1, "All wrong."), (5, "All right.")), Scale(1, 5)),
        Aspect("Brevity", "It is short.", scale=Scale(1, 5)),
    ),
)
GRADE_BY_TRUTH = """You are a helpful and precise assistant for checking the quality of the answer.
[Question]
Who?

[Reference Answer]
Ada.

[The Start of Assistant 1's Answer]
Ada Lovelace.

[The End of Assistant 1's Answer]

[System]
We would like to request your feedback on the performance of an AI assistant in response to the user question displayed above.
Please rate its response by nothing but the criterion given below. The assistant receives a score on a scale of 1 to 5, where a higher score indicates better performance.
Please first output a single line containing only one value indicating the score for Assistant 1. In the subsequent line, please provide a comprehensive explanation of your evaluation.

[Criterion]
Truth: What it states is true.
1: All wrong.
5: All right.

### Response:"""  # noqa: E501
PAIR_BY_BREVITY = """You are a helpful and precise assistant for checking the quality of the answer.
[Question]
Who?

[The Start of Assistant 1's Answer]
Ada.

[The End of Assistant 1's Answer]

[The Start of Assistant 2's Answer]
Bob.

[The End of Assistant 2's Answer]

[System]
We would like to request your feedback on the performance of two AI assistants in response to the user question displayed above.
Please rate their responses by nothing but the criterion given below. Each assistant receives a score on a scale of 1 to 5, where a higher score indicates better performance.
Please first output a single line containing only two values indicating the scores for Assistant 1 and 2, respectively. The two scores are separated by a space. In the subsequent line, please provide a comprehensive explanation of your evaluation, avoiding any potential bias and ensuring that the order in which the responses were presented does not affect your judgment.

[Criterion]
Brevity: It is short.

### Response:"""  # noqa: E501


class ByAspect(FakeEngine):
    """Writes what it is told to of a question and the aspect that its prompt ends with."""

    def __init__(self, texts: dict[tuple[str, str], str], most: int = 10**9) -> None:
        self.texts = texts
        self.most = most
        self.num_asked = 0

    def generate(self, requests: Any, sampling: Any, *, done: Any = (), on_text: Any = None) -> Any:
        for request in requests:
            if request.key in done:
                continue
            self.num_asked += 1
            if self.num_asked > self.most:
                raise InputError("the judge went home")
            aspect = request.prompt.rpartition("[Criterion]\n")[2].partition(":")[0]
            yield Generation(request.key, self.texts[request.seed_key, aspect], 100, 7, "stop")


def choice(engine: Any) -> JudgeChoice:
    return JudgeChoice("told", lambda: Judge(engine), {"engine": "told"})


def test_prompts_of_criteria_and_grades_byte_for_byte() -> None:
    assert render_prompt(Sample(1, "Who?", ["Ada Lovelace."], "Ada."), "grade", EXAM.aspects[0]) == GRADE_BY_TRUTH
    assert render_prompt(Sample(1, "Who?", ["Ada.", "Bob."]), "pair", EXAM.aspects[1]) == PAIR_BY_BREVITY
    overall = GRADE_BY_TRUTH.replace("nothing but the criterion given below", "its overall quality")
    overall = re.sub(r"\[Criterion\].*?\n\n", "", overall, flags=re.DOTALL).replace("1 to 5", "1 to 10")
    assert render_prompt(Sample(1, "Who?", ["Ada Lovelace."], "Ada."), "grade") == overall


@pytest.mark.parametrize(("task", "count"), [("grade", 1), ("pair", 2), ("multi", 3)])
def test_prompts_of_a_sample_differ_behind_all_that_its_aspects_share(task: str, count: int) -> None:
    sample = Sample(1, "Q", [f"answer {k}" for k in range(count)], "R")
    first, second = (render_prompt(sample, task, aspect) for aspect in EXAM.aspects)
    assert first.partition("[Criterion]\n")[0] == second.partition("[Criterion]\n")[0]


def test_the_prompts_fingerprint_is_the_papers_or_the_criterias_own() -> None:
    published = {prompt_fingerprint(task) for task in ("pair", "single", "multi", "mmvet")}
    own = [prompt_fingerprint("grade"), *(prompt_fingerprint(task, EXAM) for task in ("grade", "pair", "multi"))]
    assert published == {prompt_fingerprint()}
    assert len({*published, *own}) == 5


@pytest.mark.parametrize("task", ["single", "mmvet"])
def test_a_task_whose_question_is_fixed_takes_no_criteria(task: str) -> None:
    with pytest.raises(ValueError, match=f"task {task} takes no criteria"):
        render_prompt(Sample(1, "Q", ["a", "b"], "R"), task, EXAM.aspects[0])
    with pytest.raises(InputError, match=f"criteria cannot be used with task {task}"):
        JudgeSettings(task, criteria=EXAM)


def test_a_file_of_criteria_is_read_and_written_alike(tmp_path: Path) -> None:
    (tmp_path / "exam.yaml").write_text(FILE)
    assert read_criteria(tmp_path / "exam.yaml") == EXAM
    (tmp_path / "again.json").write_text(json.dumps(EXAM.to_record()))
    # JSON is YAML, though its keys are texts
    assert read_criteria(tmp_path / "again.json") == EXAM


def test_the_six_examples_are_criteria() -> None:
    found = {path.stem: read_criteria(path) for path in (ROOT / "examples" / "criteria").glob("*.yaml")}
    assert set(found) == {"helpful", "factual", "harmless", "concise", "code_review", "translation"}
    assert {str(each.scale) for each in found.values()} == {"1 to 10", "1 to 5", "0 to 100"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected criteria with the fields name, aspects, scale, found NoneType"),
        ("name: [", r"f.yaml:1: not YAML"),
        ("name: a\naspects: {}", "aspects: expected a list, found dict"),
        ("name: a\naspects: []", "aspects: expected 1 to 50, found 0"),
        ("aspects: [{name: b, text: c}]", "field 'name' is missing"),
        ("name: a\nscales: [1, 5]\naspects: [{name: b, text: c}]", "'scales' is no field of criteria"),
        ("name: a\nscale: [5, 1]\naspects: [{name: b, text: c}]", "scale: a scale begins with its lowest score"),
        ("name: a\nscale: [1, 1000]\naspects: [{name: b, text: c}]", "whole numbers from 0 to 100"),
        ("name: a\nscale: 5\naspects: [{name: b, text: c}]", r"such as \[1, 5\], found 5"),
        ("name: a\naspects: [{name: b}]", "aspects: 1: field 'text' is missing"),
        ("name: a\naspects: [{name: b, text: 3}]", "aspects: 1: text: expected a text, found 3"),
        ("name: a\naspects: [{name: b, text: c}, {name: b, text: d}]", "aspects: 'b' stands there 2 times"),
        ("name: a\naspects: [{name: b, text: c, weight: 0}]", "aspects: 1: weight: expected a number above 0"),
        ("name: a\naspects: [{name: b, text: c, weight: .nan}]", "aspects: 1: weight: expected a number above 0"),
        ("name: a\naspects: [{name: b, text: c, weight: true}]", "aspects: 1: weight: expected a number above 0"),
        ("name: a\naspects: [{name: b, text: c, anchors: {11: d}}]", "anchors: expected scores from 1 to 10, found 11"),
        ("name: a\naspects: [{name: b, text: c, anchors: {good: d}}]", "anchors: expected scores from 1 to 10"),
        ("name: a\naspects: [{name: b, text: c, anchors: {1: ''}}]", "anchors: 1: expected a text"),
        ('name: a\naspects: [{name: "b\\ud800", text: c}]', "aspects: 1: a text has half a surrogate pair"),
        ('name: a\naspects: [{name: b, text: c, anchors: {1: "\\udc00"}}]', "aspects: 1: a text has half a surrogate"),
        ('name: "\\ud800"\naspects: [{name: b, text: c}]', "f.yaml: a text has half a surrogate pair"),
        ("name: a\naspects: [{name: !!python/object:os.system x, text: c}]", "f.yaml:2: not YAML"),
        ("name: a\naspects: &x [*x]", r"aliases \(\*NAME\) are not read"),
        ("name: a\naspects:\n- name: x\n  text: y\n  text: z\n", r":5: 'text' stands there twice"),
        ("name: a\nscale: [1, 5]\n'name': b\n", r":3: 'name' stands there twice"),
    ],
)
def test_what_is_no_criteria_is_told_in_one_line(
    text: str, said: str, tmp_path: Path, pairs_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f.yaml").write_text(text)
    argv = ["judge", "--question-file", str(pairs_file), "--output-dir", str(tmp_path / "out")]
    assert run_command([*argv, "--criteria", str(tmp_path / "f.yaml")]) == 2
    error = capsys.readouterr().err.strip()
    assert re.search(said, error)
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "scores", "state"),
    [
        ("4\nGood.", (4.0,), ParseState.OK),
        ("Score: 4/5\nGood.", (4.0,), ParseState.REPAIRED),
        ("It is good.\n\n4 out of 5", None, ParseState.FAILED),
        ("Rating (out of 5): 3", (3.0,), ParseState.REPAIRED),
        ("4/10", None, ParseState.FAILED),
        ("6", None, ParseState.FAILED),
        ("0", None, ParseState.FAILED),
        ("4 5", None, ParseState.FAILED),
    ],
)
def test_scores_are_read_on_the_scale_that_was_asked_for(
    text: str, scores: tuple[float, ...] | None, state: ParseState
) -> None:
    judgement = Judgement.parse(text, 1, Scale(1, 5))
    assert (judgement.scores, judgement.state) == (scores, state)


def test_a_pair_is_compared_aspect_by_aspect() -> None:
    texts = {("0", "Truth"): "5 2\nTrue.", ("0", "Brevity"): "1 5\nLong.", ("1", "Truth"): "4/5 4/5",
             ("1", "Brevity"): "nothing"}  # fmt: skip
    first, second = Judge(ByAspect(texts)).judge(make_samples(2), criteria=EXAM)
    assert first.forward is not None
    assert first.forward.scores == (4.0, 2.75)
    assert (first.outcome, first.forward.state) == (Outcome.WIN, ParseState.OK)
    assert [(each.name, each.weight, each.reading.scores) for each in first.forward.aspects] == [
        ("Truth", 3.0, (5.0, 2.0)),
        ("Brevity", 1.0, (1.0, 5.0)),
    ]
    assert {name: both.outcome for name, both in first.aspects.items()} == {
        "Truth": Outcome.WIN,
        "Brevity": Outcome.LOSE,
    }
    assert first.forward.text == "4 2.75\n\n[Truth]\n5 2\nTrue.\n\n[Brevity]\n1 5\nLong."
    # where one aspect cannot be read there is no mean, and the others are still told
    assert second.forward is not None
    assert (second.forward.scores, second.forward.state) == (None, ParseState.FAILED)
    assert second.forward.aspects[0].reading.scores == (4.0, 4.0)


def test_reversed_judgements_are_exchanged_in_every_aspect() -> None:
    texts = {("0", "Truth"): "5 2", ("0", "Brevity"): "2 5"}
    (verdict,) = Judge(ByAspect(texts)).judge(make_samples(1), criteria=EXAM, orders="both")
    assert verdict.reversed is not None
    assert verdict.reversed.scores == (2.75, 4.25)
    assert [each.reading.scores for each in verdict.reversed.aspects] == [(2.0, 5.0), (5.0, 2.0)]
    assert verdict.aspects["Truth"].consistent is False


def test_a_run_by_criteria_goes_on_where_it_ended_and_pays_for_nothing_twice(tmp_path: Path) -> None:
    samples = make_samples(6)
    texts = {(str(k), name): f"{1 + k % 5} 2\n{name} {k}" for k in range(6) for name in ("Truth", "Brevity")}
    settings = JudgeSettings(criteria=EXAM)
    whole = ByAspect(texts)
    judge_folder(samples, tmp_path / "whole", choice(whole), settings)
    assert whole.num_asked == 24
    ended = ByAspect(texts, most=9)
    with pytest.raises(InputError, match="went home"):
        judge_folder(samples, tmp_path / "ended", choice(ended), settings)
    rest = ByAspect(texts)
    judge_folder(samples, tmp_path / "ended", choice(rest), settings)
    # of the nine the last was the first aspect of a sample alone
    assert rest.num_asked == 24 - 8
    for order in ("forward", "reversed"):
        records = lasting(tmp_path / "ended" / f"{order}.jsonl")
        assert records == lasting(tmp_path / "whole" / f"{order}.jsonl")
        for record in records:
            JudgementRecord.from_line(Line(record, tmp_path, 1))
    assert record["pred_aspects"][1] == {
        "name": "Brevity", "weight": 1.0, "scores": [1.0, 2.0], "outcome": "lose", "parse": "ok"
    }  # fmt: skip
    assert (record["pred_scale"], record["pred_prompt_tokens"], record["pred_tokens"]) == ([1, 5], 200, 14)
    run = json.loads((tmp_path / "ended" / "run.json").read_text())
    assert Criteria.from_record(run["settings"]["criteria"]) == EXAM
    other = JudgeSettings(criteria=Criteria("exam", EXAM.aspects[:1]))
    with pytest.raises(InputError, match=r"other settings: prompt_fingerprint was .*criteria was"):
        judge_folder(samples, tmp_path / "ended", choice(rest), other)


@pytest.mark.parametrize("task", ["grade", "pair"])
def test_expected_scores_on_a_scale_are_those_of_a_forward_pass_over_each_line(task: str, model_folder: Path) -> None:
    engine = load_engine(model_folder)
    count = 1 if task == "grade" else 2
    samples = [Sample(each.question_id, each.question, each.answers[:count]) for each in make_samples(3)]
    verdicts = Judge(engine).judge(samples, task=task, criteria=EXAM, scoring="expected")
    for sample, verdict in zip(samples, verdicts, strict=True):
        assert verdict.forward is not None
        for aspect, found in zip(EXAM.aspects, verdict.forward.aspects, strict=True):
            prompt = engine.fit(sample, task, 64, aspect).input_ids
            lines = list(itertools.product(range(1, 6), repeat=count))
            weights = []
            for line in line_tokens([line_text(each) for each in lines], "", engine.tokenizer):
                with torch.inference_mode():
                    logits = engine.model(torch.tensor([[*prompt, *line]])).logits[0, -len(line) - 1 : -1]
                weights.append(logits.double().log_softmax(-1)[range(len(line)), list(line)].sum().exp().item())
            total = sum(weights)
            expected = [sum(w * each[k] for w, each in zip(weights, lines, strict=True)) / total for k in range(count)]
            assert found.reading.expected_scores == pytest.approx(expected, abs=1e-4)
        means = EXAM.mean([each.reading.expected_scores or () for each in verdict.forward.aspects])
        assert verdict.forward.expected_scores == pytest.approx(means)
        assert (verdict.probabilities is None) == (task == "grade")


def test_a_constrained_judge_keeps_to_the_scale(model_folder: Path) -> None:
    samples = [Sample(each.question_id, each.question, each.answers[:1]) for each in make_samples(8)]
    judge = Judge(load_engine(model_folder), constrained=True)
    scale = Scale(0, 100)
    wide = Criteria("wide", (Aspect("Any", "Anything.", scale=scale),))
    narrow = Criteria("narrow", (Aspect("Any", "Anything.", scale=Scale(0, 1)),))
    for criteria, found in ((wide, range(101)), (narrow, range(2))):
        verdicts = judge.judge(samples, task="grade", criteria=criteria, temperature=2.0, scores_only=True)
        scores = [verdict.scores[0] for verdict in verdicts if verdict.scores]
        assert len(scores) == 8
        assert set(scores) <= set(map(float, found))


def test_the_command_grades_and_says_what_it_took(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"question_id": k, "question_body": "2 + 2?", "answer_body" if k else "answer1_body": "4", "more": k}
            for k in range(3)]  # fmt: skip
    questions = write_jsonl(tmp_path / "q.jsonl", rows)
    (tmp_path / "exam.yaml").write_text(FILE)
    argv = ["judge", "--model", str(model_folder), "--question-file", str(questions), "--task", "grade",
            "--criteria", str(tmp_path / "exam.yaml"), "--scoring", "expected", "--dtype", "float32",
            "--output-dir", str(tmp_path / "out")]  # fmt: skip
    assert run_command(argv) == 0
    assert "forward: 3 judged, 0 unparsed" in capsys.readouterr().out
    records = lasting(tmp_path / "out" / "forward.jsonl")
    for row, record in zip(rows, records, strict=True):
        assert {name: record[name] for name in row} == row
        assert len(record["pred_scores"]) == len(record["pred_expected_scores"]) == 1
        assert record["pred_outcome"] is None
        assert "pred_probabilities" not in record
    assert not (tmp_path / "out" / "reversed.jsonl").exists()
    # the same command does nothing
    assert run_command(argv) == 0
    assert "3 of 3 judgements are there already" in capsys.readouterr().err
    assert run_command([*argv, "--orders", "both"]) == 2
    assert "forward order only: a single answer has one place" in capsys.readouterr().err
    assert run_command(["prompt", *argv[3:9]]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["question_id"], each["aspect"]) for each in printed] == [
        (k, aspect.name) for k in range(3) for aspect in EXAM.aspects
    ]
    assert printed[0]["prompt"] == render_prompt(Sample(0, "2 + 2?", ["4"]), "grade", EXAM.aspects[0])


def test_a_row_without_an_answer_to_grade_is_named(
    tmp_path: Path, pairs_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = write_jsonl(tmp_path / "q.jsonl", [{"question_id": 1, "question_body": "2 + 2?"}])
    argv = ["judge", "--question-file", str(questions), "--task", "grade", "--output-dir", str(tmp_path / "o")]
    assert run_command(argv) == 2
    assert re.search(r"q.jsonl:1: field 'answer1_body' is missing", capsys.readouterr().err)
    with pytest.raises(ValueError, match="task pair takes 2 answers, found 1"):
        Judge(ByAspect({})).judge([Sample(1, "Q", ["a"])])


def test_a_file_of_answers_is_graded_by_its_columns(tmp_path: Path) -> None:
    rows = [{"question_id": k, "question_body": "2 + 2?", "text": f"{k}", "model": "m"} for k in (4, 5)]
    path = write_jsonl(tmp_path / "answers.jsonl", rows)
    samples = read_samples(path, "grade", columns=Columns.parse("answer=text"))
    assert [(each.question, each.answers) for each in samples] == [("2 + 2?", ("4",)), ("2 + 2?", ("5",))]
    assert samples[0].to_record() == {"question_id": 4, "question_body": "2 + 2?", "answer_body": "4", "model": "m"}


def test_too_large_a_scale_is_not_read_in_one_pass() -> None:
    wide = Criteria("wide", (Aspect("Any", "Anything.", scale=Scale(0, 100)),))
    with pytest.raises(InputError, match="scoring expected reads 441 score lines at most: 0 to 100 is too much"):
        JudgeSettings(criteria=wide, scoring="expected")
    assert JudgeSettings("grade", criteria=wide, scoring="expected").scale == Scale(0, 100)


@pytest.mark.parametrize("command", ["audit", "arena", "benchmark"])
def test_other_commands_judge_by_criteria_too(
    command: str, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with a real model; what they write says by what was judged."""
    (tmp_path / "exam.yaml").write_text(FILE)
    rows = [{**each.to_record(), "answer1_model_id": "a", "answer2_model_id": "b", "label": 1}
            for each in make_samples(3)]  # fmt: skip
    questions = write_jsonl(tmp_path / "q.jsonl", rows)
    answers = [
        write_jsonl(
            tmp_path / f"{name}.jsonl",
            [{"question_id": k, "question_body": f"Q {k}?", "text": f"{name} {k}", "model": name} for k in range(3)],
        )
        for name in ("one", "two")
    ]
    what = {
        "audit": ["--question-file", questions, "--only", "position"],
        "arena": ["--answers", *answers],
        "benchmark": ["pairs", "--data", questions],
    }
    argv = [command, *what[command], "--model", model_folder, "--criteria", tmp_path / "exam.yaml", "--scoring",
            "expected", "--dtype", "float32", "--device", "cpu", "--output-dir", tmp_path / "out"]  # fmt: skip
    assert run_command([str(word) for word in argv]) == 0
    (forward,) = (tmp_path / "out").rglob("forward.jsonl")
    for record in lasting(forward):
        assert [each["name"] for each in record["pred_aspects"]] == ["Truth", "Brevity"]
        assert max(record["pred_expected_scores"]) <= 5
    run = json.loads((forward.parent / "run.json").read_text())
    assert Criteria.from_record(run["settings"]["criteria"]) == EXAM
    if command == "audit":
        run = json.loads((tmp_path / "out" / "audit.json").read_text())
        assert Criteria.from_record(run["settings"]["criteria"]) == EXAM


def test_criteria_and_what_was_judged_by_them_survive_the_way_to_a_replica(model_folder: Path) -> None:
    """What goes to another process and comes back from it is pickled."""
    engine = load_engine(model_folder)
    settings = JudgeSettings(criteria=EXAM, scoring="expected")
    for judged in Judge(engine).run(make_samples(2), ("forward", "reversed"), settings):
        there = pickle.loads(pickle.dumps((settings, judged)))
        assert there == (settings, judged)
        assert there[1].to_record() == judged.to_record()


@pytest.mark.usefixtures("without_a_key")
def test_a_server_judges_by_criteria(tmp_path: Path, pairs_file: Path) -> None:
    (tmp_path / "exam.yaml").write_text(FILE)
    for api, text in (("chat", "Score: 4/5 2/5\nwell"), ("completions", "4 2\nwell")):
        with Played(lambda *_, text=text: wrote(text)) as server:
            argv = ["judge", "--engine", "openai", "--model", "some/judge", "--question-file", str(pairs_file),
                    "--base-url", server.url, "--api", api, "--limit", "2", "--orders", "forward",
                    "--criteria", str(tmp_path / "exam.yaml"), "--output-dir", str(tmp_path / api)]  # fmt: skip
            assert run_command(argv) == 0
            assert len(server.bodies) == 4
        for record in lasting(tmp_path / api / "forward.jsonl"):
            assert record["pred_scores"] == [4.0, 2.0]
            assert [each["scores"] for each in record["pred_aspects"]] == [[4.0, 2.0]] * 2


def test_a_training_row_of_one_aspect_or_one_answer_is_learnt_as_it_is_asked(model_folder: Path) -> None:
    engine = load_engine(model_folder)
    encoder = ExampleEncoder(engine.tokenizer, 2000)
    criteria = {"name": "exam", "scale": [1, 5], "aspects": [{"name": "Brevity", "text": "It is short."}]}
    row = {"question_id": 1, "question_body": "Who?", "answer1_body": "Ada.", "answer2_body": "Bob.",
           "text": "5 2\nAda is right.", "criteria": criteria}  # fmt: skip
    pair = TrainingSample.from_line(Line(row, Path("r"), 1))
    assert pair.judgement.scores == (5.0, 2.0)
    swapped = pair.swapped().shown()
    assert swapped.text.startswith("2 5\n")
    example = encoder.encode(pair.shown())
    prompt = render_prompt(Sample(1, "Who?", ["Ada.", "Bob."]), "pair", EXAM.aspects[1])
    assert engine.tokenizer.decode(example.input_ids[1:-1]) == prompt + "5 2\nAda is right."
    assert example.num_prompt == len(engine.tokenizer(prompt).input_ids)
    assert example.num_score_line == len(engine.tokenizer("5 2\n", add_special_tokens=False).input_ids)
    one = {name: value for name, value in row.items() if name != "answer2_body"} | {"text": "4\nShort."}
    grade = TrainingSample.from_line(Line(one, Path("r"), 1))
    assert (grade.judgement.scores, grade.swapped()) == ((4.0,), grade)
    shown = grade.shown(swapped=True)
    assert (shown.task, shown.aspect) == ("grade", EXAM.aspects[1])
    two = criteria | {"aspects": [*criteria["aspects"], {"name": "Truth", "text": "True."}]}
    with pytest.raises(ValueError, match=r"criteria: a training row has one aspect, found 2"):
        TrainingSample.from_line(Line({**row, "criteria": two}, Path("r"), 1))


def test_the_snippet_of_the_docs_runs(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tasks.md").read_text("utf-8"), re.DOTALL)
    assert 'Judge.load("tiny")' in code
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {"planted": Judge(load_engine(model_folder))}
    exec(code.replace('Judge.load("tiny")', "planted"), names)
    verdict = names["verdict"]
    assert verdict.scores == pytest.approx(names["criteria"].mean([b.scores for b in verdict.aspects.values()]))
    assert list(verdict.aspects) == [aspect.name for aspect in names["criteria"].aspects]
