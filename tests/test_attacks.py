"""What strangers send to our servers: all of it to servers of this process, on loopback, and bounded."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from conftest import PATIENCE_S
from serving import HTTP, local_controller, served

from judgelm.errors import InputError
from judgelm.serve.guard import Guard
from judgelm.serve.hosts import Hosts, read_hosts
from judgelm.serve.servers import Protocol, check_url, log_to_stderr, read_secret
from judgelm.serve.worker_requests import GenerateParams


class Echo:
    """Answers with the number of bytes that came."""

    def __init__(self) -> None:
        self.seen = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.seen += 1
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(size).encode()})


def local() -> Hosts:
    return read_hosts([], "127.0.0.1")


def post(url: str, content: bytes = b"{}", kind: str | None = "application/json", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    kinds = {} if kind is None else {"content-type": kind}
    return HTTP.post(url, content=content, headers=kinds | named)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["code"]


@pytest.mark.parametrize(
    ("listened", "given", "host", "right"),
    [
        ("127.0.0.1", "", "127.0.0.1:21003", True),
        ("127.0.0.1", "", "localhost", True),
        ("127.0.0.1", "", "LOCALHOST.:80", True),
        ("127.0.0.1", "", "[::1]:21003", True),
        ("127.0.0.1", "", "[::ffff:127.0.0.1]", True),
        ("::1", "", "[::1]:21003", True),
        ("127.0.0.1", "", "evil.example", False),
        ("127.0.0.1", "", "evil.example:21003", False),
        ("127.0.0.1", "", "localhost.evil.example", False),
        ("127.0.0.1", "", "127.0.0.1.nip.io", False),
        ("127.0.0.1", "", "localhost@evil.example", False),
        ("127.0.0.1", "", "evil.example#localhost", False),
        ("127.0.0.1", "", "", False),
        ("127.0.0.1", "", "2130706433", False),
        ("127.0.0.1", "", "203.0.113.9", False),
        ("0.0.0.0", "", "203.0.113.9:21003", True),
        ("0.0.0.0", "", "0.0.0.0:21003", True),
        ("127.0.0.1", "", "0.0.0.0:21003", False),
        ("0.0.0.0", "", "[2001:db8::1]:21003", True),
        ("0.0.0.0", "", socket.gethostname(), True),
        ("0.0.0.0", "", "evil.example", False),
        ("127.0.0.1", "judge.example", "judge.example", True),
        ("127.0.0.1", "judge.example", "Judge.Example.:443", True),
        ("127.0.0.1", "judge.example", "a.judge.example", False),
        ("127.0.0.1", "*.judge.example", "a.b.judge.example", True),
        ("127.0.0.1", "*.judge.example", "judge.example", False),
        ("127.0.0.1", "*.judge.example", "eviljudge.example", False),
        ("127.0.0.1", "*", "whatever.example", True),
    ],
)
def test_a_server_is_called_by_its_own_names_alone(listened: str, given: str, host: str, right: bool) -> None:
    hosts = read_hosts([name for name in given.split(",") if name], listened)
    assert hosts.allows(host) == right


def test_the_flag_of_hosts_takes_hosts_alone() -> None:
    for name in ("http://judge.example", "a b", "judge.example/path", "*.", "user@judge.example"):
        with pytest.raises(InputError, match="expected a host such as"):
            read_hosts([name], "127.0.0.1")


def test_a_foreign_host_a_foreign_page_and_another_type_are_refused_before_the_app() -> None:
    app = Echo()
    with served(Guard(app, hosts=local())) as url:
        host = url.removeprefix("http://")
        assert code_of(post(url, host="evil.example")) == (403, "forbidden")
        assert code_of(post(url, origin="http://evil.example")) == (403, "forbidden")
        assert code_of(post(url, origin="http://127.0.0.1:1")) == (403, "forbidden")
        assert code_of(post(url, origin="null")) == (403, "forbidden")
        assert code_of(post(url, sec_fetch_site="cross-site")) == (403, "forbidden")
        assert code_of(post(url, origin=f"http://{host}", sec_fetch_site="same-site")) == (403, "forbidden")
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"):
            assert code_of(post(url, kind=kind)) == (415, "not_json")
        assert app.seen == 0
        for headers in ({}, {"origin": f"http://{host}", "sec_fetch_site": "same-origin"}, {"sec_fetch_site": "none"}):
            assert post(url, **headers).text == "2"
        assert post(url, kind="Application/JSON; charset=utf-8").text == "2"
        # links from other pages lead here, and a post without a body has no type
        assert HTTP.get(url, headers={"sec-fetch-site": "cross-site"}).status_code == 200
        assert post(url, b"", None).text == "0"
    with served(Guard(app, hosts=read_hosts(["judge.example"], "127.0.0.1"))) as url:
        # behind a proxy that calls us by our own name
        assert post(url, origin="https://judge.example", sec_fetch_site="same-origin").text == "2"


def test_the_key_is_asked_for_before_anything_of_the_body_is_kept() -> None:
    app = Echo()

    def admit(path: str, authorization: str) -> str | None:
        return None if path == "/open" or authorization == "Bearer k" else "a key is needed"

    guard = Guard(app, admit=admit)
    with served(guard) as url:
        assert code_of(post(url + "/x", b" " * (4 << 20))) == (401, "invalid_api_key")
        assert app.seen == 0
        assert post(url + "/open").text == "2"
        assert post(url + "/x", authorization="Bearer k").text == "2"
        # a client that waits for leave to send its body is answered at once
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 10) as raw:
            raw.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
            assert raw.recv(1000).startswith(b"HTTP/1.1 401 ")


def test_the_key_is_asked_for_where_the_api_is_mounted_too() -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from judgelm.serve.api import create_app

    with served(Starlette(routes=[Mount("/judge", create_app("http://127.0.0.1:9", ["k"]))])) as url:
        assert code_of(post(url + "/judge/v1/judgements")) == (401, "invalid_api_key")
        assert code_of(post(url + "/judge/v1/judgements", authorization="Bearer k")) == (422, "invalid_request")
        assert HTTP.get(url + "/judge/metrics").status_code == 200


@pytest.mark.parametrize(
    ("origin", "host", "may"),
    [
        ("http://10.0.0.5:7860", "10.0.0.5:7860", True),
        ("http://10.0.0.5", "10.0.0.5:7860", False),
        ("http://10.0.0.5:80", "10.0.0.5:7860", False),
        ("http://judge.example", "judge.example:80", True),
        ("https://judge.example", "judge.example:443", True),
        ("https://judge.example:8443", "judge.example", True),
        ("http://other.example", "judge.example", False),
        ("null", "judge.example", False),
    ],
)
def test_a_page_on_another_port_of_the_same_host_is_another_page(origin: str, host: str, may: bool) -> None:
    assert local().allows_page(origin, host) is may


def test_all_bodies_together_are_bounded_and_small_ones_pass_while_large_ones_wait() -> None:
    app = Echo()
    with served(Guard(app, limit=1 << 20, total=3 << 20, linger_s=0.3)) as url:
        host, port = url.removeprefix("http://").split(":")
        slow = []
        try:
            for _ in range(5):
                raw = socket.create_connection((host, int(port)), 10)
                slow.append(raw)
                head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {1 << 20}"
                raw.sendall(head.encode() + b"\r\n\r\n" + b" " * ((1 << 20) - 1))
            refused = 0
            for raw in slow:
                raw.settimeout(1.5)
                with contextlib.suppress(TimeoutError):
                    refused += raw.recv(1000).startswith(b"HTTP/1.1 429 ")
            # three would fit, and none is whole when the others come
            assert 1 <= refused <= 3
            assert post(url, b" " * 1000).text == "1000"
            # their last byte
            for raw in slow:
                with contextlib.suppress(OSError):
                    raw.sendall(b" ")
        finally:
            for raw in slow:
                raw.close()
        end = time.monotonic() + PATIENCE_S
        while post(url, b" " * (1 << 20)).status_code != 200:
            assert time.monotonic() < end
    assert code_of_size(1 << 20, (1 << 20) + 1) == (413, "too_large")


def code_of_size(limit: int, size: int) -> tuple[int, str]:
    with served(Guard(Echo(), limit=limit)) as url:
        return code_of(post(url, b" " * size))


def test_a_body_and_a_head_that_do_not_come_are_not_waited_for() -> None:
    class Hasty(Protocol):
        head_s = 0.5

    with served(Guard(Echo(), body_s=0.5), Hasty) as url:
        host, port = url.removeprefix("http://").split(":")
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
        for sent, said in ((b"", b""), (b"POST / HT", b""), (head, b"HTTP/1.1 408 "), (head + b"{", b"HTTP/1.1 408 ")):
            with socket.create_connection((host, int(port)), 10) as raw:
                raw.sendall(sent)
                got = b""
                while part := raw.recv(1000):
                    got += part
                assert got.startswith(said)
                assert bool(got) == bool(said)
        with socket.create_connection((host, int(port)), 10) as raw:
            # an answered request, and then half of another one
            raw.sendall(head + b"123456789" + b"POST / HT")
            got = b""
            while part := raw.recv(1000):
                got += part
            assert got.startswith(b"HTTP/1.1 200 ")


def test_a_client_that_takes_nothing_of_its_answer_is_let_go() -> None:
    ended = threading.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await Echo()(scope, receive, send)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b" " * (1 << 20), "more_body": True})
                await asyncio.sleep(0)
        finally:
            ended.set()

    class Hasty(Protocol):
        stalled_s = 0.5

    with served(Guard(endless), Hasty) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 10) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert ended.wait(20)


def test_what_is_no_http_is_answered_in_the_documented_shape() -> None:
    with served(Guard(Echo())) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 10) as raw:
            raw.sendall(b"nonsense\r\n\r\n")
            got = b""
            while part := raw.recv(1000):
                got += part
        head, body = got.split(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert json.loads(body)["error"]["code"] == "invalid_request"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:80@203.0.113.9",
        "http://127.0.0.1@203.0.113.9:80",
        "http://:@203.0.113.9",
        "http://127.0.0.1:80#@203.0.113.9",
        "http://127.0.0.1:80#",
        "http://127.0.0.1:80?",
        "http://127.0.0.1:80/path",
        "http://203.0.113.9\\@127.0.0.1",
        "http://127.0.0.1\t.evil.example",
        "http://127.0.0.1\n:80",
        "http://127.0.0.1:0",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:８０",
        "http://[::1",
        "http://",
        "file:///etc/passwd",
        "ftp://127.0.0.1",
        " http://127.0.0.1",
    ],
)
def test_an_address_has_a_host_and_a_port_alone(url: str) -> None:
    with pytest.raises(InputError, match="expected an address such as"):
        check_url(url, "--controller-address")


@pytest.mark.parametrize("url", ["http://[::1]:21001", "HTTP://localhost:21001/", "https://a-b.example_1.:443"])
def test_an_address_may_be_of_any_kind_of_host(url: str) -> None:
    assert check_url(url, "--controller-address") == url.rstrip("/")


@pytest.mark.parametrize("value", [" , ", ",", " ", "\t", "schlüssel", "a\nb", "\x1b"])
def test_a_variable_that_holds_no_key_is_an_error_and_not_an_open_door(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGELM_API_KEYS", value)
    with pytest.raises(InputError, match="JUDGELM_API_KEYS is set, but holds nothing") as said:
        read_secret("JUDGELM_API_KEYS")
    assert "schl" not in str(said.value)


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from judgelm.serve.api import read_keys

    for value, keys in (("", []), ("one, two,\n", ["one", "two"])):
        monkeypatch.setenv("JUDGELM_API_KEYS", value)
        assert read_keys() == keys


@pytest.mark.parametrize(
    ("host", "token", "warned"), [("0.0.0.0", "", True), ("0.0.0.0", "t", False), ("127.0.0.1", "", False)]
)
def test_a_controller_beyond_this_machine_without_a_token_says_so(
    host: str, token: str, warned: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from judgelm.serve import controller as module

    monkeypatch.setenv("JUDGELM_REGISTRATION_TOKEN", token)
    monkeypatch.setattr(module, "run_server", lambda _, listening: listening.close())
    with pytest.raises(SystemExit) as ended, caplog.at_level(logging.WARNING):
        module.main(["--host", host, "--port", "0"])
    assert ended.value.code == 0
    assert [record.message.count("without a token") for record in caplog.records] == [1] * warned


def test_a_token_that_is_none_ends_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from judgelm.serve import api, controller

    for module, variable in ((controller, "JUDGELM_REGISTRATION_TOKEN"), (api, "JUDGELM_API_KEYS")):
        monkeypatch.setenv(variable, " , ")
        with pytest.raises(SystemExit) as ended:
            module.main(["--port", "0"])
        assert ended.value.code == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert [line for line in said if "error" in line] == [
            f"judgelm: error: {variable} is set, but holds nothing that can be sent in a header; unset it to go without"
        ]


@pytest.mark.parametrize("model", [".", "..", "./", "tiny", "a/b", "x/y/"])
def test_a_model_is_served_under_a_name(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from judgelm.serve.settings import served_name

    (tmp_path / "judge" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "judge" / "here")
    right = {".": "here", "..": "judge", "./": "here", "tiny": "tiny", "a/b": "b", "x/y/": "y"}
    assert served_name(model) == right[model]
    for bad in ("/", "a/x\ny", "a/" + "x" * 201):
        with pytest.raises(InputError, match="expected a folder with a name"):
            served_name(bad)


def test_a_line_of_the_log_is_one_line_whatever_was_sent() -> None:
    root, stream = logging.getLogger(), io.StringIO()
    before = root.handlers[:]
    root.handlers[:] = []
    try:
        log_to_stderr()
        handler = root.handlers[0]
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(stream)
        forged = "x\n2026-11-25 00:00:00 ERROR judgelm: FORGED \x1b[31mred\r\u2028\u202eend"
        logging.getLogger("test").warning("model %s", forged)
        try:
            raise ValueError(forged)
        except ValueError:
            logging.getLogger("test").exception("it failed: %s", forged)
    finally:
        root.handlers[:] = before
    first, *rest = stream.getvalue().removesuffix("\n").split("\n")
    assert first.endswith("model x 2026-11-25 00:00:00 ERROR judgelm: FORGED [31mred end")
    assert "it failed: x 2026-11-25" in rest[0]
    assert all(line.startswith("    ") for line in rest[1:])
    assert not set(stream.getvalue()) & set("\x1b\r\u2028\u202e")


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


class Strange(BaseHTTPRequestHandler):
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

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def strange(**answers: bytes) -> Iterator[str]:
    Strange.answers = {f"/{name}": body for name, body in answers.items()}
    with ThreadingHTTPServer(("127.0.0.1", 0), Strange) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


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

    answers = {
        "model_details": {"context_length": 2048},
        "count_token": {"count": 9, "error_code": 0},
        "worker_get_conv_template": {"conv": CONV},
        "worker_generate_stream": CHUNK,
    }
    chat = params(messages=[{"role": "user", "content": "2 + 2?"}])

    def encoded(given: dict[str, Any]) -> dict[str, bytes]:
        return {name: json.dumps(body).encode() + b"\0" * name.endswith("_stream") for name, body in given.items()}

    with controller() as url:
        with strange(**encoded(answers)) as worker:
            assert through(url, worker, chat).text == "8 7"
        with strange(**encoded(answers | {place: answer})) as worker, pytest.raises(WorkerError) as refused:
            through(url, worker, chat)
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
