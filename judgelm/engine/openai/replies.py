"""A server's answer as what follows the prompt."""

from __future__ import annotations

from judgelm.engine.interface import Request
from judgelm.judgement import Judgement
from judgelm.score_lines import find_score_line, thoughts_end


def continue_prompt(text: str, request: Request) -> str:
    """A chat's answer as if it continued the prompt; see `OpenAIEngine`."""
    prefill = request.prefill
    begun = text.lstrip()
    if not prefill or not begun:
        return begun if prefill else text
    whole = Judgement.parse(begun, request.num_answers)
    if whole.scores is not None and begun.startswith(prefill):
        return begun.removeprefix(prefill)
    # servers strip the space in front of an answer
    visible = begun[thoughts_end(begun) or 0 :].lstrip()
    for more in (f" {begun}", f" {visible}", f"\n{visible}"):
        read = Judgement.parse(prefill + more, request.num_answers).scores
        if read is not None and read[0] == float(prefill):
            return more
    if whole.scores is not None and whole.scores[0] == float(prefill):
        return ", ".join(["", *(f"{score:g}" for score in whole.scores[1:])]) + f"\n{whole.reasons}"
    return f" {visible}"


def score_end(text: str, request: Request) -> int | None:
    """Where the scores end in what follows the prompt; None where there are none."""
    line = find_score_line(request.prefill + text, request.num_answers)
    return None if line is None else max(0, line.end - len(request.prefill))
