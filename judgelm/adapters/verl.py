"""A served judge as verl's reward: `compute_score` for one completion, `compute_scores` for a batch of whole groups.

Nothing of verl is imported: its reward managers call what stands here.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from judgelm.adapters.judges import find_criteria, find_key
from judgelm.errors import InputError
from judgelm.judge.rewards import Group, GroupJudge
from judgelm.serve.asking import PATIENCE_S
from judgelm.serve.client import Client
from judgelm.serve.served_pairs import ServedPairs
from judgelm.serve.settings import API_PORT

URL_VARIABLE = "JUDGELM_URL"
"""environment variable: the API that judges"""
_UNREAD = 0.5
"""verl knows no missing reward: as good as the others"""
Score = dict[str, float]


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str | None,
    extra_info: Mapping[str, Any] | None = None,
    *,
    judge_url: str | None = None,
    judge_model: str | None = None,
    criteria: str | None = None,
    question_key: str = "question",
    **_: Any,
) -> Score:
    """P(better than the ground truth) + P(equally good) / 2, as the `score` beside which `judge_unread` is 1 where no
    verdict could be read; the score is 0.5 then.

    Args:
        extra_info: the row's; its `question_key` holds the question, or messages that end in it.
        judge_url: the API's address (default: that of JUDGELM_URL, else the port of `judgelm serve` here); where it
            asks for a key, that of JUDGELM_API_KEY.
        judge_model: where the API serves several.
        criteria: a YAML file of them.

    Raises InputError for a row without question or ground truth, APIError where the judge is not to be had.
    """
    if not isinstance(ground_truth, str):
        raise InputError(
            f"data_source {data_source}: expected a ground truth, which is an answer, found {ground_truth!r:.40}"
        )
    group = Group.of(_read_question(data_source, extra_info, question_key), [solution_str, ground_truth])
    (found,) = _find_judge(judge_url, judge_model, criteria).rewards([group])
    return _score(found.win[0])


def compute_scores(
    data_sources: Iterable[str],
    solution_strs: Sequence[str],
    ground_truths: Iterable[str | None],
    extra_infos: Iterable[Mapping[str, Any] | None],
    *,
    judge_url: str | None = None,
    judge_model: str | None = None,
    criteria: str | None = None,
    question_key: str = "question",
    show_ground_truth: bool = False,
    **_: Any,
) -> list[Score]:
    """Of a batch: each completion is compared with the others of its question; one without others is unread. See
    `compute_score`.

    Args:
        show_ground_truth: the judge is shown it as a reference.
    """
    groups: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    questions: dict[str, Any] = {}
    for place, (source, truth, info) in enumerate(zip(data_sources, ground_truths, extra_infos, strict=True)):
        question = _read_question(source, info, question_key)
        if show_ground_truth and not isinstance(truth, str | None):
            raise InputError(f"data_source {source}: expected a text as ground truth, found {truth!r:.40}")
        questions[repr(question)] = question
        groups[repr(question), truth if show_ground_truth else None].append(place)
    judged = _find_judge(judge_url, judge_model, criteria).rewards(
        [
            Group.of(questions[asked], [solution_strs[place] for place in places], truth)
            for (asked, truth), places in groups.items()
        ]
    )
    scores = {
        place: _score(value)
        for places, found in zip(groups.values(), judged, strict=True)
        for place, value in zip(places, found.win, strict=True)
    }
    return [scores[place] for place in range(len(solution_strs))]


def _score(win: float | None) -> Score:
    return {"score": _UNREAD if win is None else win, "judge_unread": float(win is None)}


def _read_question(data_source: str, extra_info: Mapping[str, Any] | None, key: str) -> str | list[Any]:
    """A text, or messages, which come out of Parquet as an array."""
    question = (extra_info or {}).get(key)
    if isinstance(question, str):
        return question
    if question is None:
        known = ", ".join(extra_info or {}) or "nothing"
        raise InputError(f"data_source {data_source}: expected the question in extra_info[{key!r}], found {known}")
    if not isinstance(question, Iterable) or isinstance(question, Mapping):
        raise InputError(
            f"data_source {data_source}: expected a text or messages in extra_info[{key!r}], found {question!r:.40}"
        )
    return list(question)


def _find_judge(url: str | None, model: str | None, criteria: str | None) -> GroupJudge:
    address = url or os.environ.get(URL_VARIABLE) or f"http://127.0.0.1:{API_PORT}"
    return _make_judge(address, find_key(), model, criteria)


@cache
def _make_judge(url: str, key: str | None, model: str | None, criteria: str | None) -> GroupJudge:
    """One for all calls of a process: what was compared is not asked about again."""
    return GroupJudge(ServedPairs(Client(url, key, PATIENCE_S), model, find_criteria(criteria)))
