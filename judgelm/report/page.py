"""A judged folder -> one HTML page that needs no network, and the same in Markdown.

Texts of questions, answers, judgements and names are untrusted: jinja2 escapes them, `pictures` does, and the page's
own policy lets no other script run and nothing be loaded.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from judgelm.errors import InputError, one_line
from judgelm.evaluation.grades import read_grades
from judgelm.evaluation.results import judged_task, read_folder
from judgelm.files import write_text
from judgelm.report.words import MOST_SAMPLES
from judgelm.samples import PathLike

if TYPE_CHECKING:
    from jinja2 import Environment

    from judgelm.report.brief import Line

TEMPLATES = Path(__file__).parent / "templates"
_KEPT = "\n\t\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"


class Written(NamedTuple):
    """The two files of a report, and what they say first."""

    page: Path
    markdown: Path
    brief: Sequence[Line] = ()
    """who won, how sure and whether it survives the swap; of two answers alone"""


def write_report(
    folder: PathLike,
    teacher: PathLike | None = None,
    output: PathLike | None = None,
    most_samples: int = MOST_SAMPLES,
    human: PathLike | None = None,
) -> Written:
    """Write the report of a folder that `judgelm judge` wrote, with what audit.json and ranking.json in it say.

    Args:
        folder: with forward.jsonl, reversed.jsonl or both.
        teacher: the truth, as for `evaluation.evaluate`; without it labels in the judged rows. Many answers (task
            multi) have none.
        output: the page, whose name ends in .html; Markdown is written beside it. Without it `folder`/report.html.
        most_samples: how many samples with the largest disagreement are shown to be read.
        human: people's labels of a random part of the samples, as for `evaluation.evaluate`.

    Raises InputError, in one line, for a folder or a file in it that is missing or damaged, and for another ending.
    """
    place = Path(folder).expanduser()
    page = Path(output).expanduser() if output else place / "report.html"
    if page.suffix != ".html":
        raise InputError(f"{page}: expected a name that ends in .html")
    if not place.is_dir():
        raise InputError(f"{place}: no such folder")
    context = _context(place, teacher, most_samples, human)
    written = Written(page, page.with_suffix(".md"), context["brief"] or ())
    write_text(written.page, render_page(context))
    write_text(written.markdown, render_markdown(context))
    return written


def _context(place: Path, teacher: PathLike | None, most: int, human: PathLike | None) -> dict[str, Any]:
    """Of pairs, of many answers or of grades, as the folder has them."""
    from judgelm.evaluation.grade_corrections import summarize_corrected
    from judgelm.evaluation.many import read_many
    from judgelm.evaluation.pair_corrections import correct_by_labels
    from judgelm.evaluation.places import summarize_many
    from judgelm.evaluation.summary import summarize
    from judgelm.report.beside import read_beside
    from judgelm.report.context import build_context
    from judgelm.report.grade_context import build_grade_context
    from judgelm.report.many_context import build_many_context

    task = judged_task(place)
    if task == "multi":
        for flag, given in (("--human", human), ("--teacher", teacher)):
            if given is not None:
                raise InputError(f"{flag} compares two answers: {place} is of task multi")
        many = read_many(place)
        return build_many_context(many, summarize_many(many), read_beside(place), most)
    if task == "grade":
        graded = read_grades(place, teacher)
        return build_grade_context(graded, summarize_corrected(graded, human), read_beside(place), most)
    samples = read_folder(place, teacher)
    corrected = None if human is None else correct_by_labels(samples, human)
    return build_context(samples, summarize(samples), read_beside(place), most, corrected)


def render_page(context: Mapping[str, Any], template: str = "report.html") -> str:
    """The HTML of a context, in one of the templates."""
    from markupsafe import Markup

    style, script = ((TEMPLATES / name).read_text(encoding="utf-8").strip() for name in ("report.css", "report.js"))
    environment = _environment(finalize=lambda value: _visible(value) if type(value) is str else value)
    environment.filters["svg"] = Markup
    code = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template(template)
    return _sendable(page.render(context, style=Markup(style), script=Markup(script), script_hash=code))


def render_markdown(context: Mapping[str, Any], template: str = "report.md") -> str:
    """The same numbers in Markdown, without pictures and with the samples in one line each."""
    from markupsafe import Markup

    environment = _environment(finalize=lambda value: value if isinstance(value, Markup) else Markup(_plain(value)))
    return _sendable(environment.get_template(template).render(context))


def _environment(**settings: Any) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATES)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, **settings)


def _visible(text: str) -> str:
    """Text without control characters, which could hide or turn what stands beside them. Lines and tabs stay, and the
    joiners that letters of some scripts need.
    """
    return text if text.isprintable() else "".join(c for c in text if c.isprintable() or c in _KEPT)


def _plain(value: object) -> str:
    """Anything as a piece of one Markdown line that is nothing but text."""
    return re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", one_line(str(value))).replace("&", "&amp;").replace("<", "&lt;")


def _sendable(text: str) -> str:
    """Half surrogate pairs, which UTF-8 cannot hold, become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
