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
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import PATIENCE_S
from serving import HTTP, served

from judgelm.errors import InputError
from judgelm.serve.guard import Guard
from judgelm.serve.hosts import Hosts, read_hosts
from judgelm.serve.servers import Protocol, check_url, log_to_stderr, read_secret


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
    # of a body that has come nothing is waited for
    with served(Guard(app, hosts=local(), linger_s=PATIENCE_S)) as url:
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
        own: list[Any] = [{}, {"origin": f"http://{host}", "sec_fetch_site": "same-origin"}, {"sec_fetch_site": "none"}]
        for headers in own:
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
