"""How samples are judged."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from judgelm.calibration import Calibration
from judgelm.criteria import PUBLISHED, READABLE, Aspect, Criteria, Scale
from judgelm.distribution import MOST_LINES
from judgelm.engine.interface import Sampling
from judgelm.errors import InputError, SettingError
from judgelm.judgement import Judgement
from judgelm.prompt import STOP_SCORES_ONLY, TASKS
from judgelm.prompt_form import PromptForm
from judgelm.prompt_template import PromptTemplate
from judgelm.sample import Sample
from judgelm.samples import find_task
from judgelm.verdict_forms import POINTS, SCORES, VERDICT_FORMATS

_Rotated = Literal[
    "rotated1", "rotated2", "rotated3", "rotated4", "rotated5", "rotated6", "rotated7", "rotated8", "rotated9"
]
Order = Literal["forward", "reversed"] | _Rotated
ROTATIONS: tuple[Order, ...] = ("forward", *get_args(_Rotated))
"""with these every one of up to 10 answers stands once in every place"""
ORDERS: dict[str, tuple[Order, ...]] = {
    "forward": ("forward",),
    "reversed": ("reversed",),
    "both": ("forward", "reversed"),
    "all": ROTATIONS,
}
SCORINGS = {
    "sample": "write the judgement at the given temperature, as published",
    "greedy": "write the likeliest judgement",
    "expected": "write nothing: read the probability of every score line in one pass over the prompt",
}
_SETTLED_FORMATS = ("plain", "chat")
"""what auto, of `models.prompt_format.PROMPT_FORMATS`, has become by then"""
_SOME_CRITERIA = Criteria("some", (Aspect("name", "text"),))
_FORMAT_TASKS = {"grade": "grade", "letter": "pair"}
"""verdict formats that are for one task alone"""
Done = Collection[tuple[Order, str]]
"""orders and keys of the samples that are judged already"""


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """How samples are judged; two runs with the same settings, model and seed give the same judgements."""

    task: str = "pair"
    """pair, single, multi, mmvet or grade"""
    scores_only: bool = False
    """stop after the score line: no reasons"""
    temperature: float = 0.2
    """of the sampling; 0 is greedy"""
    max_new_tokens: int = 2048
    """most tokens of a judgement"""
    seed: int = 0
    """of the sampling; each sample's own comes from it and the question_id"""
    constrained: bool = False
    """nothing but a score line is written first"""
    scoring: str = "sample"
    """sample; greedy, which is sample at temperature 0; or expected: probabilities of score lines, no text"""
    criteria: Criteria | None = None
    """aspects that are asked for one by one, tasks pair, multi and grade; None: the task's own question"""
    prompt_format: str = "plain"
    """plain: the prompt is continued, as published; chat: it is a user's message in the model's chat template"""
    prompt_template: PromptTemplate | None = None
    """a prompt of the user's own, tasks pair, multi and grade; see `read_prompt_template`"""
    verdict_format: str = SCORES
    """scores, grade, letter or json: how the judge says its verdict"""
    reasoning: bool = False
    """a reasoning model thinks before it judges, in its own tags; the thoughts are kept apart"""
    max_reasoning_tokens: int = 4096
    """most tokens of these thoughts, which are closed by force then"""
    calibration: Calibration | None = None
    """a map by which calibrated probabilities stand beside the judge's own; task pair, scoring expected"""

    def __post_init__(self) -> None:
        if self.scoring not in SCORINGS:
            raise SettingError("scoring", f"{self.scoring!r}: expected one of {', '.join(SCORINGS)}")
        if self.criteria is not None and not (task := find_task(self.task)).takes_criteria:
            raise SettingError("criteria", f"cannot be used with task {task.name}, whose question is fixed")
        self._check_verdict()
        self._check_reasoning()
        if self.calibration is not None and (self.task, self.scoring) != ("pair", "expected"):
            found = f"found task {self.task}, scoring {self.scoring}"
            raise SettingError(
                "calibration", f"needs task pair and scoring expected, which gives probabilities: {found}"
            )
        if self.scoring == "expected" and len(self.scale.scores) ** (2 - (self.task == "grade")) > MOST_LINES:
            raise SettingError("scoring", f"expected reads {MOST_LINES} score lines at most: {self.scale} is too much")
        if self.prompt_format not in _SETTLED_FORMATS:
            raise SettingError("prompt_format", f"{self.prompt_format!r}: expected {' or '.join(_SETTLED_FORMATS)}")
        if not isinstance(self.temperature, int | float) or not 0 <= self.temperature < math.inf:
            raise SettingError("temperature", f"{self.temperature!r}: expected a number from 0 on")
        if type(self.max_new_tokens) is not int or self.max_new_tokens < 1:
            raise SettingError("max_new_tokens", f"{self.max_new_tokens!r}: expected a whole number from 1 on")

    def _check_verdict(self) -> None:
        """Raises InputError for a form or a template that does not go with the rest."""
        form = self.verdict_format
        if form not in VERDICT_FORMATS:
            raise SettingError("verdict_format", f"{form!r}: expected one of {', '.join(VERDICT_FORMATS)}")
        if form != SCORES:
            if self.prompt_template is None:
                raise SettingError("verdict_format", f"{form}: expected --prompt-file FILE too, which asks for it")
            needed = _FORMAT_TASKS.get(form, self.task)
            if self.task != needed:
                raise SettingError("verdict_format", f"{form} is for task {needed}, found task {self.task}")
            for name, given in (("scores_only", self.scores_only), ("constrained", self.constrained)):
                if given:
                    raise SettingError(name, f"is about a line of scores: not with the verdict format {form}")
            if self.scoring == "expected":
                raise SettingError("scoring", f"expected reads lines of scores: not with the verdict format {form}")
        if self.prompt_template is not None:
            self.prompt_template.check(self.task, self.criteria)

    def _check_reasoning(self) -> None:
        """Raises InputError where thoughts cannot come before the verdict."""
        if type(self.max_reasoning_tokens) is not int or self.max_reasoning_tokens < 1:
            problem = f"{self.max_reasoning_tokens!r}: expected a whole number from 1 on"
            raise SettingError("max_reasoning_tokens", problem)
        if self.reasoning and find_task(self.task).prefill:
            raise SettingError("reasoning", f"is not for task {self.task}, whose judgement is begun for the judge")
        if self.reasoning and self.scoring == "expected":
            raise SettingError("reasoning", "writes thoughts: --scoring expected writes nothing")

    def to_record(self) -> dict[str, Any]:
        """As run.json holds them: of a template the hash, of a map its name, and the bound of thoughts where there are
        any.
        """
        criteria, template, calibration = self.criteria, self.prompt_template, self.calibration
        return {
            **asdict(self),
            "calibration": None if calibration is None else calibration.name,
            "criteria": None if criteria is None else criteria.to_record(),
            "prompt_template": None if template is None else template.sha256,
            "max_reasoning_tokens": self.max_reasoning_tokens if self.reasoning else None,
        }

    @classmethod
    def of_form(cls, form: PromptForm, task: str, **others: Any) -> JudgeSettings:
        """Of a task that is asked in a form."""
        return cls(
            task,
            prompt_format="chat" if form.chat else "plain",
            prompt_template=form.template,
            verdict_format=form.verdict_format,
            reasoning=form.reasoning,
            max_reasoning_tokens=form.max_reasoning_tokens,
            **others,
        )

    @property
    def form(self) -> PromptForm:
        """How the judge is asked."""
        return PromptForm(
            self.prompt_format == "chat",
            self.prompt_template,
            self.reasoning,
            self.verdict_format,
            self.max_reasoning_tokens,
        )

    def settled(self, constrained: bool, prompt_format: str) -> JudgeSettings:
        """For a judge that is asked in this format, and whose own way it is to be held to a line of scores, or not."""
        return replace(self, constrained=constrained and self.verdict_format == SCORES, prompt_format=prompt_format)

    def check_samples(self, samples: Iterable[Sample]) -> None:
        """Raises InputError for a sample that the template cannot show; see `PromptTemplate.check_samples`."""
        if self.prompt_template is not None:
            self.prompt_template.check_samples(samples, self.task, self.criteria)

    @property
    def aspects(self) -> tuple[Aspect | None, ...]:
        """By what is asked, one prompt each; None: the task's own question."""
        return self.criteria.aspects if self.criteria else (None,)

    @property
    def scale(self) -> Scale:
        """Of the scores that are asked for."""
        return self.criteria.scale if self.criteria else PUBLISHED

    @property
    def readable(self) -> Scale:
        """Of the scores that are read."""
        return _readable(self.criteria, self.verdict_format)

    def read(self, text: str, num_answers: int) -> Judgement:
        """What the judge wrote, prefill included."""
        return read_judgement(text, num_answers, self.criteria, self.verdict_format)

    def sampling(self, num_answers: int) -> Sampling:
        temperature = self.temperature if self.scoring == "sample" else 0.0
        thoughts = self.max_reasoning_tokens if self.reasoning else 0
        sampling = Sampling(
            temperature,
            self.max_new_tokens,
            constrained=self.constrained,
            seed=self.seed,
            most_thoughts=thoughts,
            reasoning=self.reasoning,
        )
        if not self.scores_only and self.scoring != "expected":
            return sampling
        # a line longer than this holds no scores; without a limit an untuned model would write to the end
        most, thoughts = min(self.max_new_tokens, 16 + 8 * num_answers), thoughts or self.max_new_tokens
        return replace(sampling, max_new_tokens=most, stop=(STOP_SCORES_ONLY,), most_thoughts=thoughts)


def read_judgement(text: str, num_answers: int, criteria: Criteria | None, verdict_format: str) -> Judgement:
    """What a judge wrote, prefill included, in answer to criteria if there are any."""
    return Judgement.parse(text, num_answers, _readable(criteria, verdict_format), verdict_format)


def _readable(criteria: Criteria | None, verdict_format: str) -> Scale:
    if verdict_format == "letter":
        return POINTS
    return criteria.scale if criteria else READABLE


def tasks_of(form: PromptForm) -> tuple[str, ...]:
    """The tasks in which a judge can be asked in a form. Raises InputError where there are none."""
    found: list[str] = []
    problems: dict[str, InputError] = {}
    for task in TASKS:
        # a template may be for criteria alone
        for criteria in (None, _SOME_CRITERIA):
            try:
                JudgeSettings.of_form(form, task, criteria=criteria)
            except InputError as error:
                problems.setdefault(task, error)
            else:
                found.append(task)
                break
    if not found:
        raise problems[_FORMAT_TASKS.get(form.verdict_format, "pair")]
    return tuple(found)


def check_orders(orders: str, task: str) -> tuple[Order, ...]:
    """The orders asked for; forward only, where Assistant 1 is a reference answer with its 10 given or has no other.

    Raises InputError for unknown ones, for others than a task allows, and for an unknown task.
    """
    if orders not in ORDERS:
        raise InputError(f"unknown orders {orders!r}, expected one of {', '.join(ORDERS)}")
    spec = find_task(task)
    if (spec.prefill or spec.max_answers == 1) and orders != "forward":
        why = "Assistant 1's place is that of the known answer" if spec.prefill else "a single answer has one place"
        raise InputError(f"task {task} is judged in forward order only: {why}")
    if orders == "all" and task != "multi":
        raise InputError(f"orders all are those of task multi: task {task} has {', '.join(list(ORDERS)[:3])}")
    return ORDERS[orders]
