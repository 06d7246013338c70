"""What whoever runs the servers sees: metrics, pages of other sites, names with a slash, and an orderly end."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import PATIENCE_S, ROOT, make_samples
from fastapi.responses import StreamingResponse
from scripted_worker import scripted_worker
from serving import HTTP, Address, Server, asked, local_controller, local_stack, models_of, running, served

from judgelm.cli import main
from judgelm.errors import InputError
from judgelm.serve.api import create_app
from judgelm.serve.batches.store import Store
from judgelm.serve.hosts import read_hosts, read_origins
from judgelm.serve.worker_counts import Tally, WorkerCounts

Servers = tuple[Address, Address, Address]
"""controller, worker, API"""


@pytest.fixture(scope="module")
def servers(model_folder: Path) -> Iterator[Servers]:
    with local_stack(model_folder) as started:
        yield started


def metrics_of(api: Address) -> dict[str, float]:
    """Name with labels -> value."""
    lines = [line.rpartition(" ") for line in api.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_the_apis_metrics_have_what_its_workers_did(servers: Servers) -> None:
    _, worker, api = servers
    of = f'model="random-llama",worker="{worker.url}"'
    before = metrics_of(api)
    assert before[f"judgelm_worker_up{{{of}}}"] == 1
    body = {"samples": asked(make_samples(3)), "orders": "both", "max_new_tokens": 8, "temperature": 0}
    usage = api.post("/v1/judgements", body).json()["usage"]
    after = metrics_of(api)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown(f'judgelm_worker_tokens_total{{kind="prompt",{of}}}') == usage["prompt_tokens"]
    assert grown(f'judgelm_worker_tokens_total{{kind="completion",{of}}}') == usage["completion_tokens"]
    assert grown('judgelm_tokens_total{kind="prompt"}') == usage["prompt_tokens"]
    steps = grown(f"judgelm_worker_batch_size_count{{{of}}}")
    assert 8 <= steps <= 48
    assert 8 <= grown(f"judgelm_worker_batch_size_sum{{{of}}}") <= 6 * steps
    assert grown(f'judgelm_worker_batch_size_bucket{{le="8.0",{of}}}') == steps
    # prompts that are read together begin with the same instruction
    assert 0 <= grown(f"judgelm_worker_reused_prompt_tokens_total{{{of}}}") < usage["prompt_tokens"]
    assert after[f"judgelm_worker_requests_waiting{{{of}}}"] == after[f"judgelm_worker_requests_running{{{of}}}"] == 0


@pytest.mark.parametrize("most", [0, 5])
def test_a_prompt_that_is_read_alone_is_counted_once(most: int, servers: Servers) -> None:
    _, worker, api = servers
    before = worker.post("/worker_counts").json()
    body = {"model": "random-llama", "prompt": "What is 2 + 2?", "max_tokens": most, "echo": True, "logprobs": 1}
    usage = api.post("/v1/completions", body | {"temperature": 0}).json()["usage"]
    after = worker.post("/worker_counts").json()
    assert after["prompt_tokens"] - before["prompt_tokens"] == usage["prompt_tokens"] > 0
    assert after["new_tokens"] - before["new_tokens"] == usage["completion_tokens"] <= most
    assert 1 <= after["requests"] - before["requests"] <= max(1, usage["completion_tokens"])


def test_what_is_read_together_once_is_counted() -> None:
    tally = Tally()
    tally.begin([[1, 2, 3, 4], [1, 2, 9], [1, 2, 9, 9], [7]], packed=True)
    tally.begin([[1, 2, 3, 4], [1, 2, 9]])
    for size in (1, 3, 4, 200):
        tally.step(size)
    counts = WorkerCounts.of(tally, 5)
    assert (counts.prompt_tokens, counts.reused_tokens) == (12 + 7, 2 + 3)
    assert counts.steps == [1, 0, 2, 0, 0, 0, 0, 0, 1]
    assert (counts.requests, counts.running, counts.waiting) == (208, 5, 0)


def test_a_worker_that_says_nothing_of_itself_is_not_up() -> None:
    with (
        local_controller() as controller,
        scripted_worker(controller, name="org/model"),
        served(create_app(controller.url)) as url,
    ):
        found = metrics_of(Address(url))
        (name,) = [name for name in found if name.startswith("judgelm_worker")]
        assert name.startswith('judgelm_worker_up{model="org/model",worker="http://127.0.0.1:')
        assert found[name] == 0
    with served(create_app("http://127.0.0.1:9")) as url:
        assert "judgelm_worker_up{" not in Address(url).get("/metrics").text


def test_the_board_asks_for_metrics_that_there_are(servers: Servers, tmp_path: Path) -> None:
    board = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    wanted = {name for query in queries for name in re.findall(r"judgelm_\w+", query)}
    store = Store(tmp_path)
    with served(create_app(servers[0].url, store=store)) as url:
        api = Address(url)
        assert api.post("/v1/judgements", {"samples": asked(make_samples(1)), "max_new_tokens": 4}).status_code == 200
        names = {name.partition("{")[0] for name in metrics_of(api)}
        described = set(re.findall(r"# TYPE (\w+)", api.get("/metrics").text))
    store.close()
    # a counter with a label has no line before it was counted
    assert wanted - names == {"judgelm_batch_lines_total"}
    assert "judgelm_batch_lines_total" in described | {f"{name}_total" for name in described}
    for query in queries:
        assert query.count("(") == query.count(")")


ORIGIN = "https://app.example.com"


@pytest.fixture(scope="module")
def shared(servers: Servers) -> Iterator[Address]:
    """An API with keys that pages of one other site may ask."""
    app = create_app(servers[0].url, ["key"], read_hosts([], "127.0.0.1"), origins=read_origins([ORIGIN]))
    with served(app) as url:
        yield Address(url)


def preflight(api: Address, origin: str, method: str = "POST", headers: str = "authorization") -> httpx.Response:
    asked = {"origin": origin, "access-control-request-method": method, "access-control-request-headers": headers}
    return HTTP.options(api.url + "/v1/judgements", headers=asked)


def test_a_page_that_is_named_may_ask_and_no_other(shared: Address, servers: Servers) -> None:
    answer = preflight(shared, ORIGIN, headers="authorization,content-type,x-stainless-os")
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type,x-stainless-os"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in answer.headers
    body = {"samples": asked(make_samples(1)), "max_new_tokens": 4}
    from_page = {"origin": ORIGIN, "sec-fetch-site": "cross-site"}
    judged = shared.post("/v1/judgements", body, headers=from_page | {"authorization": "Bearer key"})
    assert (judged.status_code, judged.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert "Origin" in judged.headers["vary"]
    # a page can read why it is refused
    refused = shared.post("/v1/judgements", body, headers=from_page)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, ORIGIN)
    for other in ("https://evil.example", "http://app.example.com", ORIGIN + ".evil.example", "null"):
        assert preflight(shared, other).status_code == 400
        assert "access-control-allow-origin" not in preflight(shared, other).headers
        headers = {"origin": other, "sec-fetch-site": "cross-site", "authorization": "Bearer key"}
        answer = shared.post("/v1/judgements", body, headers=headers)
        assert (answer.status_code, "access-control-allow-origin" in answer.headers) == (403, False)
    assert preflight(shared, ORIGIN, method="PATCH").status_code == 400
    # without the flag there is none of it
    assert preflight(servers[2], ORIGIN).status_code == 405


def test_a_page_can_read_that_the_server_failed(servers: Servers) -> None:
    app = create_app(servers[0].url, origins=read_origins([ORIGIN]))

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("a mistake of ours")

    @app.get("/half")
    def half() -> StreamingResponse:
        def text() -> Iterator[str]:
            yield "so far"
            raise RuntimeError("a mistake of ours")

        return StreamingResponse(text())

    with served(app) as url:
        api = Address(url)
        answer = api.get("/broken", headers={"origin": ORIGIN})
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "server_error")
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert metrics_of(api)['judgelm_requests_total{route="/broken",status="500"}'] == 1
        with pytest.raises(httpx.RemoteProtocolError):
            api.get("/half")


def test_any_page_may_ask_where_that_is_said(servers: Servers) -> None:
    app = create_app(servers[0].url, hosts=read_hosts([], "127.0.0.1"), origins=read_origins(["*"]))
    with served(app) as url:
        api = Address(url)
        assert preflight(api, "https://any.example").headers["access-control-allow-origin"] == "*"
        answer = api.post("/v1/judgements", {}, headers={"origin": "null", "sec-fetch-site": "cross-site"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (422, "*")


def test_an_origin_is_written_as_browsers_do() -> None:
    given = ["HTTPS://App.example.com:443", "http://a:80", "http://b:443", "http://c:8080", "https://[::1]:443", "*"]
    written = {"https://app.example.com", "http://a", "http://b:443", "http://c:8080", "https://[::1]", "*"}
    assert read_origins(given) == written


@pytest.mark.parametrize("origin", ["app.example.com", "https://a/path", "https://", "ftp://a", "https://u@a", "null"])
def test_what_is_no_origin_ends_in_one_line(origin: str) -> None:
    with pytest.raises(InputError, match="expected an origin such as"):
        read_origins([origin])


def test_bad_flags_end_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags, said in (
        (["--allow-origin", "example.com"], "expected an origin"),
        (["--root-path", "judge"], "expected a path such as /judge"),
        (["--root-path", "/a b"], "expected a path such as /judge"),
        (["--drain-timeout", "-1"], "a number from 0 on"),
        (["--served-model-name", "a", "b"], "expected a name for each of 1 models, found 2"),
        (["--served-model-name", "org//a"], "expected a name such as org/model"),
        (["--served-model-name", "/a"], "expected a name such as org/model"),
        (["--served-model-name", "a,b"], "expected a name such as org/model"),
        (["--model", "tiny", "tiny-base", "--served-model-name", "org/a", "org/a"], "each name may come once"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["serve", "--log-dir", str(tmp_path / "logs"), *flags])
        printed = capsys.readouterr().err.strip()
        assert (ended.value.code, len(printed.splitlines())) == (2, 1), printed
        assert said in printed


def judge(api: Address, number: int) -> httpx.Response:
    sample = {"question": f"Question {number}?", "answers": ["a", "b"]}
    return api.post("/v1/judgements", {"samples": [sample], "orders": "forward"})


def test_an_api_that_is_stopped_ends_what_runs_and_begins_nothing(tmp_path: Path) -> None:
    with local_controller() as controller, scripted_worker(controller, held_from=1) as worker:
        api = Server("api", tmp_path, "--controller-address", controller.url, "--batch-dir", tmp_path / "batches")
        with running(api), ThreadPoolExecutor() as pool:
            api.wait(lambda: api.get("/health").status_code == 200)
            before = pool.submit(judge, api, 1)
            api.wait(lambda: worker.asked == [1])
            api.process.send_signal(signal.SIGTERM)
            api.wait(lambda: api.get("/health").status_code == 503)
            refused = judge(api, 2)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "stopping"
            assert int(refused.headers["retry-after"]) > 0
            assert api.get("/metrics").status_code == 200
            worker.opened.set()
            assert before.result(PATIENCE_S).json()["data"][0]["scores"] == [8, 7]
            assert api.process.wait(PATIENCE_S) == 0
        assert worker.asked == [1]


def test_what_does_not_end_in_its_time_is_given_up(tmp_path: Path) -> None:
    with local_controller() as controller, scripted_worker(controller, held_from=1) as worker:
        api = Server("api", tmp_path, "--controller-address", controller.url, "--drain-timeout", "0.3")
        with running(api), ThreadPoolExecutor() as pool:
            api.wait(lambda: api.get("/health").status_code == 200)
            before = pool.submit(judge, api, 1)
            api.wait(lambda: worker.asked == [1])
            assert api.stop(signal.SIGTERM) == 0
            assert before.result(PATIENCE_S).status_code == 500
        assert "1 requests have not ended and are given up" in api.log.read_text()


def test_a_worker_that_is_stopped_writes_to_the_end_and_another_one_is_asked(
    tmp_path: Path, model_folder: Path
) -> None:
    with local_controller() as controller:
        flags = ("--controller-address", controller.url, "--model-path", model_folder, "--device", "cpu")
        worker = Server("model_worker", tmp_path, *flags, "--model-names", "org/a,org/b", "--drain-timeout", "900")
        with running(worker):
            controller.wait(lambda: models_of(controller) == ["org/a", "org/b"])
            body = {"model": "org/a", "prompt": "Why?", "temperature": 0, "max_new_tokens": 150, "stop": None}
            chunks: list[dict[str, Any]] = []
            begun = threading.Event()

            def read() -> None:
                with HTTP.stream("POST", worker.url + "/worker_generate_stream", json=body) as response:
                    rest = b""
                    for data in response.iter_bytes():
                        *parts, rest = (rest + data).split(b"\0")
                        chunks.extend(map(json.loads, parts))
                        begun.set()

            reading = threading.Thread(target=read)
            reading.start()
            assert begun.wait(PATIENCE_S)
            worker.process.send_signal(signal.SIGTERM)
            assert worker.process.wait(PATIENCE_S) == 0
            reading.join()
            assert chunks[-1]["finish_reason"] in ("stop", "length")
            assert models_of(controller) == []


def test_a_worker_that_is_stopping_is_passed_over() -> None:
    from judgelm.serve.worker_client import Workers
    from judgelm.serve.worker_requests import GenerateParams

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "stopping":
            return httpx.Response(503, headers={"retry-after": "10"})
        turns.append(request.url.path)
        address = "http://stopping" if turns.count("/get_worker_address") == 1 else "http://other"
        known = {"/get_worker_address": {"address": address}, "/model_details": {"judgelm": "x"}}
        if request.url.path == "/worker_generate_stream":
            return httpx.Response(200, content=b'{"text": "8 7", "error_code": 0, "finish_reason": "stop"}\0')
        return httpx.Response(200, json=known.get(request.url.path, {}))

    async def ask() -> list[str]:
        workers = Workers("http://controller")
        workers._http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
        return [chunk.text async for chunk in workers.stream("m", GenerateParams(prompt="Why?"))]

    turns: list[str] = []
    assert asyncio.run(ask()) == ["8 7"]
    assert "/refresh_all_workers" in turns
