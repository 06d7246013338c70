"""FastChat's own servers beside ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, make_samples
from serving import HTTP, Address, Process, free_port, local_stack, models_of, running

Servers = tuple[Address, Address, Address]


@pytest.fixture(scope="module")
def servers(model_folder: Path) -> Iterator[Servers]:
    with local_stack(model_folder) as started:
        yield started


def test_fastchats_api_server_works_with_our_controller_and_worker(servers: Servers, tmp_path: Path) -> None:
    port = free_port()
    flags = ("--port", str(port), "--host", "127.0.0.1", "--controller-address", servers[0].url)
    api = Process("fastchat-api", tmp_path, port, "-m", "fastchat.serve.openai_api_server", *flags)
    with running(api):
        api.wait(lambda: api.get("/v1/models").status_code == 200)
        assert [card["id"] for card in api.get("/v1/models").json()["data"]] == ["random-llama"]
        chat = {"model": "random-llama", "messages": [{"role": "user", "content": "2 + 2?"}], "max_tokens": 8}
        answer = api.post("/v1/chat/completions", chat).json()
        assert answer["choices"][0]["message"]["role"] == "assistant"
        assert 0 < answer["usage"]["completion_tokens"] <= 8
        body = {"model": "random-llama", "prompt": "One two", "max_tokens": 6, "temperature": 0}
        answer = api.post("/v1/completions", body).json()
        ours = servers[2].post("/v1/completions", body).json()
        assert answer["choices"][0]["text"] == ours["choices"][0]["text"]


def test_fastchats_worker_serves_our_api(servers: Servers, tmp_path: Path, model_folder: Path) -> None:
    controller, _, api = servers
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    flags: tuple[str, ...] = ("--host", "127.0.0.1", "--port", str(port), "--worker-address", url)
    flags += ("--model-names", "theirs")
    flags += ("--controller-address", controller.url, "--model-path", str(model_folder), "--device", "cpu")
    worker = Process("fastchat-worker", tmp_path, port, str(ROOT / "tests" / "fastchat_worker.py"), *flags)
    with running(worker):
        # it registers before it listens
        worker.wait(lambda: "theirs" in models_of(controller) and worker.post("/worker_get_status").status_code == 200)
        sample = make_samples(1)[0]
        given = {"question": sample.question, "answers": list(sample.answers)}
        body = {"samples": [given], "temperature": 0, "max_new_tokens": 10, "orders": "both", "constrained": False}
        reply = api.post("/v1/judgements", body | {"model": "theirs"})
        assert reply.status_code == 200, reply.text
        theirs = reply.json()["data"][0]
        ours = api.post("/v1/judgements", body | {"model": "random-llama"}).json()["data"][0]
        # FastChat strips what it streams
        assert [one["text"].strip() for one in theirs["judgements"]] == [
            one["text"].strip() for one in ours["judgements"]
        ]
        long = given | {"answers": ["word " * 4000, "b"]}
        refused = api.post("/v1/judgements", body | {"model": "theirs", "samples": [long]}).json()["data"][0]
        assert refused["error"]["code"] == "prompt_too_long"
        assert "the model's context" in refused["error"]["message"]


def test_no_request_from_the_schema_makes_the_api_fail(servers: Servers, tmp_path: Path) -> None:
    """Schemathesis: no answer of 500 and above, whatever the body, and every answer as the schema says."""
    checks = (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    )
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", servers[2].url + "/openapi.json"),
        *("--checks", ",".join(checks), "--max-examples", "12", "--phases", "examples,fuzzing"),
        *("--seed", "1", "--request-timeout", "120", "--no-color", "--max-failures", "5"),
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "schema_hooks", "PYTHONPATH": str(ROOT / "tests")}
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | hooks, cwd=tmp_path)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert servers[2].get("/health").status_code == 200


def body_of(text: str) -> dict[str, Any]:
    return {"samples": [{"question": text, "answers": [text, text]}], "max_new_tokens": 2, "orders": "forward"}


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_a_lone_surrogate_is_refused(text: str, servers: Servers) -> None:
    data = json.dumps(body_of(text)).encode()
    headers = {"content-type": "application/json"}
    answer = HTTP.post(servers[2].url + "/v1/judgements", content=data, headers=headers)
    assert answer.status_code == 422, answer.text
