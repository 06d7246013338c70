"""Many clients at once: our worker against FastChat's, over HTTP, and our API under load.

    python -m benchmarks.serve --output benchmarks/serve.json

Same weights (`tiny-base`) and data type, greedy, 64 new tokens for each prompt of examples/pairs.jsonl, streamed
through `/worker_generate_stream`. The two workers take turns, and only one runs at a time. Before that 64 clients send
500 requests to our API (the questions alone as prompts, 16 new tokens each), and each answer is compared with the one
that its prompt got when it was alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.provenance import current_commit, this_machine
from judgelm.files import write_text
from judgelm.judge.description import versions
from judgelm.models.folder import find_model
from judgelm.prompt import render_prompt
from judgelm.samples import read_samples
from judgelm.serve.launch import SPINS

ROOT = Path(__file__).resolve().parent.parent
MODEL = "tiny-base"
NEW_TOKENS = 64
FASTCHAT = str(ROOT / "tests" / "fastchat_worker.py")


@dataclass
class Answer:
    """What one client saw."""

    text: str
    tokens: int
    first_s: float
    seconds: float
    status: str


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def process(log: Path, port: int, *command: str) -> Iterator[tuple[str, psutil.Process]]:
    """A server and its address; it is there once its port answers."""
    env = {"GOMP_SPINCOUNT": SPINS} | os.environ | {"LOGDIR": str(log.parent)}
    with log.open("ab") as output:
        started = subprocess.Popen(
            [sys.executable, *command, "--port", str(port)], stdout=output, stderr=subprocess.STDOUT, env=env, cwd=ROOT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 180
        while True:
            if started.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{' '.join(command)} did not start:\n{log.read_text()[-2000:]}")
            try:
                httpx.get(url, timeout=5, trust_env=False)
                break
            except httpx.TransportError:
                time.sleep(0.3)
        yield url, psutil.Process(started.pid)
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(15)
        except subprocess.TimeoutExpired:
            started.kill()


def ours(log: Path, dtype: str, *flags: str) -> Any:
    """Our worker."""
    port = free_port()
    command = ("-m", "judgelm.serve.model_worker", "--model-path", MODEL, "--dtype", dtype, "--device", "cpu")
    return process(log, port, *command, *flags)


def theirs(log: Path, dtype: str) -> Any:
    """FastChat's worker."""
    port = free_port()
    address = ("--worker-address", f"http://127.0.0.1:{port}", "--no-register", "--host", "127.0.0.1")
    model = ("--model-path", str(find_model(MODEL).path), "--dtype", dtype, "--device", "cpu")
    return process(log, port, FASTCHAT, *model, *address)


async def ask_worker(http: httpx.AsyncClient, url: str, prompt: str) -> Answer:
    """One prompt through a worker's stream."""
    body = {"model": MODEL, "prompt": prompt, "temperature": 0, "max_new_tokens": NEW_TOKENS, "echo": False}
    started, first, last = time.perf_counter(), None, {}
    async with http.stream("POST", url + "/worker_generate_stream", json=body) as response:
        rest = b""
        async for data in response.aiter_bytes():
            *parts, rest = (rest + data).split(b"\0")
            for part in filter(None, parts):
                last = json.loads(part)
                if first is None and last["text"].strip():
                    first = time.perf_counter() - started
    seconds = time.perf_counter() - started
    tokens = last["usage"]["completion_tokens"]
    return Answer(last["text"], tokens, first or seconds, seconds, str(last["error_code"]))


async def ask_api(http: httpx.AsyncClient, url: str, prompt: str) -> Answer:
    """One prompt through our API."""
    body = {"model": MODEL, "prompt": prompt, "temperature": 0, "max_tokens": 16}
    started = time.perf_counter()
    response = await http.post(url + "/v1/completions", json=body)
    seconds = time.perf_counter() - started
    if response.status_code != 200:
        return Answer("", 0, seconds, seconds, str(response.status_code))
    answer = response.json()
    return Answer(answer["choices"][0]["text"], answer["usage"]["completion_tokens"], seconds, seconds, "200")


async def all_of(ask: Any, url: str, prompts: list[str], at_once: int) -> tuple[list[Answer], float]:
    """All prompts, `at_once` at a time, and the seconds they took together."""
    places = asyncio.Semaphore(at_once)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=1200, trust_env=False, limits=limits) as http:

        async def one(prompt: str) -> Answer:
            async with places:
                answer: Answer = await ask(http, url, prompt)
                return answer

        started = time.perf_counter()
        answers = await asyncio.gather(*(one(prompt) for prompt in prompts))
        return list(answers), time.perf_counter() - started


def summary(answers: list[Answer], seconds: float) -> dict[str, Any]:
    """Numbers of some answers."""
    return {
        "requests": len(answers),
        "seconds": round(seconds, 2),
        "tokens": sum(answer.tokens for answer in answers),
        "tokens_per_s": round(sum(answer.tokens for answer in answers) / seconds, 2),
        "median_first_token_s": round(statistics.median(answer.first_s for answer in answers), 2),
        "raw": [{key: value for key, value in asdict(answer).items() if key != "text"} for answer in answers],
    }


def compare(prompts: list[str], counts: list[int], rounds: int, folder: Path, dtype: str) -> dict[str, Any]:
    """Both workers, in turns."""
    found: dict[str, list[dict[str, Any]]] = {}
    for turn in range(rounds):
        for way, start in (("judgelm", ours), ("fastchat", theirs)):
            flags = ("--no-register",) if way == "judgelm" else ()
            with start(folder / f"{way}.log", dtype, *flags) as (url, _):
                asyncio.run(all_of(ask_worker, url, prompts[:1], 1))
                for count in counts:
                    chosen = [prompts[k % len(prompts)] for k in range(max(count, 4))]
                    answers, seconds = asyncio.run(all_of(ask_worker, url, chosen, count))
                    found.setdefault(f"{way}, {count} at once", []).append(summary(answers, seconds))
                    last = found[f"{way}, {count} at once"][-1]
                    print(turn, way, count, {k: v for k, v in last.items() if k != "raw"}, flush=True)
    return found


def load(prompts: list[str], requests: int, clients: int, folder: Path, dtype: str) -> dict[str, Any]:
    """Many clients on our API: is each answer that of its own prompt?"""
    port = free_port()
    with process(folder / "controller.log", port, "-m", "judgelm.serve.controller") as (controller, _):
        address = ("--controller-address", controller)
        with (
            ours(folder / "worker.log", dtype, *address) as (_, worker),
            process(folder / "api.log", free_port(), "-m", "judgelm.serve.api", *address) as (api, api_process),
        ):
            while httpx.get(api + "/health", trust_env=False).status_code != 200:
                time.sleep(0.5)
            alone, _ = asyncio.run(all_of(ask_api, api, prompts, 1))
            expected = {prompt: answer.text for prompt, answer in zip(prompts, alone, strict=True)}
            memory = []
            chosen = [prompts[k % len(prompts)] for k in range(requests)]
            answers: list[Any] = []
            seconds = 0.0
            for part in range(0, requests, 100):
                some, took = asyncio.run(all_of(ask_api, api, chosen[part : part + 100], clients))
                answers, seconds = answers + some, seconds + took
                memory.append([round(one.memory_info().rss / 2**20) for one in (worker, api_process)])
                print(part + len(some), "answered, MiB of worker and API:", memory[-1], flush=True)
            statuses = [answer.status for answer in answers]
            right = sum(answer.text == expected[prompt] for prompt, answer in zip(chosen, answers, strict=True))
            others = sum(
                answer.status == "200" and answer.text != expected[prompt] and answer.text in expected.values()
                for prompt, answer in zip(chosen, answers, strict=True)
            )
    return {
        **summary(answers, seconds),
        "clients": clients,
        "statuses": {status: statuses.count(status) for status in sorted(set(statuses))},
        "different_texts_expected": len(set(expected.values())),
        "text_as_when_alone": right,
        "text_of_another_prompt": others,
        "memory_mib_worker_and_api_after_each_100": memory,
    }


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--short", action="store_true", help="compare with the questions alone as prompts, no load")
    parser.add_argument("--work", default="build/serve", help="folder of the servers' logs")
    args = parser.parse_args()
    folder = Path(args.work)
    folder.mkdir(parents=True, exist_ok=True)
    samples = read_samples(ROOT / "examples" / "pairs.jsonl")
    prompts = [render_prompt(sample) for sample in samples]
    git = current_commit()
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.serve {' '.join(sys.argv[1:])}",
        "commit": git,
        "versions": versions(),
        "machine": this_machine(),
    }
    # the model's own chat format: else it has nothing to say
    questions = [f"<|im_start|>user\n{s.question}<|im_end|>\n<|im_start|>assistant\n" for s in samples]
    if not args.short:
        result["load"] = load(questions, args.requests, args.clients, folder, args.dtype)
        write_text(args.output, json.dumps(result) + "\n")
    result["compare"] = compare(questions if args.short else prompts, args.at_once, args.rounds, folder, args.dtype)
    write_text(args.output, json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
