"""Visitors of the page, without a browser."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from serving import HTTP, Address


class Visitor:
    """Somebody who talks to the page's own routes, as its script does."""

    numbers = itertools.count()

    def __init__(self, page: Address) -> None:
        self.page = page
        self.session = f"visitor{next(self.numbers)}"
        self.config = page.get("/config").json()
        self.names = {part["props"].get("elem_id"): part["id"] for part in self.config["components"]}
        self.run(None, "load")

    def run(self, name: str | None, event: str, *values: Any) -> dict[str, Any]:
        """What comes of an event, in the end: `values` are as the script sends them."""
        wanted = None if name is None else self.names[name]
        job = next(
            job
            for job in self.config["dependencies"]
            if job["backend_fn"] and any(kind == event and wanted in (None, part) for part, kind in job["targets"])
        )
        body = {"data": list(values), "fn_index": job["id"], "session_hash": self.session}
        # json.dumps of the standard library writes NaN and Infinity
        headers = {"content-type": "application/json"}
        sent = HTTP.post(f"{self.page.url}/gradio_api/queue/join", content=json.dumps(body), headers=headers)
        assert sent.status_code == 200, sent.text
        said = self.page.get(f"/gradio_api/queue/data?session_hash={self.session}").text
        events = [json.loads(line[6:]) for line in said.splitlines() if line.startswith("data: ")]
        ended: dict[str, Any] = next(event for event in events if event["msg"] == "process_completed")
        return ended

    def upload(self, path: Path) -> dict[str, Any]:
        with path.open("rb") as file:
            sent = HTTP.post(f"{self.page.url}/gradio_api/upload", files={"files": (path.name, file)})
        return {"path": sent.json()[0], "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}


SETTINGS = {"model": "quick", "detail": "Scores only", "both": True, "temperature": 0, "top_p": 1, "length": 64}
SETTINGS |= {"criteria": "", "rotate": False}


def form(**changed: Any) -> list[Any]:
    return [{**SETTINGS, **changed}[name] for name in SETTINGS]
