"""mlflow: scorers for `mlflow.genai.evaluate` that grade outputs or compare them with the answers that are expected.

>>> mlflow.genai.evaluate(data=rows, scorers=[make_scorer("tiny"), make_scorer("tiny", other="expected_response")])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlflow.entities import AssessmentSource, AssessmentSourceType, Feedback
from mlflow.genai.scorers import Scorer, scorer

from judgelm.adapters.judges import find_judge, interval, make_sample
from judgelm.errors import InputError
from judgelm.evaluation.metrics.intervals import SHARE

_TEXTS = ("response", "output", "answer", "content", "text")
"""of an output that is an object, where its text may stand"""


def make_scorer(
    judge: str,
    name: str | None = None,
    *,
    other: str | None = None,
    reference: str | None = None,
    question: str | None = None,
    model: str | None = None,
    criteria: str | None = None,
    scoring: str = "expected",
    timeout_s: float = 0,
) -> Scorer:
    """A grade of each output, or with `other` 1, 0.5 or 0 for an output that is better than another answer, as good, or
    worse, in both orders. A run shows the mean and the bounds of its 95 % interval, NAME/mean, NAME/low and NAME/high.

    Args:
        judge, model, criteria, scoring: see `judgelm.adapters.judges.find_judge`.
        name: of the score (default: grade, or win_rate).
        other: of the expectations, the answer that the output is compared with.
        reference: of the expectations, a known good answer that the judge is shown.
        question: of the inputs, what was asked: a text or OpenAI's messages (default: `messages` or the only input).
        timeout_s: most seconds of one row, 0 for no limit: while a judge is loaded all rows wait.

    Rows that cannot be judged, or whose judgement cannot be read, have an error in place of a value. Raises InputError
    where there is no such judge.
    """
    asked = find_judge(judge, "grade" if other is None else "pair", model=model, criteria=criteria, scoring=scoring)
    source = AssessmentSource(source_type=AssessmentSourceType.LLM_JUDGE, source_id=asked.name)

    def judged(inputs: Any, outputs: Any, expectations: Any = None) -> Feedback:
        answers = [_text(outputs), *([] if other is None else [_expected(expectations, other)])]
        known = None if reference is None else _expected(expectations, reference)
        (opinion,) = asked.ask([make_sample(_question(inputs, question), answers, known)])
        value = opinion.grade if other is None else opinion.points
        said = {"rationale": opinion.explanation, "source": source, "metadata": _metadata(opinion.to_record())}
        if value is None:
            return Feedback(error=opinion.error or "the judgement cannot be read", **said)
        return Feedback(value=value, **said)

    given = name or ("grade" if other is None else "win_rate")
    bounds = asked.scale if other is None else SHARE
    made: Scorer = scorer(judged, name=given, aggregations=["mean", *_bounds(bounds)], timeout=timeout_s)
    return made


def _bounds(span: tuple[float, float]) -> list[Callable[[list[float]], float]]:
    """Of the interval, by the names that mlflow gives them."""

    def low(values: list[float]) -> float:
        return _interval(values, span).get("value_low", float("nan"))

    def high(values: list[float]) -> float:
        return _interval(values, span).get("value_high", float("nan"))

    return [low, high]


def _interval(values: Sequence[float], span: tuple[float, float]) -> dict[str, float]:
    return interval("value", values, [str(place) for place in range(len(values))], span)


def _metadata(record: Mapping[str, Any]) -> dict[str, str]:
    """As mlflow keeps it: texts alone."""
    return {name: str(value) for name, value in record.items() if value is not None}


def _expected(expectations: Any, name: str) -> Any:
    if isinstance(expectations, Mapping) and expectations.get(name) is not None:
        return expectations[name]
    found = ", ".join(map(str, expectations)) if isinstance(expectations, Mapping) else "none"
    raise InputError(f"expected {name!r} among the expectations, found {found}")


def _question(inputs: Any, name: str | None) -> Any:
    """A text, or OpenAI's messages."""
    if isinstance(inputs, str):
        return inputs
    if not isinstance(inputs, Mapping):
        raise InputError(f"expected inputs to be an object, found {type(inputs).__name__}")
    wanted = name or ("messages" if "messages" in inputs else next(iter(inputs), "") if len(inputs) == 1 else None)
    if wanted is None or wanted not in inputs:
        found = ", ".join(map(str, inputs))
        raise InputError(f"expected inputs to have {wanted or 'one field (question=NAME says which)'}, found {found}")
    return inputs[wanted]


def _text(outputs: Any) -> str:
    """The text of an output: itself, the field of an object that says so, or that of OpenAI's first choice."""
    found = outputs
    if isinstance(found, Mapping) and isinstance(found.get("choices"), list) and found["choices"]:
        found = found["choices"][0].get("message") if isinstance(found["choices"][0], Mapping) else None
    if isinstance(found, Mapping):
        fields = [field for field in _TEXTS if isinstance(found.get(field), str)]
        found = found[fields[0]] if fields else None
    if not isinstance(found, str):
        raise InputError(f"expected outputs to be a text or an object with one, found {type(outputs).__name__}")
    return found
