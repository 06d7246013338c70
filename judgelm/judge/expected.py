"""How likely a judge finds score lines: all that two answers can have, and of more answers the likeliest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from judgelm.criteria import Scale
from judgelm.distribution import Distribution, line_text, score_lines
from judgelm.engine.interface import Engine, Generation, LineScores, Request
from judgelm.judge.judged import Likelihood

_MOST = 500
"""lines read at once"""


def read_likelihoods(
    engine: Engine, requests: Sequence[Request], scale: Scale
) -> Iterator[tuple[Generation, Likelihood | None]]:
    """The likeliest line after each prompt, as if it had been written, and what follows from all lines; None where they
    could not be read.
    """
    prefills = {request.key: request.prefill for request in requests}
    for scores, found in read_distributions(engine, requests, scale):
        text = line_text(found.likeliest_line, prefills[scores.key]).rstrip("\n") if found else ""
        generation = Generation(scores.key, text, scores.num_prompt_tokens, scores.num_tokens, scores.finish_reason)
        yield generation, Likelihood.of(found) if found else None


def read_distributions(
    engine: Engine, requests: Sequence[Request], scale: Scale
) -> Iterator[tuple[LineScores, Distribution | None]]:
    """How likely a judge finds the score lines after each prompt; None where not even one prompt fits the memory.

    Of up to two answers all lines are read in one pass. Of more the beginnings with two scores are read first, then,
    from the likeliest of them on, a score a pass; `Distribution.mass` is what the lines reached have together.
    """
    kinds: dict[tuple[str, int], list[Request]] = defaultdict(list)
    for request in requests:
        if request.num_answers > 2:
            yield _follow(engine, request, scale)
        else:
            kinds[request.prefill, request.num_answers].append(request)
    for (prefill, num_answers), alike in kinds.items():
        lines = score_lines(prefill, num_answers, scale)
        for scores in engine.score(alike, [line_text(line, prefill) for line in lines]):
            yield scores, Distribution.from_log_probs(lines, scores.log_probs) if scores.log_probs else None


def _follow(engine: Engine, request: Request, scale: Scale) -> tuple[LineScores, Distribution | None]:
    begun = score_lines("", 2, scale)
    while True:
        whole = len(begun[0]) == request.num_answers
        texts = [line_text(line) if whole else line_text(line).rstrip("\n") for line in begun]
        (scores,) = engine.score([request], texts)
        found = Distribution.from_log_probs(begun, scores.log_probs) if scores.log_probs else None
        if whole or found is None:
            return scores, found
        likeliest = sorted(zip(found.probabilities, begun, strict=True), reverse=True)[: _MOST // len(scale.scores)]
        begun = [(*line, score) for _, line in likeliest for score in scale.scores]
