"""Score lines' probabilities, read in one pass, against whatever else can say the same."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_samples, write_jsonl
from judging import run_command
from test_engine import load_engine

from judgelm import Judge, Sample
from judgelm.criteria import Aspect, Criteria, Scale
from judgelm.distribution import Distribution, likeliest, line_text, score_lines
from judgelm.encoding import encode_prompt
from judgelm.engine.hf.engine import HFEngine
from judgelm.engine.hf.line_tree import LineTree
from judgelm.engine.interface import Request, Sampling
from judgelm.engine.score_line import line_tokens
from judgelm.evaluation.metrics.agreement import MISSING, encode
from judgelm.evaluation.metrics.calibration import Confidences, brier, calibration_error
from judgelm.judgement import Judgement, Outcome
from judgelm.verdict import BothOrders, Reading


def asked_for(engine: HFEngine, prefill: str, count: int = 3) -> list[Request]:
    made = []
    for sample in make_samples(count):
        prompt = encode_prompt(sample, "single" if prefill else "pair", engine.tokenizer, engine.context_length)
        made.append(Request(sample.key, prompt.text, prompt.input_ids, prefill))
    return made


@pytest.mark.parametrize("prefill", ["", "10"])
@pytest.mark.parametrize("kind", ["byte", "sentencepiece"])
def test_probabilities_are_those_of_a_forward_pass_over_each_line(
    kind: str, prefill: str, model_folder: Path, sentencepiece_folder: Path
) -> None:
    engine = load_engine(model_folder if kind == "byte" else sentencepiece_folder)
    lines = [line_text(scores, prefill) for scores in score_lines(prefill)]
    assert len(lines) == (10 if prefill else 100)
    tokens = line_tokens(lines, prefill, engine.tokenizer)
    found = list(engine.score(asked_for(engine, prefill), lines))
    for request, scores in zip(asked_for(engine, prefill), sorted(found, key=lambda one: one.key), strict=True):
        assert scores.key == request.key
        for line, log_prob in list(zip(tokens, scores.log_probs, strict=True))[:: 1 if prefill else 9]:
            ids = torch.tensor([[*request.input_ids, *line]])
            with torch.inference_mode():
                logits = engine.model(ids).logits[0, -len(line) - 1 : -1].double().log_softmax(-1)
            expected = logits[range(len(line)), list(line)].sum().item()
            assert log_prob == pytest.approx(expected, abs=1e-4)


def test_what_is_drawn_from_the_model_has_these_probabilities(model_folder: Path) -> None:
    """Constrained sampling renormalises at each step, so only the first score can be compared."""
    engine = load_engine(model_folder)
    request = asked_for(engine, "", 1)[0]
    lines = score_lines()
    scores = next(engine.score([request], [line_text(line) for line in lines]))
    distribution = Distribution.from_log_probs(lines, scores.log_probs)
    assert sum(distribution.probabilities) == pytest.approx(1)
    assert 0 < distribution.mass < 1
    tree = LineTree(line_tokens([line_text(line) for line in lines], "", engine.tokenizer))
    # 9 first digits, "10", a space after ten scores, and as many second scores
    assert len(tree.nodes) == 9 + 1 + 10 + 10 * (9 + 1)
    many = [Request(str(k), request.prompt, request.input_ids) for k in range(3000)]
    sampling = Sampling(temperature=1.0, max_new_tokens=1, constrained=True)
    drawn = [generation.text for generation in engine.generate(many, sampling)]
    with torch.inference_mode():
        logits = engine.model(torch.tensor([request.input_ids])).logits[0, -1]
    digits = {text: line_tokens([f"{text} 1\n"], "", engine.tokenizer)[0][0] for text in "123456789"}
    weights = torch.stack([logits[token] for token in digits.values()]).softmax(-1).tolist()
    assert {text: drawn.count(text) / 3000 for text in digits} == pytest.approx(
        dict(zip(digits, weights, strict=True)), abs=0.03
    )


def test_the_command_writes_probabilities_and_evaluate_reads_them(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = make_samples(6)
    questions = write_jsonl(tmp_path / "q.jsonl", [sample.to_record() for sample in samples])
    teacher = write_jsonl(tmp_path / "t.jsonl", [{"question_id": k, "text": f"{k} 3"} for k in range(6)])
    for scoring in ("expected", "greedy"):
        argv = ["judge", "--model", model_folder, "--question-file", questions, "--output-dir", tmp_path / scoring,
                "--scoring", scoring, "--scores-only", "--constrained", "--dtype", "float32"]  # fmt: skip
        assert run_command([str(word) for word in argv]) == 0
    records = {
        order: [json.loads(line) for line in (tmp_path / "expected" / f"{order}.jsonl").read_text().splitlines()]
        for order in ("forward", "reversed")
    }
    verdicts = Judge.load(model_folder, dtype="float32").judge(samples, orders="both", scoring="expected")
    agreed = 0
    for forward, back, verdict in zip(records["forward"], records["reversed"], verdicts, strict=True):
        assert sum(forward["pred_probabilities"].values()) == pytest.approx(1)
        assert Judgement.parse(forward["pred_text"]).outcome == forward["pred_outcome"]
        assert 1 <= min(forward["pred_expected_scores"]) <= max(forward["pred_expected_scores"]) <= 10
        assert (forward["pred_tokens"], forward["pred_finish_reason"]) == (0, "stop")
        assert verdict.probabilities is not None
        win = (forward["pred_probabilities"]["win"] + back["pred_probabilities"]["lose"]) / 2
        assert verdict.probabilities[Outcome.WIN] == pytest.approx(win, abs=1e-6)
        assert verdict.scores is not None
        first = (forward["pred_expected_scores"][0] + back["pred_expected_scores"][1]) / 2
        assert verdict.scores[0] == pytest.approx(first, abs=1e-5)
        agreed += verdict.outcome == Outcome.from_scores(forward["question_id"], 3)
    capsys.readouterr()
    files = [str(tmp_path / "expected" / f"{order}.jsonl") for order in ("forward", "reversed")]
    assert run_command(["evaluate", "--teacher", str(teacher), "--forward", files[0], "--reversed", files[1]]) == 0
    said = capsys.readouterr().out
    assert "Brier score" in said
    metrics = json.loads(said.splitlines()[-1])
    assert metrics["agreement_both_orders"] == pytest.approx(agreed / 6)
    assert 0 <= metrics["calibration_error"] <= 1
    assert 0 <= metrics["brier"] <= 2
    greedy = [json.loads(line) for line in (tmp_path / "greedy" / "forward.jsonl").read_text().splitlines()]
    assert not any("pred_probabilities" in record for record in greedy)


def test_calibration_by_hand() -> None:
    sure = {Outcome.WIN: 0.9, Outcome.TIE: 0.1, Outcome.LOSE: 0.0}
    unsure = {Outcome.WIN: 0.4, Outcome.TIE: 0.3, Outcome.LOSE: 0.3}
    truths = [Outcome.WIN, Outcome.LOSE, Outcome.TIE]
    given, all_rows = Confidences.of([sure, sure, unsure], encode(truths, MISSING)), np.ones(3, dtype=bool)
    assert brier(given).over(all_rows) == pytest.approx((0.02 + (0.81 + 0.01 + 1) + (0.16 + 0.49 + 0.09)) / 3)
    # two rows at 0.9 of which one is right, one at 0.4 that is wrong
    assert calibration_error(given).over(all_rows) == pytest.approx((abs(1.8 - 1) + 0.4) / 3)


@pytest.mark.parametrize("num_answers", [3, 4])
def test_expected_scores_of_many_answers_are_those_of_all_lines(num_answers: int, model_folder: Path) -> None:
    """A scale of three scores has 27 or 81 lines, each of which is read by a forward pass of its own."""
    engine = load_engine(model_folder)
    criteria = Criteria("short", (Aspect("Any", "Anything.", scale=Scale(1, 3)),))
    samples = [Sample(k, f"Question {k}?", [f"answer {k} {j}" for j in range(num_answers)]) for k in range(2)]
    verdicts = Judge(engine).judge(samples, task="multi", criteria=criteria, scoring="expected")
    lines = list(itertools.product(range(1, 4), repeat=num_answers))
    for sample, verdict in zip(samples, verdicts, strict=True):
        prompt = engine.fit(sample, "multi", 64, criteria.aspects[0]).input_ids
        weights = []
        for line in line_tokens([line_text(each) for each in lines], "", engine.tokenizer):
            with torch.inference_mode():
                logits = engine.model(torch.tensor([[*prompt, *line]])).logits[0, -len(line) - 1 : -1]
            weights.append(logits.double().log_softmax(-1)[range(len(line)), list(line)].sum().exp().item())
        columns = zip(*lines, strict=True)
        expected = [sum(w * s for w, s in zip(weights, c, strict=True)) / sum(weights) for c in columns]
        assert verdict.forward is not None
        assert verdict.forward.expected_scores == pytest.approx(expected, abs=1e-4)


def test_many_answers_are_scored_by_the_command_and_the_mass_is_told(model_folder: Path, tmp_path: Path) -> None:
    rows = [{"question_id": k, "question_body": "Q?", **{f"answer{j}_body": f"a{j}" for j in range(1, 3 + k)}}
            for k in range(3)]  # fmt: skip
    questions = write_jsonl(tmp_path / "q.jsonl", rows)
    argv = ["judge", "--model", model_folder, "--question-file", questions, "--output-dir", tmp_path / "out",
            "--task", "multi", "--scoring", "expected", "--dtype", "float32"]  # fmt: skip
    assert run_command([str(word) for word in argv]) == 0
    for row, line in zip(rows, (tmp_path / "out" / "forward.jsonl").read_text().splitlines(), strict=True):
        record = json.loads(line)
        assert len(record["pred_expected_scores"]) == len(record["pred_scores"]) == 2 + row["question_id"]  # type: ignore[operator]
        assert 1 <= min(record["pred_expected_scores"]) <= max(record["pred_expected_scores"]) <= 10
        assert 0 < record["pred_score_line_mass"] < 1
        assert ("pred_probabilities" in record) == (row["question_id"] == 0)


def test_a_distribution_says_what_follows_from_it() -> None:
    lines = [(8, 7), (7, 8), (7, 7), (9, 2)]
    distribution = Distribution.from_log_probs(lines, [math.log(p / 2) for p in (0.2, 0.4, 0.1, 0.3)])
    assert distribution.probabilities == pytest.approx((0.2, 0.4, 0.1, 0.3))
    assert distribution.mass == pytest.approx(0.5)
    assert distribution.expected == pytest.approx((7.8, 5.9))
    assert distribution.outcomes == pytest.approx({Outcome.WIN: 0.5, Outcome.TIE: 0.1, Outcome.LOSE: 0.4})
    assert distribution.outcome is Outcome.WIN
    # the likeliest line of all speaks of another outcome
    assert distribution.likeliest_line == (9, 2)
    back = {Outcome.WIN: 0.7, Outcome.TIE: 0.1, Outcome.LOSE: 0.2}
    said = Judgement.parse("8 7")
    forward = Reading.of(said, distribution.outcomes)
    mean = BothOrders(forward, Reading.of(said, back, order="reversed")).probabilities
    assert mean is not None
    assert mean == pytest.approx({Outcome.WIN: 0.35, Outcome.TIE: 0.1, Outcome.LOSE: 0.55})
    assert likeliest(mean) is Outcome.LOSE
    assert likeliest({Outcome.WIN: 0.5, Outcome.TIE: 0.0, Outcome.LOSE: 0.5}) is Outcome.TIE
    with pytest.raises(ValueError, match="no score line has any probability"):
        Distribution.from_log_probs([(1, 1)], [-math.inf])
