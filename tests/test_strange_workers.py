"""What strange workers and controllers say to our servers: all of it checked and bounded."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any, ClassVar

import httpx
import pytest
from local_server import LocalServer, QuietHandler
from serving import local_controller, served
from test_attacks import code_of, post

from judgelm.serve.worker_requests import GenerateParams

STATUS = {"model_names": ["m"], "speed": 1, "queue_length": 0}


def register(url: str, name: str, status: Any = STATUS, **headers: str) -> httpx.Response:
    body = {"worker_name": name, "check_heart_beat": True, "worker_status": status}
    return post(url + "/register_worker", json.dumps(body).encode(), **headers)


def said(url: str, path: str, body: Any = None) -> Any:
    return post(url + path, json.dumps(body or {}).encode()).json()


@contextlib.contextmanager
def controller(token: str | None = None) -> Iterator[str]:
    with local_controller(token) as found:
        yield found.url


def test_a_worker_registers_no_address_that_is_not_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {
        "both.example": ["127.0.0.1", "203.0.113.9"],
        "own.example": ["127.0.0.1"],
        "mapped.example": ["::ffff:7f00:1"],
    }
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *rest: Any, **settings: Any) -> Any:
        if host in names:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port or 0)) for ip in names[host]]
        return real(host, port, *rest, **settings)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with controller() as url:
        for name in ("http://127.0.0.1:80@203.0.113.9", "http://127.0.0.1:80#x", "http://127.0.0.1:0", "http://a b"):
            assert register(url, name).status_code == 422
        for name in ("http://203.0.113.9:80", "http://both.example:80", "http://0.0.0.0:80", "https://own.example"):
            assert register(url, name).status_code == 403
        # nor by saying that it speaks for another
        assert register(url, "http://203.0.113.9:80", x_forwarded_for="203.0.113.9").status_code == 403
        assert said(url, "/list_models")["models"] == []
        assert register(url, "http://own.example:21002/").status_code == 200
        # the address that was checked is kept: the name may point elsewhere tomorrow
        assert said(url, "/get_worker_address", {"model": "m"}) == {"address": "http://127.0.0.1:21002"}
        beat = {"worker_name": "http://own.example:21002", "queue_length": 3}
        assert said(url, "/receive_heart_beat", beat) == {"exist": True}
        assert said(url, "/deregister_worker", beat) == {"exist": True}
        assert said(url, "/list_models")["models"] == []
        assert said(url, "/list_missing_models")["models"] == []
        for name, address in (
            ("http://mapped.example:7", "http://127.0.0.1:7"),
            ("http://localhost:7", "http://localhost:7"),
            ("http://[::1]:7", "http://[::1]:7"),
            ("http://2130706433:7", "http://127.0.0.1:7"),
        ):
            status = STATUS | {"model_names": [name]}
            assert register(url, name, status).status_code == 200
            assert said(url, "/get_worker_address", {"model": name}) == {"address": address}


@pytest.mark.parametrize("path", ["/register_worker", "/receive_heart_beat", "/deregister_worker"])
def test_without_the_token_nobody_speaks_for_a_worker(path: str) -> None:
    with controller("t0ken") as url:
        body = json.dumps({"worker_name": "http://a.example:1", "check_heart_beat": True, "queue_length": 0}).encode()
        assert code_of(post(url + path, body)) == (401, "invalid_api_key")
        for wrong in ("Bearer t0ke", "t0ken2", "Basic t0ken"):
            assert code_of(post(url + path, body, authorization=wrong)) == (401, "invalid_api_key")
        assert register(url, "http://a.example:1", authorization="Bearer t0ken").status_code == 200
        assert said(url, "/get_worker_address", {"model": "m"}) == {"address": "http://a.example:1"}


@pytest.mark.parametrize(
    "status",
    [
        {"queue_length": 10**400},
        {"queue_length": 10**7},
        {"queue_length": -1},
        {"speed": 0},
        {"speed": 1e300},
        {"speed": float("inf")},
        {"speed": 1e-300},
        {"model_names": []},
        {"model_names": [""]},
        {"model_names": ["x" * 201]},
        {"model_names": ["m"] * 65},
        {"model_names": ["x\n2026-11-25 00:00:00 ERROR judgelm: FORGED \x1b[31mred"]},
        {"model_names": ["\u202egpj"]},
    ],
)
def test_what_a_worker_says_of_itself_is_bounded(status: dict[str, Any]) -> None:
    with controller() as url:
        assert register(url, "http://127.0.0.1:2").status_code == 200
        answer = register(url, "http://127.0.0.1:1", STATUS | status)
        assert answer.status_code == 422
        assert len(answer.text) < 1000
        beat = {"worker_name": "http://127.0.0.1:2", "queue_length": status.get("queue_length", 10**9)}
        assert post(url + "/receive_heart_beat", json.dumps(beat).encode()).status_code == 422
        assert said(url, "/get_worker_address", {"model": "m"}) == {"address": "http://127.0.0.1:2"}


TOO_LARGE = b"too large"


class Strange(QuietHandler):
    """A worker whose every answer is that of `answers`, or without an end."""

    answers: ClassVar[dict[str, bytes]] = {}
    bodies: ClassVar[dict[str, bytes]] = {}
    """what was sent there last"""

    def do_POST(self) -> None:
        self.bodies[self.path] = self.rfile.read(int(self.headers["content-length"] or 0))
        self.send_response(413 if self.answers.get(self.path) == TOO_LARGE else 200)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(self.answers.get(self.path, b"{}"))
            for _ in range(512 if self.path not in self.answers else 0):
                self.wfile.write(b" " * (1 << 20))


@contextlib.contextmanager
def strange(**answers: bytes) -> Iterator[str]:
    Strange.answers = {f"/{name}": body for name, body in answers.items()}
    with LocalServer(Strange) as server:
        yield server.root


@pytest.mark.parametrize(
    "status", [None, b"[" * 100_000, json.dumps(STATUS | {"queue_length": 10**400}).encode(), b'{"model_names": 1}']
)
def test_a_worker_that_gives_no_status_is_not_taken(status: bytes | None) -> None:
    with strange(**({} if status is None else {"worker_get_status": status})) as worker, controller() as url:
        assert register(url, worker, None).status_code == 409
        assert said(url, "/list_models")["models"] == []


def test_a_worker_that_goes_away_is_missed_until_it_is_replaced() -> None:
    with strange(worker_get_status=json.dumps(STATUS).encode()) as worker, controller() as url:
        assert register(url, worker).status_code == 200
        assert register(url, "http://127.0.0.1:1").status_code == 200
        post(url + "/refresh_all_workers")
        assert said(url, "/list_missing_models") == {"models": ["m"]}
        assert said(url, "/get_worker_address", {"model": "m"}) == {"address": worker}
        assert register(url, "http://127.0.0.1:2").status_code == 200
        assert said(url, "/list_missing_models") == {"models": []}


CHUNK = {"text": "8 7", "error_code": 0, "finish_reason": "stop"}
CONV = {
    "name": "c",
    "system_message": "s",
    "roles": ["U", "A"],
    "messages": [],
    "offset": 0,
    "sep_style": 1,
    "sep": " ",
    "sep2": None,
}


def through(url: str, worker: str, params: GenerateParams) -> Any:
    """What the API gets from this worker."""
    from judgelm.serve.worker_client import Workers

    async def ask() -> Any:
        workers, last = Workers(url), None
        try:
            async with contextlib.aclosing(workers.stream("m", params)) as chunks:
                async for chunk in chunks:
                    last = chunk
        finally:
            await workers.close()
        return last

    assert register(url, worker).status_code == 200
    return asyncio.run(ask())


def params(**given: Any) -> GenerateParams:
    return GenerateParams.model_validate({"max_new_tokens": 9, "stop": [], "stop_token_ids": []} | given)


ANSWERS = {
    "model_details": {"context_length": 2048},
    "count_token": {"count": 9, "error_code": 0},
    "worker_get_conv_template": {"conv": CONV},
    "worker_generate_stream": CHUNK,
}


def chat_with(**changed: Any) -> Any:
    """What the API gets of a chat from a worker with these answers beside the usual ones."""
    chat = params(messages=[{"role": "user", "content": "2 + 2?"}])
    answers = {
        name: json.dumps(body).encode() + b"\0" * name.endswith("_stream") for name, body in (ANSWERS | changed).items()
    }
    with controller() as url, strange(**answers) as worker:
        return through(url, worker, chat)


def test_a_worker_of_fastchats_answers_a_chat() -> None:
    assert chat_with().text == "8 7"


@pytest.mark.parametrize(
    ("place", "answer"),
    [
        ("model_details", {"context_length": 10**30}),
        ("model_details", {"context_length": -1}),
        ("model_details", {"context_length": True, "judgelm": 1}),
        ("count_token", {"count": 10**400}),
        ("count_token", {"count": "nine"}),
        ("worker_get_conv_template", {"conv": CONV | {"roles": ["U"]}}),
        ("worker_get_conv_template", {"conv": CONV | {"sep": "x" * 10_000}}),
        ("worker_get_conv_template", {"conv": CONV | {"sep_style": 10**30}}),
        ("worker_get_conv_template", {"conv": CONV | {"messages": [[1, 2]]}}),
        ("worker_get_conv_template", {"conv": CONV | {"messages": [["U", "x"]] * 101}}),
        ("worker_get_conv_template", {"conv": None}),
        ("worker_generate_stream", CHUNK | {"usage": {"prompt_tokens": 10**400}}),
        ("worker_generate_stream", CHUNK | {"usage": {"prompt_tokens": -1}}),
        ("worker_generate_stream", CHUNK | {"text": "x" * ((4 << 20) + 1)}),
        ("worker_generate_stream", CHUNK | {"finish_reason": "x" * 1000}),
        ("worker_generate_stream", CHUNK | {"error_code": 10**30}),
        ("worker_generate_stream", CHUNK | {"shortened": [1] * 100_000}),
    ],
)
def test_what_comes_from_a_worker_is_bounded(place: str, answer: Any) -> None:
    from judgelm.serve.protocol import WorkerError

    with pytest.raises(WorkerError) as refused:
        chat_with(**{place: answer})
    assert len(str(refused.value)) < 3000


def test_each_text_goes_to_a_worker_once_and_its_413_is_the_clients() -> None:
    from judgelm.engine.interface import Sampling
    from judgelm.sample import Sample
    from judgelm.serve.api import create_app
    from judgelm.serve.worker_requests import JudgeSample

    sample = JudgeSample.of(Sample("1", "2 + 2?", ("ALPHA", "BETA")), "pair")
    asked = GenerateParams.of(sample, Sampling(max_new_tokens=9))
    place = "/worker_generate_stream"
    with controller() as url:
        for details, held, left_out in (
            ({"context_length": 2048, "judgelm": "0.1.0", "chat": True}, "sample", "prompt"),
            ({"context_length": 2048, "judgelm": "0.1.0"}, "sample", "prompt"),
            ({"context_length": 2048}, "prompt", "sample"),
        ):
            answers = {"model_details": json.dumps(details).encode(), "count_token": b'{"count": 9}'}
            with strange(**answers, worker_generate_stream=json.dumps(CHUNK).encode() + b"\0") as worker:
                assert through(url, worker, asked).text == "8 7"
                body = json.loads(Strange.bodies[place])
                assert held in body
                assert left_out not in body
                assert Strange.bodies[place].count(b"ALPHA") == 1
                said(url, "/deregister_worker", {"worker_name": worker})
    answers = {"model_details": b'{"context_length": 2048, "judgelm": "x"}', "worker_generate_stream": TOO_LARGE}
    with controller() as url, served(create_app(url)) as api, strange(**answers) as worker:
        assert register(url, worker).status_code == 200
        body = {"model": "m", "samples": [{"question": "2 + 2?", "answers": ["a", "b"]}]}
        assert code_of(post(api + "/v1/judgements", json.dumps(body).encode())) == (413, "too_large")
