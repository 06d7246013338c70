"""A prompt of the user's own: a template in Jinja that names question, answers and what else is judged by."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgelm.bounded import Bounded
from judgelm.criteria import PUBLISHED, Aspect, Criteria
from judgelm.dialogue import Turn
from judgelm.errors import InputError, encodable, located, one_line
from judgelm.files import PathLike, read_small_text
from judgelm.images import Shown, show
from judgelm.prompt import TASKS
from judgelm.sample import Sample

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import ImmutableSandboxedEnvironment

_MOST_TEMPLATE = 1 << 17
_TOO_LONG = f"a template has at most {_MOST_TEMPLATE:,} characters"
_MOST_RENDERED = 4
"""characters of a prompt for each one of its texts"""
_DIALOGUE = ("dialogue", "conversations")
_ALL = ("question", "answers", "reference", "criterion", "scale", *_DIALOGUE)
NAMES = {"pair": (*_ALL, "answer_a", "answer_b"), "multi": _ALL, "grade": (*_ALL, "answer")}
"""what a template of each task can name; reference and criterion may be none, dialogue and conversations empty"""
_FILTERS = ("trim", "upper", "lower", "title", "capitalize", "length", "count", "first", "last", "default", "round")
_NODES = (
    *("Template", "Output", "TemplateData", "Name", "Const", "If", "For", "Assign", "Tuple", "List", "Pair", "Dict"),
    *("Filter", "Test", "Getattr", "Getitem", "Compare", "Operand", "CondExpr", "And", "Or", "Not", "Add", "Sub"),
)
"""filters and kinds of nodes that there are: with the others a few lines make a text without an end"""
_bounded = Bounded("the template", "texts")


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """Its text, and the name of its file. Raises InputError, with its line, for what cannot be a template."""

    text: str
    name: str = "the prompt template"

    def __post_init__(self) -> None:
        if len(self.text) > _MOST_TEMPLATE:
            raise InputError(f"{self.name}: {_TOO_LONG}")
        _parse(self)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode(errors="surrogatepass")).hexdigest()

    def render(self, sample: Sample, task: str, aspect: Aspect | None = None) -> str:
        """The prompt of a sample, a label where an image stands. Raises InputError where the template does not take
        it.
        """
        return self.show(sample, task, aspect).text

    def show(self, sample: Sample, task: str, aspect: Aspect | None = None) -> Shown:
        """The same with the images of its labels, which are numbered as the template shows them."""
        try:
            return show(self._render(sample, task, aspect), sample.images)
        except ValueError as error:
            raise InputError(f"{self.name}: {error} (question_id {one_line(sample.key)})") from None

    def _render(self, sample: Sample, task: str, aspect: Aspect | None) -> str:
        names = {
            "question": sample.question,
            "answers": sample.answers,
            **dict(zip(("answer",) if task == "grade" else ("answer_a", "answer_b"), sample.answers, strict=False)),
            "reference": sample.reference,
            "criterion": aspect,
            "scale": aspect.scale if aspect else PUBLISHED,
            "dialogue": sample.dialogue.turns if sample.dialogue else (),
            "conversations": sample.dialogue.conversations if sample.dialogue else (),
        }
        before = [turn.text for turn in sample.dialogue.all_turns] if sample.dialogue else []
        most = _MOST_TEMPLATE + _MOST_RENDERED * sum(map(len, (sample.question, *sample.answers, *before)))
        return _bounded.run(lambda: _write(_compile(self), names, most + len(sample.reference or "")))

    @functools.lru_cache(maxsize=16)  # noqa: B019 - a template is as small as what it is called with
    def check(self, task: str, criteria: Criteria | None) -> None:
        """Raises InputError for a task without templates, an unknown name, and where an answer or the criterion is left
        out.
        """
        if task not in NAMES:
            raise InputError(f"{self.name}: task {task}'s question is fixed: templates are for {', '.join(NAMES)}")
        used = _names(_parse(self))
        for name, line in used.items():
            if name not in NAMES[task]:
                names = f"task {task} has {', '.join(NAMES[task])}"
                raise InputError(f"{self.name}:{line}: unknown name {one_line(name)[:60]!r}: {names}")
        if criteria and "criterion" not in used:
            raise InputError(f"{self.name}: aspects are asked for one by one, but the template does not name criterion")
        with located(self.name):
            for count in dict.fromkeys((TASKS[task].min_answers, TASKS[task].max_answers)):
                self._check_shown(task, count, criteria)

    def _check_shown(self, task: str, count: int, criteria: Criteria | None) -> None:
        # with a reference, as a template may insist on one
        planted = _planted(task, count).with_reference("the reference")
        text = self._render(planted, task, criteria.aspects[0] if criteria else None)
        for number, answer in enumerate(planted.answers, start=1):
            if answer not in text:
                raise ValueError(f"answer {number} of {count} is not shown")

    def check_samples(self, samples: Iterable[Sample], task: str, criteria: Criteria | None) -> None:
        """Raises InputError for a sample without the reference that the template shows, or with a dialogue that it does
        not.
        """
        aspect, used = criteria.aspects[0] if criteria else None, _names(_parse(self))
        if any(name not in used for name in _DIALOGUE):
            for sample in samples:
                self._check_dialogue(sample, used)
        try:
            self._render(_planted(task, TASKS[task].max_answers), task, aspect)
        except ValueError:
            for sample in samples:
                if sample.reference is None:
                    self.render(sample, task, aspect)

    def _check_dialogue(self, sample: Sample, used: Collection[str]) -> None:
        if sample.dialogue is None:
            return
        name = "conversations" if sample.dialogue.conversations else "dialogue"
        if name not in used:
            where = f"question_id {one_line(sample.key)}"
            raise InputError(f"{self.name}: the dialogue of {where} is not shown: the template does not name {name}")


def _planted(task: str, count: int) -> Sample:
    return Sample(task, "the question", [f"[answer {number}]" for number in range(1, count + 1)])


def read_prompt_template(path: PathLike) -> PromptTemplate:
    """The template in a file. Raises InputError, in one line, for anything else."""
    text = read_small_text(path, 4 * _MOST_TEMPLATE, _TOO_LONG, "UTF-8")
    return PromptTemplate(text, str(Path(path).expanduser()))


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    """Without globals, and without methods of what is shown."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Environment(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(("+", "-"))

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            return not callable(value) and bool(super().is_safe_attribute(obj, attr, value))

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if not isinstance(left, int) or not isinstance(right, int):
                raise ValueError(f"{operator} is for whole numbers")
            return super().call_binop(context, operator, left, right)

    made = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown)
    made.globals.clear()
    made.filters = {name: made.filters[name] for name in _FILTERS}
    return made


def _shown(value: Any) -> Any:
    """What a template prints."""
    if value is None:
        raise ValueError("there is no reference or criterion where it is shown ({% if reference %} asks for it)")
    if isinstance(value, tuple | list | dict | Aspect | Turn):
        raise ValueError(
            "a list, a criterion or a turn is shown as a whole, expected a text of it, or a loop over them"
        )
    return value


@functools.lru_cache(maxsize=16)
def _parse(template: PromptTemplate) -> Any:
    """Its tree. Raises InputError with the line that is wrong."""
    from jinja2 import TemplateSyntaxError, nodes

    try:
        tree = _environment().parse(template.text)
    except TemplateSyntaxError as error:
        raise InputError(f"{template.name}:{error.lineno}: {one_line(error.message or 'no template')}") from None
    except (RecursionError, ValueError) as error:
        raise InputError(f"{template.name}: no template ({one_line(str(error))[:100]})") from None
    for node in tree.find_all(nodes.Node):
        kind = type(node).__name__
        if kind not in _NODES:
            raise InputError(f"{template.name}:{node.lineno}: {kind} is not for prompts (if, for, set and names are)")
        if isinstance(node, nodes.Filter) and node.name not in _FILTERS:
            known = ", ".join(_FILTERS)
            raise InputError(f"{template.name}:{node.lineno}: unknown filter {node.name!r}, expected one of {known}")
    return tree


@functools.lru_cache(maxsize=16)
def _compile(template: PromptTemplate) -> Template:
    return _environment().from_string(_parse(template))


def _names(tree: Any) -> dict[str, int]:
    """The names that the template does not set itself, each with the first line on which it stands."""
    from jinja2 import nodes
    from jinja2.meta import find_undeclared_variables

    names = find_undeclared_variables(tree)
    lines: dict[str, int] = {}
    for node in tree.find_all(nodes.Name):
        if node.name in names:
            lines[node.name] = min(node.lineno, lines.get(node.name, node.lineno))
    return lines


def _write(template: Template, names: dict[str, Any], most: int) -> str:
    """The text, as far as it is not longer than it may be."""
    parts, size = [], 0
    for part in template.generate(names):
        parts.append(part)
        size += len(part)
        if size > most:
            raise ValueError(f"it writes more than {most:,} characters")
    text = "".join(parts)
    if not encodable(text):
        raise ValueError("it writes half a surrogate pair, which no tokenizer can read")
    return text
