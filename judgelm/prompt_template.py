"""A prompt of the user's own: a template in Jinja that names question, answers and what else is judged by."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgelm.bounded import Bounded
from judgelm.criteria import PUBLISHED, Aspect, Criteria
from judgelm.errors import InputError, one_line
from judgelm.files import PathLike
from judgelm.sample import Sample

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import ImmutableSandboxedEnvironment

_MOST_BYTES = 1 << 18
_MOST_RENDERED = 8
"""characters of a prompt for each one of its texts and of the template"""
_NAMES = {
    "pair": ("question", "answers", "answer_a", "answer_b", "reference", "criterion", "scale"),
    "multi": ("question", "answers", "reference", "criterion", "scale"),
    "grade": ("question", "answer", "reference", "criterion", "scale"),
}
"""what a template of each task can name"""
_FILTERS = ("trim", "upper", "lower", "title", "capitalize", "length", "count", "first", "last", "default", "d", "round")
"""those that make no text long"""
_TESTS = ("defined", "undefined", "none", "odd", "even", "eq", "ne", "lt", "le", "gt", "ge", "in")
_REFUSED = {
    "Concat": "~",
    **{name: f"{{% {name.lower()} %}}" for name in ("Macro", "Include", "Import", "Extends", "Block")},
    **{"FromImport": "{% from %}", "CallBlock": "{% call %}", "FilterBlock": "{% filter %}"},
    "AssignBlock": "{% set %} around a text",
}
"""kinds of nodes that a template has no need of, and with which a few lines make a text without an end"""


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """Its text, and the name of its file. Raises InputError, with its line, for what cannot be a template."""

    text: str
    name: str = "the prompt template"

    def __post_init__(self) -> None:
        if len(self.text.encode(errors="surrogatepass")) > _MOST_BYTES:
            raise InputError(f"{self.name}: a template has at most {_MOST_BYTES} bytes")
        _check_nodes(self)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode(errors="surrogatepass")).hexdigest()

    def render(self, sample: Sample, task: str, aspect: Aspect | None = None) -> str:
        """The prompt of a sample. Raises InputError where the template does not take it."""
        try:
            return _bounded().run(lambda: _render(self, sample, task, aspect))
        except ValueError as error:
            raise InputError(f"{self.name}: question_id {one_line(sample.key)}: {error}") from None

    def check(self, task: str, criteria: Criteria | None) -> None:
        """Raises InputError where the task has no templates or other names, or an answer or a criterion is left out."""
        if task not in _NAMES:
            raise InputError(f"{self.name}: task {task}'s question is fixed, templates are for {', '.join(_NAMES)}")
        _check_names(self, task, criteria)
        for count in {"pair": (2,), "multi": (2, 10), "grade": (1,)}[task]:
            marks = [f"answer-mark-{number}." for number in range(count)]
            for aspect in criteria.aspects[:1] if criteria else (None,):
                # a reference is there, as a template may insist on one
                text = self.render(Sample("mark", "question-mark", marks, "reference-mark"), task, aspect)
                for number, mark in enumerate(marks, start=1):
                    if mark not in text:
                        raise InputError(f"{self.name}: answer {number} of {count} is not shown")

    @property
    def names_used(self) -> dict[str, int]:
        """The names of ours that it uses, each with the first line on which it stands."""
        from jinja2 import nodes

        return {
            node.name: node.lineno
            for node in sorted(_parse(self).find_all(nodes.Name), key=lambda node: -node.lineno)
            if node.ctx == "load"
        }


def read_prompt_template(path: PathLike) -> PromptTemplate:
    """The template in a file. Raises InputError, in one line, for anything else."""
    place = Path(path).expanduser()
    try:
        if place.stat().st_size > _MOST_BYTES:
            raise InputError(f"{place}: a template has at most {_MOST_BYTES} bytes")
        return PromptTemplate(place.read_text(encoding="utf-8-sig"), str(place))
    except OSError as error:
        raise InputError(f"{place}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: not UTF-8 ({one_line(str(error))})") from None
