"""A worker in FastChat's protocol that says what a test wants, when it wants it."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from conftest import PATIENCE_S
from local_server import LocalServer, QuietHandler
from serving import Address


class ScriptedWorker(LocalServer):
    """It scores each pair 8 to 7, or answers with other `chunks`; prompts with "Question N", N at least `held_from`,
    wait until it is `opened`.
    """

    def __init__(
        self,
        name: str = "scripted",
        held_from: int = 1_000_000,
        chunks: Sequence[dict[str, Any]] = ({"text": "8 7\nGood.", "error_code": 0, "finish_reason": "stop"},),
    ) -> None:
        super().__init__(_Handler)
        self.chunks = chunks
        self.name = name
        self.held_from = held_from
        self.opened = threading.Event()
        self.asked: list[int] = []
        """numbers of the questions, in the order in which they came"""
        self.waiting = self.most_waiting = 0
        """prompts that wait, and most of them that ever did at once"""
        self._counting = threading.Lock()

    def hold(self) -> None:
        """Until it is opened."""
        with self._counting:
            self.waiting += 1
            self.most_waiting = max(self.waiting, self.most_waiting)
        self.opened.wait(PATIENCE_S)
        with self._counting:
            self.waiting -= 1

    def register(self, controller: Address) -> None:
        status = {"model_names": [self.name], "speed": 1, "queue_length": 0}
        body = {"worker_name": self.root, "check_heart_beat": False, "worker_status": status}
        assert controller.post("/register_worker", body).status_code == 200


class _Handler(QuietHandler):
    server: ScriptedWorker

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["content-length"] or 0)) or b"{}")
        answers = {
            "/model_details": {"context_length": 2048},
            "/count_token": {"count": 9, "error_code": 0},
            "/worker_get_status": {"model_names": [self.server.name], "speed": 1, "queue_length": 0},
            "/worker_get_conv_template": {"error_code": 1},
        }
        said = [json.dumps(answers[self.path]).encode()] if self.path in answers else []
        if self.path == "/worker_generate_stream":
            found = re.search(r"Question (\d+)", given["prompt"])
            number = int(found[1]) if found else 0
            self.server.asked.append(number)
            if number >= self.server.held_from:
                self.server.hold()
            said = [json.dumps(chunk).encode() + b"\0" for chunk in self.server.chunks]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"".join(said))


@contextlib.contextmanager
def scripted_worker(controller: Address, **settings: Any) -> Iterator[ScriptedWorker]:
    """One that serves and is registered."""
    with ScriptedWorker(**settings) as worker:
        worker.register(controller)
        try:
            yield worker
        finally:
            worker.opened.set()
