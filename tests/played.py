"""A server of OpenAI's API that plays what a test wants."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from conftest import make_samples
from local_server import LocalServer, QuietHandler

from judgelm.engine.interface import Generation, Request, Sampling
from judgelm.engine.openai.engine import OpenAIEngine
from judgelm.engine.openai.requests import Retries
from judgelm.engine.openai.server import Server
from judgelm.prompt import render_prompt


class Reply(NamedTuple):
    """What the played server says; without a body the connection is closed in the middle of one."""

    status: int
    body: Any
    headers: dict[str, str] = {}  # noqa: RUF012


def wrote(text: str = "8 7\nreasons", finish_reason: str = "stop") -> Reply:
    choice = {"index": 0, "text": text, "message": {"content": text}, "finish_reason": finish_reason}
    return Reply(200, {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 20}})


def failed(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"error": {"message": message, "code": code}}, names)


TOO_LONG = failed(400, "This model's maximum context length is 2048 tokens, you asked for more")


class Played(LocalServer):
    """A real server that plays faults: `play(number of the question, how often it was asked before)`."""

    def __init__(self, play: Callable[[int, int], Reply], pause_s: float = 0) -> None:
        super().__init__(Handler)
        self.play, self.pause_s = play, pause_s
        self.url = f"{self.root}/v1"
        self.asked: list[tuple[int, float]] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.now = self.most = 0
        self.lock = threading.Lock()

    def answer(self, body: dict[str, Any], number: int, before: int) -> Reply:
        """What it says to a request."""
        return self.play(number, before)

    def numbers(self) -> list[int]:
        return sorted(number for number, _ in self.asked)


def said_in(body: dict[str, Any]) -> str:
    """The text of a chat's last message."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


class Handler(QuietHandler):
    server: Played
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["prompt"] if self.path.endswith("/v1/completions") else said_in(body)
        found = re.search(r"Question (\d+):", prompt)
        assert found
        number = int(found[1])
        with self.server.lock:
            before = self.server.numbers().count(number)
            self.server.asked.append((number, time.monotonic()))
            self.server.bodies.append(body)
            self.server.keys.add(self.headers["Authorization"])
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        time.sleep(self.server.pause_s)
        reply = self.server.answer(body, number, before)
        with self.server.lock:
            self.server.now -= 1
        content = reply.body.encode() if isinstance(reply.body, str) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(content)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if reply.body is None else content)
        self.close_connection = reply.body is None


GREEDY = Sampling()
QUICK = Retries(attempts=4, first_wait_s=0.01, longest_wait_s=2)


def make_requests(count: int, prefill: str = "") -> list[Request]:
    task = "single" if prefill else "pair"
    return [Request(sample.key, render_prompt(sample, task), [], prefill) for sample in make_samples(count)]


def ask(server: Played, count: int, sampling: Sampling = GREEDY, **settings: Any) -> dict[str, Generation]:
    engine = OpenAIEngine(Server(server.url, "m", **settings), QUICK)
    return {generation.key: generation for generation in engine.generate(make_requests(count), sampling)}
