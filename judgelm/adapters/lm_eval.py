"""lm-evaluation-harness: generations graded, or compared with other answers, all at once, and metrics with intervals.

A task's `utils.py` imports `process_results` and the metrics from here, which makes the filter `judgelm` known; its
YAML names them: see examples/integrations/lm_eval.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lm_eval.api.filter import Filter
from lm_eval.api.registry import register_filter

from judgelm.adapters.judges import Opinion, find_judge, interval, make_sample
from judgelm.errors import InputError
from judgelm.evaluation.metrics.intervals import SHARE
from judgelm.jsonl import Record, dump_json
from judgelm.sample import Sample

JUDGE_VARIABLE = "JUDGELM_JUDGE"
_Judged = tuple[float | None, str, float, float]
"""of a row: the mean over its repeats, its cluster, and the least and the most that it can be"""


@register_filter("judgelm")
class JudgeFilter(Filter):
    """All generations of a task, judged at once: each becomes what the judge says of it.

    Args:
        judge, model, criteria, scoring: see `judgelm.adapters.judges.find_judge`; without a judge the environment's
            JUDGELM_JUDGE names it.
        question: the row's field with what was asked, a text or OpenAI's messages.
        other: the field with the answer that the generation is compared with; without it, it is graded.
        reference: the field with a known good answer, which the judge is shown.
        cluster: the field that rows share which are not independent (default: the question).
    """

    def __init__(
        self,
        judge: str | None = None,
        question: str = "question",
        other: str | None = None,
        reference: str | None = None,
        cluster: str | None = None,
        model: str | None = None,
        criteria: str | None = None,
        scoring: str = "expected",
        **others: Any,
    ) -> None:
        super().__init__(**others)
        name = judge or os.environ.get(JUDGE_VARIABLE)
        if not name:
            raise InputError(f"the filter judgelm needs a judge: in the task's YAML, or in {JUDGE_VARIABLE}")
        task = "grade" if other is None else "pair"
        self.judge = find_judge(name, task, model=model, criteria=criteria, scoring=scoring)
        self.question, self.other, self.reference, self.cluster = question, other, reference, cluster

    def apply(self, resps: Iterable[str | Sequence[str]], docs: Sequence[Record]) -> list[list[str]]:
        """For each row a list with what is said of each of its generations, an object in JSON, as logs keep it.

        Raises InputError where a row lacks a field, or the judge cannot be had.
        """
        # behind lm-eval's take_first a row has a text, not a list of one
        generated = [
            (row, [texts] if isinstance(texts, str) else list(texts)) for row, texts in zip(docs, resps, strict=True)
        ]
        read = [self._read(row, text) for row, texts in generated for text in texts]
        opinions = iter(self.judge.ask([each for each in read if isinstance(each, Sample)]))
        said = iter([next(opinions) if isinstance(each, Sample) else each for each in read])
        return [[dump_json(self._record(row, text, next(said))) for text in texts] for row, texts in generated]

    def _read(self, row: Record, text: str) -> Sample | Opinion:
        """What is to be judged, or that it cannot be."""
        answers = [text] if self.other is None else [text, _field(row, self.other)]
        reference = None if self.reference is None else _field(row, self.reference)
        try:
            return make_sample(_field(row, self.question), answers, reference)
        except InputError as error:
            return Opinion(None, error=str(error))

    def _record(self, row: Record, text: str, opinion: Opinion) -> Record:
        graded = self.other is None
        return {
            "answer": text,
            "value": opinion.grade if graded else opinion.points,
            "span": list(self.judge.scale if graded else SHARE),
            # rows of one question are not independent, as everywhere
            "cluster": str(_field(row, self.cluster or self.question)),
            "task": "grade" if graded else "pair",
            "judge": self.judge.name,
            **opinion.to_record(),
            "explanation": opinion.explanation,
        }


def _field(row: Record, name: str) -> Any:
    if name not in row:
        raise InputError(f"the row has no field {name!r} (it has {', '.join(list(row)[:8])})")
    return row[name]


def process_results(doc: Record, results: Sequence[str | Sequence[str]]) -> dict[str, Any]:
    """The metrics of a row from what the filter made of its generations.

    `judge_score` and the bounds of its interval are the mean over the repeats that could be read: grades, or shares of
    what was won. `judge_consistency` is of pairs, `judge_unread` of all.
    """
    records = [json.loads(said) for said in ([results[0]] if isinstance(results[0], str) else results[0])]
    read = [record["value"] for record in records if record["value"] is not None]
    agreed = [float(record["consistent"]) for record in records if record["consistent"] is not None]
    cluster, span = records[0]["cluster"], records[0]["span"]
    judged = (_mean(read), cluster, *span)
    return {
        **dict.fromkeys(("judge_score", "judge_score_low", "judge_score_high"), judged),
        **({"judge_consistency": (_mean(agreed), cluster, *SHARE)} if records[0]["task"] == "pair" else {}),
        "judge_unread": 1 - len(read) / len(records),
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _metric(name: str) -> Callable[[Sequence[_Judged]], float]:
    def aggregate(judged: Sequence[_Judged]) -> float:
        known = [each for each in judged if each[0] is not None]
        span = min((each[2] for each in known), default=0.0), max((each[3] for each in known), default=1.0)
        values = [each[0] for each in known if each[0] is not None]
        return interval("value", values, [each[1] for each in known], span).get(name, float("nan"))

    return aggregate


score, score_low, score_high = (_metric(name) for name in ("value", "value_low", "value_high"))
"""the mean over rows, and the bounds of its 95 % interval, drawn over clusters; NaN where there is none"""
