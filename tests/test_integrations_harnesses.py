"""inspect_ai, lm-evaluation-harness and mlflow themselves, in processes of their own, with a judge that is served."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, ROOT
from judging import Scripted
from played_judges import PlayedJudge, by_length
from serving import local_stack

from judgelm.adapters.judges import find_judge, interval, make_sample
from judgelm.errors import InputError
from judgelm.evaluation.rate import mean_rate
from judgelm.judge import Judge, JudgeChoice
from judgelm.judgement import Outcome
from judgelm.sample import Sample
from judgelm.serve.client import Client

TOOLS = ROOT / ".venv-tools" / "bin" / "python"
EXAMPLES = ROOT / "examples" / "integrations"
needs_tools = pytest.mark.skipif(not TOOLS.exists(), reason="other people's tools are not here (scripts/setup_tools)")


def run_tool(*arguments: str | Path, folder: Path, **env: str) -> str:
    """What a script or a module prints, run where the tools are."""
    paths = {
        "PYTHONPATH": str(ROOT),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HF_DATASETS_CACHE": str(folder / "cache"),
    }
    command = [str(TOOLS), "-W", "ignore", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | paths | env, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def numbers(text: str) -> dict[str, float]:
    """Lines of a name and a number."""
    return {name: float(value) for name, value in re.findall(r"^(\S+(?: \S+)?) (-?\d+\.\d+|nan)$", text, re.MULTILINE)}


def played(sample: Sample) -> list[float] | None:
    """As `by_length`; what says nothing cannot be judged, and "same" is always better where it is shown first."""
    if any("unreadable" in answer for answer in sample.answers):
        return None
    if len(sample.answers) == 2 and "same" in sample.answers:
        return [9, 1]
    return by_length(sample)


INSPECT = """
import json, sys
import inspect_ai
from inspect_ai import Task
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, ContentImage, ModelOutput, ModelUsage, get_model
from inspect_ai.solver import generate
from judgelm.adapters.inspect import grade_scorer, pairwise_scorer, write_answers
from judgelm.errors import InputError

def mock(text):
    def answer(messages, *_):
        output = ModelOutput.from_content("mockllm/model", text or messages[-1].text)
        output.usage = ModelUsage()
        return output
    return get_model("mockllm/model", custom_outputs=answer, memoize=False)

url, logs = sys.argv[1:]
samples = [
    # the model says what it is asked
    Sample(id="wins", input="four", metadata={"other": "two"}),
    Sample(id="loses", input="two", metadata={"other": "four"}),
    Sample(id="contradicts", input="same", metadata={"other": "else"}),
    Sample(id="unread", input="unreadable", metadata={"other": "two"}),
    Sample(id="lacks", input="five", metadata={}),
    Sample(id="dialogue", metadata={"other": "b"}, input=[
        ChatMessageUser(content="before"), ChatMessageAssistant(content="said"), ChatMessageUser(content="aaa")]),
    Sample(id="image", metadata={"other": "b"}, input=[
        ChatMessageUser(content=[ContentImage(image="data:image/png;base64,iVBORw0KGgo=")])]),
]
task = Task(dataset=samples, solver=generate(), scorer=[
    pairwise_scorer(url, field="other"), pairwise_scorer(url, mock("12345")), grade_scorer(url),
    # no sample has a target
    pairwise_scorer(url), grade_scorer(url, with_target=True)])
(log,) = inspect_ai.eval(task, model=mock(None), log_dir=logs, display="none", epochs=2)
assert log.status == "success", log.error
found = {}
for scores in log.results.scores:
    found[scores.name] = {name: each.value for name, each in scores.metrics.items()}
    found[scores.name] |= {"scored": scores.scored_samples, "unscored": scores.unscored_samples}
said = {sample.id: {name: [s.value, s.reason, s.explanation, s.metadata] for name, s in sample.scores.items()}
        for sample in log.samples}
try:
    pairwise_scorer(url, model="nobody")
except InputError as error:
    print(error, file=sys.stderr)
print(json.dumps({"metrics": found, "samples": said}))
"""


@needs_tools
def test_inspect_compares_and_grades_with_intervals(tmp_path: Path) -> None:
    with PlayedJudge(played, busy=1) as judge:
        printed = numbers(
            run_tool(
                EXAMPLES / "inspect_task.py", "--judge", judge.url, "--log-dir", tmp_path / "logs", folder=tmp_path
            )
        )
        script = tmp_path / "script.py"
        script.write_text(INSPECT, encoding="utf-8")
        found = json.loads(run_tool(script, judge.url, tmp_path / "more", folder=tmp_path).splitlines()[-1])
    # 10 and 6 characters win, 4 and 3 lose: halves, and of three topics
    clusters, won = ["sums", "sums", "towns", "art"], [1.0, 0.0, 1.0, 0.0]
    drawn = mean_rate(won, clusters)
    assert printed["pairwise_scorer win_rate"] == 0.5
    assert printed["pairwise_scorer win_rate_low"] == pytest.approx(drawn.low, abs=1e-3)
    assert printed["pairwise_scorer win_rate_high"] == pytest.approx(drawn.high, abs=1e-3)
    assert printed["grade_scorer mean_grade"] == 6
    answers = (tmp_path / "logs" / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    first = {"question_id": 1, "question_body": "What is 2 + 2?", "text": "2 + 2 is 4.", "model": "mockllm/model"}
    assert json.loads(answers[0]) == first
    _check_inspect(found["metrics"], found["samples"])


def _check_inspect(metrics: dict[str, Any], samples: dict[str, Any]) -> None:
    field, other, grades = metrics["pairwise_scorer"], metrics["pairwise_scorer1"], metrics["grade_scorer"]
    # a win, a loss, a contradiction and the dialogue, in two epochs each, which are not independent
    epochs = mean_rate([1, 0, 0.5, 1] * 2, ["wins", "loses", "contradicts", "dialogue"] * 2)
    bounds = (field["win_rate"], field["win_rate_low"], field["win_rate_high"])
    assert bounds == pytest.approx((epochs.value, epochs.low, epochs.high))
    assert (field["consistency"], field["scored"], field["unscored"]) == (0.75, 8, 6)
    # of 12345 only the contradiction is not a loss
    assert (other["win_rate"], other["unscored"]) == (0.1, 4)
    # four, two, same, five, aaa
    assert (grades["mean_grade"], grades["unscored"]) == ((4 + 3 + 4 + 4 + 3) / 5, 4)
    assert [metrics[name]["unscored"] for name in ("pairwise_scorer2", "grade_scorer1")] == [14, 14]
    value, reason, explanation, about = samples["wins"]["pairwise_scorer"]
    assert (value, reason, about["outcome"], about["judge"]) == (1, None, "win", "played")
    assert explanation == "4 3\n\n3 4"
    assert samples["unread"]["grade_scorer"][1] == "grader_failed"
    assert samples["lacks"]["pairwise_scorer"][1] == "scoring_failed"
    assert "text alone" in samples["image"]["grade_scorer"][2]


@needs_tools
def test_lm_eval_judges_the_generations_of_a_task(tmp_path: Path, model_folder: Path) -> None:
    tasks = shutil.copytree(EXAMPLES / "lm_eval", tmp_path / "tasks")
    # one generation of a row taken before, and what is said of it after
    text = (tasks / "judgelm_pairs.yaml").read_text(encoding="utf-8").replace("judgelm_pairs", "judgelm_first")
    taken = "      - function: take_first\n"
    text = text.replace("    filter:\n", f"    filter:\n{taken}").replace("topic\n", f"topic\n{taken}")
    (tasks / "judgelm_first.yaml").write_text(text, encoding="utf-8")
    with local_stack(model_folder) as (_, _, api):
        names = "judgelm_pairs,judgelm_grades,judgelm_first"
        flags = ["--model", "dummy", "--tasks", names, "--include_path", str(tasks)]
        run_tool(
            *("-m", "lm_eval", "run", *flags, "--output_path", str(tmp_path / "out"), "--log_samples"),
            folder=tmp_path,
            JUDGELM_JUDGE=api.url,
        )
        rows = [json.loads(line) for line in (EXAMPLES / "lm_eval" / "questions.jsonl").read_text().splitlines()]
        # the model says the same to all
        pairs = [{"question": row["question"], "answers": ["lol", row["other"]]} for row in rows]
        client = Client(api.url)
        judged = [client.judge_all([pair], scoring="expected")[0] for pair in pairs]
        graded = [
            client.judge(row["question"], ["lol"], task="grade", scoring="expected", orders="forward") for row in rows
        ]
    (results,) = (tmp_path / "out").rglob("results_*.json")
    metrics = json.loads(results.read_text(encoding="utf-8"))["results"]
    won = [{"win": 1.0, "tie": 0.5, "lose": 0.0}[each["outcome"]] for each in judged]
    drawn = mean_rate(won, [row["topic"] for row in rows])
    found = metrics["judgelm_pairs"]
    assert found["judge_score,judged"] == pytest.approx(sum(won) / len(won))
    assert found["judge_score_low,judged"] == pytest.approx(drawn.low)
    assert found["judge_score_high,judged"] == pytest.approx(drawn.high)
    assert found["judge_consistency,judged"] == sum(each["consistent"] for each in judged) / len(judged)
    assert found["judge_unread,judged"] == 0
    scores = ("judge_score", "judge_score_low", "judge_score_high", "judge_consistency", "judge_unread")
    assert all(metrics["judgelm_first"][f"{name},judged"] == found[f"{name},judged"] for name in scores)
    means = [each["scores"][0] for each in graded]
    assert metrics["judgelm_grades"]["judge_score,judged"] == pytest.approx(sum(means) / len(means), abs=1e-4)
    (samples,) = (tmp_path / "out").rglob("samples_judgelm_pairs_*.jsonl")
    said = json.loads(json.loads(samples.read_text(encoding="utf-8").splitlines()[0])["filtered_resps"][0][0])
    assert (said["answer"], said["outcome"], said["cluster"]) == ("lol", judged[0]["outcome"], "sums")


# in one process: mlflow takes its time to begin
MLFLOW = """
import json, runpy, sys
import mlflow
from judgelm.adapters.mlflow import make_scorer
from judgelm.errors import InputError

example, url, store = sys.argv[1:]
sys.argv = [example, "--judge", url, "--tracking-uri", store]
runpy.run_path(example, run_name="__main__")
outputs = ["four", {"choices": [{"message": {"role": "assistant", "content": "unreadable"}}]}, {"response": "two"}, 4]
said = [{"role": role, "content": "text"} for role in ("user", "assistant", "user")]
data = [{"inputs": {"messages": said, "other": "x"}, "outputs": output, "expectations": {"known": "12345"}}
        for output in outputs]
scorer = make_scorer(url, "short", other="known", reference="known")
try:
    make_scorer(url, reference="known")(inputs={"question": "?"}, outputs="a", expectations={"known": None})
except InputError as error:
    print(error)
print(json.dumps(mlflow.genai.evaluate(data=data, scorers=[scorer]).metrics))
"""


@needs_tools
def test_mlflow_shows_scores_with_intervals(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(MLFLOW, encoding="utf-8")
    with PlayedJudge(played) as judge:
        store = f"sqlite:///{tmp_path}/mlflow.db"
        said = run_tool(script, EXAMPLES / "mlflow_evaluate.py", judge.url, store, folder=tmp_path)
        asked = judge.requests[-1].samples[-1]
    printed = numbers(said)
    assert (printed["grade/mean"], printed["win_rate/mean"]) == (6, 0.625)
    drawn = mean_rate([1, 0, 1, 0.5], ["1", "2", "3", "4"])
    assert (printed["win_rate/low"], printed["win_rate/high"]) == pytest.approx((drawn.low, drawn.high), abs=1e-3)
    assert "expected 'known' among the expectations, found known" in said
    more = json.loads(said.splitlines()[-1])
    # two of four rows have a value, both shorter than 12345
    assert more["short/mean"] == 0
    assert asked.messages is not None
    assert (len(asked.messages), asked.reference) == (3, "12345")
    database = sqlite3.connect(tmp_path / "mlflow.db")
    rows = database.execute("select name, value, rationale, error from assessments where name = 'short'").fetchall()
    database.close()
    assert sorted(value for _, value, _, _ in rows if value not in (None, "null")) == ["0.0", "0.0"]
    assert any(error and "expected outputs to be a text" in error for *_, error in rows)


def test_samples_that_wait_are_judged_together_and_told_the_same() -> None:
    begun, go = threading.Event(), threading.Event()

    def rule(sample: Sample) -> list[float]:
        begun.set()
        assert go.wait(PATIENCE_S)
        return by_length(sample)

    found: dict[int, Any] = {}
    with PlayedJudge(rule) as judge:
        asked = find_judge(judge.url)

        def ask(number: int) -> None:
            (found[number],) = asked.ask([make_sample("?", ["a" * (1 + number % 3), "bb"])])

        first = threading.Thread(target=ask, args=(0,))
        first.start()
        assert begun.wait(PATIENCE_S)
        others = [threading.Thread(target=ask, args=(number,)) for number in range(1, 10)]
        for thread in others:
            thread.start()
        while len(asked._calls) < 9:
            assert all(thread.is_alive() for thread in others)
        go.set()
        for thread in (first, *others):
            thread.join(PATIENCE_S)
    outcomes = [Outcome.LOSE, Outcome.TIE, Outcome.WIN]
    assert {number: each.outcome for number, each in found.items()} == {k: outcomes[k % 3] for k in range(10)}
    # one, and then the nine that waited, of which three are different
    assert [len(request.samples) for request in judge.requests] == [1, 3]


def test_a_request_that_is_too_large_is_made_in_parts() -> None:
    with PlayedJudge(most_bytes=2000) as judge:
        samples = [make_sample("?", ["a" * size, "b" * 400]) for size in (1, 900, 2, 3000, 3)]
        found = find_judge(judge.url).ask(samples)
    outcomes = [Outcome.LOSE, Outcome.TIE, Outcome.LOSE, None, Outcome.LOSE]
    assert [each.outcome for each in found] == outcomes
    assert found[3].error == "the body is too large"


def test_a_judge_of_this_process_is_asked_as_a_served_one_is() -> None:
    texts = {}
    samples = [make_sample("Which?", ["long answer", "no"]), make_sample("Which?", ["unreadable", "no"])]

    class Judging(Scripted):
        def generate(self, requests: Any, sampling: Any, **more: Any) -> Any:
            for request in requests:
                first = request.prompt.index("[The Start of Assistant 1")
                texts[request.seed_key] = "10 2" if "long" in request.prompt[first : first + 60] else "2 10"
                if "unreadable" in request.prompt:
                    texts[request.seed_key] = "nobody knows"
                yield from super().generate([request], sampling, **more)

    engine = Judging(texts)
    asked = find_judge(JudgeChoice("scripted", lambda: Judge(engine), {"engine": "scripted"}), scoring="greedy")
    with PlayedJudge(lambda sample: None if "unreadable" in str(sample.answers) else by_length(sample)) as judge:
        served = find_judge(judge.url, scoring="greedy").ask(samples)
    here = asked.ask(samples)
    for one, other in zip(here, served, strict=True):
        assert (one.outcome, one.scores, one.consistent, one.points) == (
            *(other.outcome, other.scores, other.consistent),
            other.points,
        )
    assert (here[0].points, here[1].points) == (1, None)
    assert here[0].texts == ("10 2", "2 10")


NOTHING: dict[str, Any] = {
    "scores": None,
    "outcome": None,
    "consistent": None,
    "judgements": [],
    "suspicious_markers": 0,
}


def test_a_calibrated_judge_is_quoted_by_its_map() -> None:
    sample = make_sample("?", ["a", "b"])
    with PlayedJudge() as judge:
        asked = find_judge(judge.url)
        asked.ask([sample])
        (name,) = (each.question_id for each in judge.requests[0].samples)
        mapped = {"win": 0.2, "tie": 0.7, "lose": 0.1}
        said = {
            **NOTHING,
            **{"question_id": name, "scores": [8, 2], "outcome": "tie", "consistent": True},
            "probabilities": {"win": 0.9, "tie": 0.06, "lose": 0.04},
            "calibrated": {"probabilities": mapped, "tie_threshold": 0.5, "map": "m"},
        }
        judge.answer = {"data": [said]}
        (found,) = asked.ask([sample])
    assert found.to_record()["probabilities"] == mapped
    assert (found.outcome, found.points) == (Outcome.TIE, 0.5)


def test_a_judge_that_is_not_there_is_told_in_one_line() -> None:
    with PlayedJudge() as judge, pytest.raises(InputError, match="has no judge 'other' \\(it has played\\)"):
        find_judge(judge.url, model="other")
    # what is no result of ours is told, not believed
    for answer, problem in (
        ({"data": [{"question_id": "x"}]}, "Field required"),
        ({"data": [{"question_id": 7, **NOTHING}]}, "other samples"),
        ({"choices": []}, "not the answer of a judge that judgelm serves"),
    ):
        with PlayedJudge() as judge:
            judge.answer = answer
            with pytest.raises(InputError, match=problem):
                find_judge(judge.url).ask([make_sample("?", ["a", "b"])])
    with pytest.raises(InputError, match="tiny, which is no URL"):
        find_judge("tiny", model="other")
    with pytest.raises(InputError, match="expected pair or grade"):
        find_judge("tiny", "multi")
    with pytest.raises(InputError, match="half a surrogate pair"):
        make_sample("\ud800", ["a", "b"])
    for reference in ("", float("nan"), ["4", "four"]):
        with pytest.raises(InputError, match="expected the reference to be a text, found"):
            make_sample("?", ["a"], reference)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=":x: expected an address such as"):
        find_judge("http://127.0.0.1:x")


def test_an_interval_is_that_of_evaluate() -> None:
    drawn = mean_rate([1, 0, 1, 1], ["a", "a", "b", "c"])
    found = interval("x", [1, 0, 1, 1], ["a", "a", "b", "c"], (0, 1))
    assert found == {"x": 0.75, "x_low": drawn.low, "x_high": drawn.high}
    assert interval("x", [], [], (0, 1)) == {}
