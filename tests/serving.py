"""Servers for tests: in this process, which is soon done, and in processes of their own, which can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from conftest import PATIENCE_S
from forked import Forked

from judgelm.prompt_form import PUBLISHED_FORM, PromptForm
from judgelm.sample import Sample
from judgelm.serve.protocol import HEART_BEAT_EXPIRATION_S
from judgelm.serve.servers import Protocol, address_of, listen

HTTP = httpx.Client(trust_env=False, timeout=PATIENCE_S, limits=httpx.Limits(max_keepalive_connections=0))
"""one for all tests: each new client would read all certificates again"""


def free_port() -> int:
    with listen("127.0.0.1", 0) as taken:
        port: int = taken.getsockname()[1]
        return port


class Address:
    """A server at an address."""

    def __init__(self, url: str) -> None:
        self.url = url

    def post(self, path: str, body: Any = None, **settings: Any) -> httpx.Response:
        return HTTP.post(self.url + path, json=body, **settings)

    def get(self, path: str, **settings: Any) -> httpx.Response:
        return HTTP.get(self.url + path, **settings)

    def check(self) -> None:
        """Raises AssertionError where the server has ended."""

    def wait(self, ready: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
        """Until `ready()`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.check()
            with contextlib.suppress(httpx.TransportError, KeyError, ValueError):
                if ready():
                    return
            time.sleep(0.05)
        raise AssertionError(f"not ready after {seconds} s")


class Process(Address):
    """A server in a process of its own, with its log; `command` goes to the interpreter."""

    def __init__(
        self, name: str, folder: Path, port: int, *command: str, imported: Sequence[str] = (), **env: str
    ) -> None:
        super().__init__(f"http://127.0.0.1:{port}")
        self.port = port
        self.log = folder / f"{name}-{self.port}.log"
        # a heart beat each second, so that tests need not wait a minute for one
        beats = {"FASTCHAT_WORKER_HEART_BEAT_INTERVAL": "1", "FASTCHAT_CONTROLLER_HEART_BEAT_EXPIRATION": "4"}
        # FastChat's servers open log files where they are started, or here
        beats["LOGDIR"] = str(folder)
        self.process = Forked(command, os.environ | beats | env, self.log, self.log, imported=imported)

    def check(self) -> None:
        if self.process.poll() is not None:
            raise AssertionError(f"ended with {self.process.returncode}:\n{self.log.read_text()}")

    def wait(self, ready: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
        """The log is shown where that does not come."""
        try:
            super().wait(ready, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.log.read_text()}") from None

    def stop(self, kind: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(kind)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


class Server(Process):
    """One of our servers."""

    def __init__(
        self,
        name: str,
        folder: Path,
        *args: str | Path,
        port: int | None = None,
        imported: Sequence[str] = (),
        **env: str,
    ) -> None:
        port = port or free_port()
        command = ("-m", f"judgelm.serve.{name}", "--port", str(port), *map(str, args))
        super().__init__(name, folder, port, *command, imported=imported, **env)


def models_of(controller: Address) -> list[str]:
    names: list[str] = controller.post("/list_models").json()["models"]
    return names


@contextlib.contextmanager
def running(*servers: Process) -> Iterator[None]:
    try:
        yield
    finally:
        for server in servers:
            server.stop(signal.SIGKILL)


def stack(folder: Path, model: Path | str, *worker_args: str) -> tuple[Server, Server, Server]:
    """A controller, a worker of the model and an API, ready, each a process."""
    controller = Server("controller", folder)
    args = ("--controller-address", controller.url, "--model-path", model, "--device", "cpu", *worker_args)
    worker = Server("model_worker", folder, *args)
    api = Server("api", folder, "--controller-address", controller.url)
    controller.wait(lambda: bool(models_of(controller)))
    api.wait(lambda: api.get("/health").status_code == 200)
    return controller, worker, api


class Ending(uvicorn.Server):
    """Hears at once that it shall end; uvicorn looks ten times a second."""

    hear: Callable[[], object] | None = None

    async def main_loop(self) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        self.hear = lambda: loop.call_soon_threadsafe(ended.set)
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), 1)

    def end(self) -> None:
        self.should_exit = True
        # it may not listen yet, or have ended by itself
        with contextlib.suppress(RuntimeError):
            if self.hear:
                self.hear()


@contextlib.contextmanager
def served(app: Any, protocol: type[Protocol] = Protocol, listening: socket.socket | None = None) -> Iterator[str]:
    """The address of an app that is served in a thread, as `run_server` does."""
    listening = listening or listen("127.0.0.1", 0)
    config = uvicorn.Config(app, http=protocol, ws="none", log_config=None, proxy_headers=False)
    server = Ending(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield address_of(listening)
    finally:
        server.end()
        thread.join(20)


@contextlib.contextmanager
def local_controller(
    token: str | None = None, port: int = 0, expiration_s: float = HEART_BEAT_EXPIRATION_S
) -> Iterator[Address]:
    """A controller of this process."""
    from judgelm.serve.controller import create_app
    from judgelm.serve.hosts import read_hosts
    from judgelm.serve.registry import Controller

    app = create_app(Controller("shortest_queue", expiration_s), token, read_hosts([], "127.0.0.1"))
    with served(app, listening=listen("127.0.0.1", port)) as url:
        yield Address(url)


@contextlib.contextmanager
def local_stack(
    model: Path,
    max_running: int = 32,
    max_waiting: int = 256,
    controller: Address | None = None,
    form: PromptForm = PUBLISHED_FORM,
    calibration: Any = None,
    judge: Any = None,
) -> Iterator[tuple[Address, Address, Address]]:
    """A controller, unless one is given, a worker of the model, or of its judge, and an API of this process, ready."""
    from judgelm.judge.judge import Judge
    from judgelm.serve import api, model_worker
    from judgelm.serve.batcher import Batcher
    from judgelm.serve.chat import choose_format
    from judgelm.serve.hosts import read_hosts
    from judgelm.serve.worker import ModelWorker

    judge = judge or Judge.load(str(model), dtype="float32", device="cpu")
    engine: Any = judge.engine
    hosts, listening = read_hosts([], "127.0.0.1"), listen("127.0.0.1", 0)
    chat = choose_format("auto", engine.tokenizer, None)
    with contextlib.ExitStack() as opened:
        controller = controller or opened.enter_context(local_controller())
        batcher = Batcher(engine, max_running, max_waiting)
        address = address_of(listening)
        made = ModelWorker(judge, batcher, controller.url, address, [model.name], chat, form, calibration)
        worker = opened.enter_context(served(model_worker.create_app(made, hosts=hosts), listening=listening))
        url = opened.enter_context(served(api.create_app(controller.url, hosts=hosts)))
        found = controller
        found.wait(lambda: bool(models_of(found)))
        yield controller, Address(worker), Address(url)


def asked(samples: list[Sample]) -> list[dict[str, Any]]:
    """As the API's clients give them."""
    return [
        {"question_id": sample.question_id, "question": sample.question, "answers": list(sample.answers)}
        for sample in samples
    ]
