"""Servers in processes of their own, for tests."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from conftest import ROOT


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class Process:
    """A server in a process of its own, with its log; `command` goes to the interpreter."""

    def __init__(self, name: str, folder: Path, port: int, *command: str, **env: str) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"{name}-{self.port}.log"
        # a heart beat each second, so that tests need not wait a minute for one
        beats = {"FASTCHAT_WORKER_HEART_BEAT_INTERVAL": "1", "FASTCHAT_CONTROLLER_HEART_BEAT_EXPIRATION": "4"}
        # FastChat's servers open log files where they are started, or here
        beats["LOGDIR"] = str(folder)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=os.environ | beats | env, stdout=log, stderr=subprocess.STDOUT
            )

    def post(self, path: str, body: Any = None, **settings: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=60, trust_env=False, **settings)

    def get(self, path: str, **settings: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=60, trust_env=False, **settings)

    def wait(self, ready: Callable[[], bool], seconds: float = 60) -> None:
        """Until `ready()`; the log is shown where that does not come."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}:\n{self.log.read_text()}")
            with contextlib.suppress(httpx.TransportError, KeyError, ValueError):
                if ready():
                    return
            time.sleep(0.1)
        raise AssertionError(f"not ready after {seconds} s:\n{self.log.read_text()}")

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

    def __init__(self, name: str, folder: Path, *args: str | Path, port: int | None = None, **env: str) -> None:
        port = port or free_port()
        super().__init__(name, folder, port, "-m", f"judgelm.serve.{name}", "--port", str(port), *map(str, args), **env)


def models_of(controller: Server) -> list[str]:
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
    """A controller, a worker of the model and an API, ready."""
    controller = Server("controller", folder)
    args = ("--controller-address", controller.url, "--model-path", model, "--device", "cpu", *worker_args)
    worker = Server("model_worker", folder, *args)
    api = Server("api", folder, "--controller-address", controller.url)
    controller.wait(lambda: bool(models_of(controller)), 120)
    api.wait(lambda: api.get("/health").status_code == 200)
    return controller, worker, api
