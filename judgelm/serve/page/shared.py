"""What all tabs of the page share: what a visitor set above them, the workers, and where files go."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from pydantic import ValidationError

from judgelm.criteria import Criteria, parse_criteria
from judgelm.errors import InputError
from judgelm.jsonl import dump_json, dump_line
from judgelm.prompt import TASKS
from judgelm.serve.judgement_requests import JudgementRequest, SampleIn
from judgelm.serve.page.files import append_private, remove_old, write_private
from judgelm.serve.protocol import WorkerError
from judgelm.serve.servers import describe
from judgelm.serve.worker_answers import Details
from judgelm.serve.worker_client import Workers

DETAILS = ("Scores and reasons", "Scores only", "Probabilities")
_FORMS = {"letter": "its verdict is a letter", "grade": "its verdict is a grade", "json": "its verdict is JSON"}
_MOST_CRITERIA = 10_000
"""characters of criteria: reading YAML is slow"""
_MOST_BRACKETS = 300
"""of criteria: for lists in lists it is slower still"""
Moderate = Callable[[str], Awaitable[bool]]
Shown = dict[str, Any]
"""what a tab remembers of its last judgement; empty before the first"""


class PageSettings(NamedTuple):
    """Values of the components above the tabs, in their order; whoever goes past the page may send anything as one."""

    model: str | None
    detail: str
    both: bool
    temperature: float
    top_p: float
    length: float
    criteria: str | None = None
    """YAML; empty: none"""
    rotate: bool = False
    """many answers stand in all places"""

    def orders(self, task: str) -> str:
        """A name of `ORDERS`: several where they are wanted and the task has them."""
        spec = TASKS[task]
        if self.rotate and task == "multi":
            return "all"
        return "both" if self.both and not spec.prefill and spec.max_answers > 1 else "forward"

    def read_criteria(self) -> Criteria | None:
        """Raises InputError for a text that is none."""
        text = self.criteria or ""
        if len(text) > _MOST_CRITERIA:
            raise InputError(f"Criteria may have {_MOST_CRITERIA:,} characters here, found {len(text):,}.")
        if text.count("[") + text.count("{") > _MOST_BRACKETS:
            raise InputError(f"Criteria may have {_MOST_BRACKETS} brackets here.")
        return parse_criteria(text, "criteria") if text.strip() else None

    def request(self, samples: Sequence[SampleIn], task: str, seed: int = 0) -> JudgementRequest:
        """What is asked of the judge. Raises InputError, and pydantic's ValidationError."""
        if not self.model:
            raise InputError("No judge is chosen; is a worker running? Refresh the list.")
        request = JudgementRequest(
            model=self.model,
            samples=list(samples),
            task=task,  # type: ignore[arg-type]
            orders=self.orders(task),  # type: ignore[arg-type]
            scoring="expected" if self.detail == DETAILS[2] else "sample",
            scores_only=self.detail == DETAILS[1],
            temperature=self.temperature,
            top_p=self.top_p,
            max_new_tokens=self.length,  # type: ignore[arg-type]
            seed=seed,
            criteria=self.read_criteria(),
        )
        request.check()
        return request


@dataclass
class Page:
    """What all visitors share."""

    workers: Workers
    log_folder: Path
    folder: Path
    """for what visitors take home; nobody else can read it"""
    reload_models: bool = True
    moderate: Moderate | None = None
    limit: int = 16
    """judgements that run at once, of all visitors"""
    models: list[str] = field(default_factory=list)
    """the judges to choose from"""

    async def opened(self, request: gr.Request) -> Any:
        """The model selector for a new visitor; `?model=` chooses one."""
        if self.reload_models or not self.models:
            await self._find_models()
        return await self._selector(request.query_params.get("model"))

    async def refreshed(self, chosen: str | None) -> Any:
        await self.workers.refresh()
        await self._find_models()
        return await self._selector(chosen)

    async def chosen(self, model: str | None) -> Any:
        """The model selector for a visitor who has chosen: it says how that judge is asked."""
        return gr.update(info=await self._info(model or ""))

    async def _find_models(self) -> None:
        """Those of before stay where the controller does not answer."""
        with contextlib.suppress(WorkerError):
            self.models = await self.workers.models()

    async def _selector(self, wanted: str | None) -> Any:
        value = wanted if wanted in self.models else next(iter(self.models), None)
        info = await self._info(value) if value else "no worker has registered yet"
        return gr.update(choices=self.models, value=value, info=info)

    async def _info(self, model: str) -> str:
        """How a judge is asked, where that is not the usual way."""
        found = Details()
        # where there is no worker, whoever judges is told
        with contextlib.suppress(WorkerError):
            found = await self.workers.details(model) if model in self.models else found
        parts = [
            f"asked in words of its own, tasks {', '.join(found.tasks)}" if found.prompt_template else "",
            _FORMS.get(found.verdict_format, ""),
            "it thinks first" if found.reasoning else "",
        ]
        return "; ".join(filter(None, parts))

    def note_down(self, kind: str, shown: Shown) -> str:
        """Log a vote; says so."""
        if not shown:
            return "Judge something first."
        append_private(self.log_folder / "votes.jsonl", dump_line({"time": time.time(), "vote": kind, **shown}))
        return f"Thank you: {kind} noted."

    def to_file(self, shown: Shown) -> str:
        """The judgement as a JSON file for download."""
        remove_old(self.folder)
        path = self.folder / f"judgement-{uuid.uuid4().hex[:12]}.json"
        write_private(path, dump_json(shown, indent=2) + "\n")
        return str(path)


async def check_texts(moderate: Moderate | None, texts: Sequence[str | None], what: str = "This text") -> None:
    """Raises InputError where the page's moderation, if it has one, flags one of them."""
    if moderate is not None and await moderate("\n".join(text or "" for text in texts)):
        raise InputError(f"{what} goes against the moderation rules of this page.")


def say(error: Exception) -> str:
    """What a visitor is told of an error; nothing of what was sent is repeated."""
    return describe(error) if isinstance(error, ValidationError) else str(error)


class Pace:
    """Tells when the page is to be told of progress again: no more often than every so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.told = time.monotonic() - seconds

    def is_due(self) -> bool:
        """Whether it is time; if so, the next time is later."""
        now = time.monotonic()
        due = now - self.told >= self.seconds
        self.told = now if due else self.told
        return due
