"""What all visitors of the page share: the workers, the judges to choose from, and where files go."""

from __future__ import annotations

import contextlib
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from judgelm.jsonl import dump_json, dump_line
from judgelm.serve.page.files import append_private, remove_old, write_private
from judgelm.serve.page.settings import Moderate
from judgelm.serve.protocol import WorkerError
from judgelm.serve.worker_client import Workers

Shown = dict[str, Any]
"""what a tab remembers of its last judgement; empty before the first"""


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

    async def find_models(self) -> list[str]:
        """The judges to choose from; those of before where the controller does not answer."""
        with contextlib.suppress(WorkerError):
            self.models = await self.workers.models()
        return self.models

    async def opened(self, request: gr.Request) -> Any:
        """The model selector for a new visitor; `?model=` chooses one."""
        if self.reload_models or not self.models:
            await self.find_models()
        wanted = request.query_params.get("model")
        return self._selector(wanted)

    async def refreshed(self, chosen: str | None) -> Any:
        await self.workers.refresh()
        await self.find_models()
        return self._selector(chosen)

    def _selector(self, wanted: str | None) -> Any:
        value = wanted if wanted in self.models else next(iter(self.models), None)
        info = "" if self.models else "no worker has registered yet"
        return gr.update(choices=self.models, value=value, info=info)

    def note_down(self, kind: str, shown: Shown) -> str:
        """Log a vote; says so."""
        if not shown:
            return "Judge something first."
        record = {"time": time.time(), "vote": kind, **shown}
        append_private(self.log_folder / "votes.jsonl", dump_line(record))
        return f"Thank you: {kind} noted."

    def to_file(self, shown: Shown) -> str:
        """The judgement as a JSON file for download."""
        remove_old(self.folder)
        path = self.folder / f"judgement-{uuid.uuid4().hex[:12]}.json"
        write_private(path, dump_json(shown, indent=2) + "\n")
        return str(path)
