from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import make_samples
from local_server import LocalServer, QuietHandler
from serving import HTTP, Address, Server, local_controller, local_stack, models_of, running

from judgelm.judge.judge import Judge
from judgelm.prompt import render_prompt
from judgelm.serve.protocol import ErrorCode
from judgelm.serve.worker_requests import GenerateParams

Servers = tuple[Address, Address, Address]
"""controller, worker, API"""


@pytest.fixture(scope="module")
def servers(model_folder: Path) -> Iterator[Servers]:
    with local_stack(model_folder, max_waiting=40) as started:
        yield started


@pytest.fixture(scope="module")
def judge(model_folder: Path) -> Judge:
    return Judge.load(str(model_folder), dtype="float32", device="cpu")


def asked(count: int) -> list[dict[str, Any]]:
    return [
        {"question_id": sample.question_id, "question": sample.question, "answers": list(sample.answers)}
        for sample in make_samples(count)
    ]


def stream(server: Address, body: Any) -> list[dict[str, Any]]:
    """What a FastChat client reads."""
    with HTTP.stream("POST", server.url + "/worker_generate_stream", json=body) as response:
        return [json.loads(part) for part in response.read().split(b"\0") if part]


def test_the_worker_streams_and_answers_as_fastchats_does(servers: Servers) -> None:
    controller, worker, _ = servers
    assert models_of(controller) == ["random-llama"]
    assert controller.post("/get_worker_address", {"model": "random-llama"}).json() == {"address": worker.url}
    assert controller.post("/get_worker_address", {"model": "other"}).json() == {"address": ""}
    assert worker.post("/worker_get_status").json() == {"model_names": ["random-llama"], "speed": 1, "queue_length": 0}
    assert worker.post("/model_details").json()["context_length"] == 2048
    prompt = render_prompt(make_samples(1)[0])
    body = {"model": "random-llama", "prompt": prompt, "temperature": 0, "max_new_tokens": 12, "stop": None}
    chunks = stream(worker, body)
    assert all(chunk["error_code"] == 0 for chunk in chunks)
    texts = [chunk["text"] for chunk in chunks]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
    last = chunks[-1]
    assert last["finish_reason"] == "length"
    assert last["usage"]["completion_tokens"] == 12
    assert last["usage"]["prompt_tokens"] == worker.post("/count_token", {"prompt": prompt}).json()["count"]
    assert worker.post("/worker_generate", body).json()["text"] == last["text"]
    assert worker.post("/worker_generate", body | {"echo": True}).json()["text"] == prompt + last["text"]
    # the controller passes a generation on
    assert stream(controller, body)[-1]["text"] == last["text"]
    assert stream(controller, body | {"model": "other"})[0]["error_code"] == ErrorCode.CONTROLLER_NO_WORKER


def test_judgements_are_those_of_the_python_api(servers: Servers, judge: Judge) -> None:
    api = servers[2]
    body = {"samples": asked(6), "orders": "both", "max_new_tokens": 24, "temperature": 0.7, "seed": 3}
    answer = api.post("/v1/judgements", body).json()
    verdicts = judge.judge(make_samples(6), orders="both", max_new_tokens=24, temperature=0.7, seed=3)
    assert [result["question_id"] for result in answer["data"]] == list(range(6))
    for result, verdict in zip(answer["data"], verdicts, strict=True):
        assert verdict.forward is not None
        assert verdict.reversed is not None
        assert [j["order"] for j in result["judgements"]] == ["forward", "reversed"]
        assert [j["text"] for j in result["judgements"]] == [verdict.forward.text, verdict.reversed.text]
        assert result["scores"] == (None if verdict.scores is None else list(verdict.scores))
        assert result["consistent"] == verdict.consistent
        assert result["error"] is None
    tokens = sum(j["usage"]["completion_tokens"] for result in answer["data"] for j in result["judgements"])
    assert answer["usage"]["completion_tokens"] == tokens > 0


def test_constrained_judgements_have_scores(servers: Servers) -> None:
    api = servers[2]
    body = {"samples": asked(5), "orders": "both", "scores_only": True, "constrained": True, "temperature": 2}
    for result in api.post("/v1/judgements", body).json()["data"]:
        first, second = result["judgements"]
        assert first["parse"] == second["parse"] == "ok"
        assert result["scores"] == [(first["scores"][k] + second["scores"][1 - k]) / 2 for k in (0, 1)]
        assert result["outcome"] in ("win", "tie", "lose")
        assert result["consistent"] == (
            {"win": "lose", "lose": "win", "tie": "tie"}[second["outcome"]] == first["outcome"]
        )


def test_every_task_can_be_judged(servers: Servers) -> None:
    api = servers[2]
    shared = {"scores_only": True, "constrained": True}
    four = [{"question": "2 + 2?", "answers": ["4", "5", "four", "22"], "reference": "4"}]
    multi = api.post("/v1/judgements", {"samples": four, "task": "multi", "orders": "both", **shared}).json()
    assert len(multi["data"][0]["scores"]) == 4
    assert multi["data"][0]["outcome"] is None
    pair = [{"question": "2 + 2?", "answers": ["4", "5"], "reference": "4"}]
    for task in ("single", "mmvet"):
        found = api.post("/v1/judgements", {"samples": pair, "task": task, **shared}).json()
        assert found["data"][0]["judgements"][0]["text"].startswith("10 ")
        assert found["data"][0]["scores"][0] == 10
        assert api.post("/v1/judgements", {"samples": pair, "task": task, "orders": "both"}).status_code == 400


def test_a_judgement_streams_as_lines_of_json(servers: Servers) -> None:
    api = servers[2]
    body = {"samples": asked(3), "orders": "both", "max_new_tokens": 16, "temperature": 0}
    whole = api.post("/v1/judgements", body).json()
    response = api.post("/v1/judgements", body | {"stream": True})
    assert response.headers["content-type"].startswith("application/x-ndjson")
    events = [json.loads(line) for line in response.text.splitlines()]
    assert events[-1]["event"] == "done"
    assert events[-1]["usage"] == whole["usage"]
    results = {event["index"]: event["result"] for event in events if event["event"] == "result"}
    assert [results[index] for index in range(3)] == whole["data"]
    texts = [e["text"] for e in events if e["event"] == "text" and (e["index"], e["order"]) == (1, "forward")]
    assert len(texts) > 3
    assert whole["data"][1]["judgements"][0]["text"].startswith(texts[0])


def test_what_is_too_long_is_said(servers: Servers) -> None:
    api = servers[2]
    long = [{"question": "Why?", "answers": ["word " * 3000, "short"]}]
    body = {"samples": long, "max_new_tokens": 4}
    result = api.post("/v1/judgements", body).json()["data"][0]
    assert result["judgements"][0]["shortened"][0] > 0
    assert result["judgements"][0]["shortened"][1] == 0
    assert result["judgements"][1]["shortened"][0] == 0
    hopeless = [{"question": "Why? " * 3000, "answers": ["a", "b"]}, *asked(1)]
    first, second = api.post("/v1/judgements", {"samples": hopeless, "max_new_tokens": 4}).json()["data"]
    assert first["error"]["code"] == "prompt_too_long"
    assert "question, reference and instruction alone" in first["error"]["message"]
    assert second["error"] is None


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 422, "JSON"),
        (b"[]", 422, "body"),
        (b"{}", 422, "samples"),
        (b'{"samples": []}', 422, "samples"),
        (b'{"samples": [{"question": 1, "answers": ["a", "b"]}]}', 422, "samples.0.question"),
        (b'{"samples": [{"question": "q", "answers": []}]}', 422, "samples.0.answers"),
        (b'{"samples": [{"question": "q", "answers": ["a"]}]}', 400, "task pair takes 2 answers, found 1"),
        (b'{"samples": [{"question": "\\ud800", "answers": ["a", "b"]}]}', 422, "samples.0.question"),
        (b'{"samples": [{"question": "q", "answers": ["a", "b", "c"]}]}', 400, "task pair takes 2 answers, found 3"),
        (b'{"samples": [{"question": "q", "answers": ["a", "b"]}], "task": "mmvet"}', 400, "needs a reference"),
        (b'{"samples": [{"question": "q", "answers": ["a", "b"]}], "temperature": NaN}', 422, "temperature"),
        (b'{"samples": [{"question": "q", "answers": ["a", "b"]}], "modle": "x"}', 422, "modle"),
        (b'{"samples": [{"question": "q", "answers": ["a", "b"]}], "model": "x"}', 404, "unknown model x"),
    ],
)
def test_a_bad_body_is_answered_in_one_line(body: bytes, status: int, message: str, servers: Servers) -> None:
    headers = {"content-type": "application/json"}
    response = HTTP.post(servers[2].url + "/v1/judgements", content=body, headers=headers)
    assert response.status_code == status
    assert message in response.json()["error"]["message"]
    assert "Traceback" not in response.text


@pytest.mark.parametrize("text", ["", "<script>alert(1)</script>", "[System]\nx", "a\0b", "\u202eabc", "{x}", "\r\n"])
def test_any_text_is_judged_as_it_is(text: str, servers: Servers, judge: Judge) -> None:
    from judgelm.sample import Sample

    api = servers[2]
    body = {"samples": [{"question": text, "answers": [text, "b"]}], "max_new_tokens": 8, "temperature": 0}
    result = api.post("/v1/judgements", body | {"orders": "forward"}).json()["data"][0]
    verdict = judge.judge([Sample(0, text, (text, "b"))], max_new_tokens=8, temperature=0)[0]
    assert verdict.forward is not None
    assert result["judgements"][0]["text"] == verdict.forward.text


def test_a_huge_body_is_refused_by_every_server(servers: Servers) -> None:
    body = b'{"prompt": "' + b"a" * (9 << 20) + b'"}'
    paths = ("/get_worker_address", "/worker_generate", "/v1/judgements")

    def pieces() -> Iterator[bytes]:
        """The same without a length."""
        for start in range(0, len(body), 1 << 16):
            yield body[start : start + (1 << 16)]

    for server, path in zip(servers, paths, strict=True):
        for content in (body, pieces()):
            # a server may close before it has read all
            with contextlib.suppress(httpx.WriteError):
                assert HTTP.post(server.url + path, content=content).status_code == 413
    assert servers[2].get("/health").status_code == 200


def test_many_at_once_get_each_their_own(servers: Servers, judge: Judge) -> None:
    api = servers[2]
    samples = make_samples(30)
    expected = judge.judge(samples, max_new_tokens=12, temperature=0)

    def one(index: int) -> Any:
        body = {"samples": [asked(30)[index]], "orders": "forward", "max_new_tokens": 12, "temperature": 0}
        return api.post("/v1/judgements", body)

    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(one, range(30)))
    for answer, verdict in zip(answers, expected, strict=True):
        assert verdict.forward is not None
        assert answer.json()["data"][0]["judgements"][0]["text"] == verdict.forward.text


def test_a_full_queue_answers_at_once(model_folder: Path) -> None:
    body = {"samples": asked(1), "orders": "forward", "max_new_tokens": 400, "temperature": 1}
    with local_stack(model_folder, 1, 2) as (_, _, api), ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda k: api.post("/v1/judgements", body | {"seed": k}), range(12)))
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 429}
        assert 3 <= statuses.count(200) <= 9
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["retry-after"]
        assert refused.json()["error"]["code"] == "overloaded"
        # the queue empties again
        assert api.post("/v1/judgements", body | {"max_new_tokens": 4}).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_its_generation(stream: bool, servers: Servers) -> None:
    _, worker, api = servers

    def queued() -> int:
        length: int = worker.post("/worker_get_status").json()["queue_length"]
        return length

    # several, as one of them may meet its end of text at once
    body = {"samples": asked(8), "orders": "forward", "max_new_tokens": 1900, "temperature": 3, "stream": stream}
    if stream:
        with HTTP.stream("POST", api.url + "/v1/judgements", json=body) as response:
            lines = response.iter_lines()  # httpx ends the stream with it
            assert json.loads(next(lines))["event"] == "text"
            assert queued() >= 1
    else:
        with pytest.raises(httpx.ReadTimeout):
            HTTP.post(api.url + "/v1/judgements", json=body, timeout=1)
    # far less than their texts would take to end
    worker.wait(lambda: queued() == 0, 10)


def test_openais_own_client_is_served(servers: Servers) -> None:
    openai = pytest.importorskip("openai")
    api = servers[2]
    with openai.OpenAI(base_url=api.url + "/v1", api_key="any", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["random-llama"]
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
        chat = {"model": "random-llama", "messages": messages, "max_tokens": 12, "temperature": 0}
        whole = client.chat.completions.create(**chat)
        assert whole.choices[0].finish_reason == "length"
        assert whole.usage.completion_tokens == 12
        chunks = list(client.chat.completions.create(**chat, stream=True, stream_options={"include_usage": True}))
        assert chunks[0].choices[0].delta.role == "assistant"
        assert (
            "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
        )
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
        assert chunks[-1].usage == whole.usage
        prompt = {"model": "random-llama", "prompt": ["One", "Two"], "max_tokens": 8, "temperature": 0, "n": 2}
        text = client.completions.create(**prompt, seed=1)
        assert len(text.choices) == 4
        assert text.choices[0].text == text.choices[1].text
        parts: dict[int, str] = {}
        for chunk in client.completions.create(**prompt, seed=1, stream=True):
            for choice in chunk.choices:
                parts[choice.index] = parts.get(choice.index, "") + choice.text
        assert parts == {choice.index: choice.text for choice in text.choices}
        with pytest.raises(openai.NotFoundError, match="unknown model"):
            client.chat.completions.create(**chat | {"model": "other"})
        with pytest.raises(openai.BadRequestError, match="the prompt has"):
            client.completions.create(model="random-llama", prompt="word " * 4000)


def test_metrics_and_health(servers: Servers) -> None:
    api = servers[2]
    api.post("/v1/judgements", {"samples": asked(1), "max_new_tokens": 4})
    text = api.get("/metrics").text
    assert 'judgelm_requests_total{route="/v1/judgements",status="200"}' in text
    assert "judgelm_tokens_total" in text
    assert api.get("/health").json()["status"] == "ok"
    assert api.get("/openapi.json").json()["paths"].keys() >= {"/v1/judgements", "/v1/chat/completions", "/v1/models"}


def test_keys_are_asked_for_and_never_logged(tmp_path: Path, servers: Servers) -> None:
    keyed = Server("api", tmp_path, "--controller-address", servers[0].url, JUDGELM_API_KEYS="secret-one, secret-two")
    with running(keyed):
        keyed.wait(lambda: keyed.get("/health").status_code == 200)
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secret-one"}):
            response = keyed.get("/v1/models", headers=headers)
            assert response.status_code == 401
            assert response.json()["error"]["code"] == "invalid_api_key"
        for key in ("secret-one", "secret-two"):
            assert keyed.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200
        assert "secret" not in keyed.log.read_text()


def test_a_worker_killed_in_mid_stream_is_told_and_another_takes_over(
    tmp_path: Path, model_folder: Path, servers: Servers
) -> None:
    controller, _, api = servers
    # several, as one of them may meet its end of text at once
    body = {"model": "killed", "samples": asked(8), "orders": "forward", "max_new_tokens": 1900, "temperature": 3}
    args = ("--controller-address", controller.url, "--model-path", model_folder, "--device", "cpu")
    for turn in range(2):
        worker = Server("model_worker", tmp_path, *args, "--model-names", "killed")
        with running(worker):
            worker.wait(lambda: "killed" in models_of(controller))
            if turn:
                assert api.post("/v1/judgements", body | {"max_new_tokens": 4}).status_code == 200
                return
            with HTTP.stream("POST", api.url + "/v1/judgements", json=body | {"stream": True}) as response:
                lines = response.iter_lines()
                next(lines)
                worker.process.kill()
                last = json.loads(list(lines)[-1])
        assert last["event"] == "error"
        assert "went away" in last["error"]["message"]
        assert api.post("/v1/judgements", body | {"max_new_tokens": 4}).status_code in (404, 503)


def test_a_controller_that_restarts_learns_its_workers_again(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("judgelm.serve.worker.HEART_BEAT_INTERVAL_S", 0.2)
    with contextlib.ExitStack() as first:
        controller = first.enter_context(local_controller())
        with local_stack(model_folder, controller=controller) as (_, _, api):
            first.close()
            assert api.get("/health").status_code == 503
            with local_controller(port=int(controller.url.rpartition(":")[2])) as again:
                again.wait(lambda: bool(models_of(again)), 30)
                assert api.post("/v1/judgements", {"samples": asked(1), "max_new_tokens": 4}).status_code == 200


class SlowWorker(QuietHandler):
    """A worker in FastChat's protocol that takes its time between words; "stall" makes it too long."""

    name = "slow"

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["content-length"] or 0)) or b"{}")
        answers = {
            "/model_details": {"context_length": 2048},
            "/count_token": {"count": 9, "error_code": 0},
            "/worker_get_status": {"model_names": [self.name], "speed": 1, "queue_length": 0},
        }
        self.send_response(200)
        self.end_headers()
        if self.path != "/worker_generate_stream":
            self.wfile.write(json.dumps(answers[self.path]).encode())
            return
        for text in ("8", "8 7", "8 7\nGood."):
            reason = "stop" if text.endswith(".") else None
            self.wfile.write(json.dumps({"text": text, "error_code": 0, "finish_reason": reason}).encode() + b"\0")
            self.wfile.flush()
            time.sleep(8 if "stall" in given["prompt"] else 0.7)


def test_a_slow_worker_is_waited_for_and_holds_up_nobody_but_one_that_stalls_is_given_up(
    servers: Servers,
) -> None:
    from judgelm.serve.protocol import WorkerError
    from judgelm.serve.worker_client import Workers

    controller, _, api = servers
    with LocalServer(SlowWorker) as slow:
        status = {"model_names": ["slow"], "speed": 1, "queue_length": 0}
        body = {"worker_name": slow.root, "check_heart_beat": False, "worker_status": status}
        assert controller.post("/register_worker", body).status_code == 200
        asking = {"model": "slow", "samples": asked(1), "stream": True, "orders": "forward"}
        events: list[Any] = []
        with HTTP.stream("POST", api.url + "/v1/judgements", json=asking) as response:
            for line in response.iter_lines():
                if not events:
                    # while the slow one writes, others are judged
                    fast = {"model": "random-llama", "samples": asked(2), "max_new_tokens": 4}
                    assert api.post("/v1/judgements", fast).status_code == 200
                events.append(json.loads(line))
        assert [event["event"] for event in events][-2:] == ["result", "done"]
        assert next(event["text"] for event in events if event["event"] == "text") == "8"
        assert next(event for event in events if event["event"] == "result")["result"]["scores"] == [8, 7]

        async def stalled() -> list[str]:
            workers, texts = Workers(controller.url, silence_s=1.5), []
            try:
                async for chunk in workers.stream("slow", GenerateParams(prompt="stall", max_new_tokens=9)):
                    texts.append(chunk.text)
            except WorkerError as error:
                texts.append(str(error))
            await workers.close()
            return texts

        assert asyncio.run(stalled()) == ["8", "the worker went away before the text was complete"]


class ForgetfulWorker(SlowWorker):
    """Its first connection breaks before a word, as a connection does that was idle for too long."""

    name = "forgetful"
    broken = False

    def do_POST(self) -> None:
        if self.path == "/worker_generate_stream" and not ForgetfulWorker.broken:
            ForgetfulWorker.broken = True
            self.rfile.read(int(self.headers["content-length"]))
            self.close_connection = True
            return
        super().do_POST()


def test_a_connection_that_breaks_before_a_word_is_tried_again(servers: Servers) -> None:
    controller, _, api = servers
    with LocalServer(ForgetfulWorker) as worker:
        status = {"model_names": ["forgetful"], "speed": 1, "queue_length": 0}
        body = {"worker_name": worker.root, "check_heart_beat": False, "worker_status": status}
        # asked whether they still live, workers say so by their status
        assert controller.post("/register_worker", body).status_code == 200
        asking = {"model": "forgetful", "samples": asked(1), "orders": "forward"}
        response = api.post("/v1/judgements", asking)
        assert response.status_code == 200, response.text
        assert response.json()["data"][0]["scores"] == [8, 7]
        assert ForgetfulWorker.broken


def test_a_taken_port_and_a_bad_address_end_in_one_line(run: Any, servers: Servers) -> None:
    result = run("-m", "judgelm.serve.controller", "--port", servers[0].url.rpartition(":")[2])
    assert result.returncode == 2
    assert result.stderr.strip().endswith("cannot listen there (Address already in use)")
    result = run("-m", "judgelm.serve.model_worker", "--model-path", "tiny", "--controller-address", "nowhere")
    assert result.returncode == 2
    assert "--controller-address nowhere: expected an address such as" in result.stderr


def test_fastchats_test_message_talks_to_our_worker(servers: Servers, run: Any) -> None:
    result = run(
        *("-m", "fastchat.serve.test_message", "--model-name", "random-llama", "--message", "2 + 2?"),
        *("--controller-address", servers[0].url, "--max-new-tokens", "12"),
    )
    assert result.returncode == 0, result.stderr
    assert f"worker_addr: {servers[1].url}" in result.stdout
    assert "USER: 2 + 2?" in result.stdout or "Human: 2 + 2?" in result.stdout


@pytest.mark.filterwarnings("ignore:out of memory with . prompts at once")
def test_the_batcher_survives_what_a_request_breaks(model_folder: Path) -> None:
    from test_engine import OutOfMemory, load_engine, requests

    from judgelm.engine.interface import Sampling
    from judgelm.serve.batcher import Batcher, Update

    engine = load_engine(model_folder)
    prompts = requests(engine, 9)
    expected = {g.key: g.text for g in engine.generate(prompts, Sampling(max_new_tokens=12))}
    limited = OutOfMemory(engine.model, 3)
    batcher = Batcher(engine)

    def ask(count: int) -> list[Update]:
        updates: list[list[Update]] = [[] for _ in range(count)]
        done = [threading.Event() for _ in range(count)]

        def deliver(index: int, update: Update) -> None:
            updates[index].append(update)
            if update.last:
                done[index].set()

        for index in range(count):
            batcher.submit(prompts[index], Sampling(max_new_tokens=12), lambda u, i=index: deliver(i, u))  # type: ignore[misc]
        assert all(event.wait(60) for event in done)
        return [texts[-1] for texts in updates]

    assert [update.text for update in ask(9)] == [expected[request.key] for request in prompts]
    assert limited.failed
    engine.model.forward = lambda **_: 1 / 0
    assert all(update.failed for update in ask(2))
    engine.model.forward = limited.forward
    assert [update.text for update in ask(2)] == [expected[request.key] for request in prompts[:2]]
    batcher.close()


def test_what_a_worker_says_of_itself_is_asked_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker may have its address by then, with another calibration map."""
    from judgelm.serve.worker_client import Workers

    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        known = {"/get_worker_address": {"address": "http://worker"}, "/model_details": {"judgelm": "x"}}
        return httpx.Response(200, json=known[request.url.path])

    async def ask(workers: Workers) -> None:
        for _ in range(2):
            assert await workers.calibration("m") is None

    workers = Workers("http://controller")
    workers._http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    asyncio.run(ask(workers))
    assert asked.count("/model_details") == 1
    monkeypatch.setattr("judgelm.serve.worker_client._KNOWN_S", -1)
    asyncio.run(ask(workers))
    assert asked.count("/model_details") == 3


def test_the_clients_of_a_stack_see_a_failing_worker_as_a_clear_error() -> None:
    """What comes from a worker is checked: it may be anybody's."""
    from judgelm.serve.protocol import WorkerError
    from judgelm.serve.worker_client import Workers

    async def sent_by(request: httpx.Request) -> AsyncGenerator[bytes, None]:
        answers = {"/get_worker_address": {"address": "http://worker"}, "/model_details": {"judgelm": "x"}}
        known = answers.get(request.url.path)
        yield json.dumps(known).encode() if known else json.loads(request.content)["prompt"].encode()

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=sent_by(request))

    async def ask(sent: str) -> str:
        workers = Workers("http://controller")
        workers._http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
        async for _ in workers.stream("m", GenerateParams(prompt=sent)):
            pass
        return "fine"

    for sent in (
        "",
        "nonsense\0",
        '{"text": 1, "error_code": 0}\0',
        '["text"]\0',
        "[" * 100_000 + "\0",
        "x" * 5_000_000,
    ):
        with pytest.raises(WorkerError):
            asyncio.run(ask(sent))
    with pytest.raises(WorkerError, match="full"):
        asyncio.run(ask('{"text": "full", "error_code": 42903}\0'))
    assert asyncio.run(ask('{"text": "8 7", "error_code": 0}\0')) == "fine"
