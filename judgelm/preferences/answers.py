"""Judged pairs of answers -> which one is preferred."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from judgelm.dialogue import USER, Turn
from judgelm.errors import InputError, SettingError
from judgelm.evaluation.results import JudgedSample, judged_task, read_folder
from judgelm.files import PathLike
from judgelm.jsonl import Line, index_by_id, read_lines
from judgelm.judgement import Outcome
from judgelm.preferences.preferences import Pair, Preferences
from judgelm.samples import make_sample

_TASK = "pair"


def prefer_answers(folder: PathLike, sure: float | None = None) -> Preferences:
    """The pairs of a folder judged in both orders of which both orders say which answer is better.

    With `sure` those of which that is so probable at least, by the mean of both orders; scoring `expected` says it.
    The margin is the difference of the mean scores. Answers are those that the judge was shown, without thoughts.
    Raises InputError for a folder of another task, one order alone, or no probabilities, and as `read_folder`.
    """
    if sure is not None and not 0.5 <= sure < 1:
        raise SettingError("sure", f"{sure:g}: expected a probability from 0.5 on, below 1")
    check_pairs(folder)
    samples = read_folder(folder)
    lines = index_by_id(read_lines(Path(folder).expanduser() / "forward.jsonl", finite=False))
    pairs, left_out, as_messages = [], Counter[str](), False
    for sample in samples:
        line = lines[sample.key]
        if sure is not None and sample.probabilities is None:
            raise InputError(f"{line.where}: has no probabilities, which sure needs (judgelm judge --scoring expected)")
        said = _choose(sample, sure)
        found = _pair(line, sample, said) if isinstance(said, Outcome) else said
        if isinstance(found, str):
            left_out[found] += 1
            continue
        pairs.append(found)
        as_messages = as_messages or len(found.prompt) > 1
    return Preferences.of("answers", [folder], len(samples), pairs, left_out, as_messages, sure)


def check_pairs(folder: PathLike) -> None:
    """Raises InputError for a folder that does not hold judgements of pairs in both orders."""
    place = Path(folder).expanduser()
    task = judged_task(folder)
    if task not in (_TASK, None):
        raise InputError(f"{place}: preferences are those of task {_TASK}, found task {task}")
    for order in ("forward", "reversed"):
        if place.is_dir() and not (place / f"{order}.jsonl").exists():
            raise InputError(
                f"{place}: no {order}.jsonl there: preferences need both orders (judgelm judge --orders both)"
            )


def _choose(sample: JudgedSample, sure: float | None) -> Outcome | str:
    """Win where answer 1 is preferred, lose where answer 2 is; else why none is."""
    if any(reading.scores is None for reading in sample.readings):
        return "without a verdict that could be read"
    if sure is not None and sample.probabilities is not None:
        preferred = [each for each in (Outcome.WIN, Outcome.LOSE) if sample.probabilities[each] >= sure]
        return preferred[0] if len(preferred) == 1 else "not sure enough"
    if not sample.consistent:
        return "contradicted by the other order"
    found = sample.outcome_by("agree")
    return "ties" if found is None or found is Outcome.TIE else found


def _pair(line: Line, verdict: JudgedSample, said: Outcome) -> Pair | str:
    """The pair, or why there is none."""
    sample = make_sample(line, _TASK, keep_thinking=line.record.get("pred_thoughts") is None)
    first, second = sample.answers
    chosen, rejected = (first, second) if said is Outcome.WIN else (second, first)
    scores, dialogue = verdict.scores, sample.dialogue
    assert scores is not None, "all were read"
    margin = (scores[0] - scores[1]) * said.sign
    if sample.images:
        return "with images"
    if not first.strip() or not second.strip():
        return "with an empty answer"
    if first == second:
        return "of two answers that are the same"
    if margin <= 0:
        return "whose mean scores say otherwise"
    if dialogue is not None and dialogue.conversations:
        return "of two different conversations"
    prompt = (*(dialogue.turns if dialogue else ()), Turn(USER, sample.question))
    return Pair(verdict.key, prompt, chosen, rejected, margin)
