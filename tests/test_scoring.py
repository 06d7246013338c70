"""Score lines' probabilities, read in one pass, against whatever else can say the same."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from conftest import make_samples
from test_engine import load_engine

from judgelm.distribution import Distribution, both_orders, likeliest, line_text, score_lines
from judgelm.encoding import encode_prompt
from judgelm.engine import Request, Sampling
from judgelm.engine.hf import HFEngine
from judgelm.engine.score_line import LineTree, line_tokens
from judgelm.verdict import Outcome


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
    mean = both_orders(distribution.outcomes, back)
    assert mean == pytest.approx({Outcome.WIN: 0.35, Outcome.TIE: 0.1, Outcome.LOSE: 0.55})
    assert likeliest(mean) is Outcome.LOSE
    assert likeliest({Outcome.WIN: 0.5, Outcome.TIE: 0.0, Outcome.LOSE: 0.5}) is Outcome.TIE
    with pytest.raises(ValueError, match="no score line has any probability"):
        Distribution.from_log_probs([(1, 1)], [-math.inf])
