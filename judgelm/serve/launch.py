"""`judgelm serve`: controller, workers, API and page as processes of one command, with one folder of logs."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx

from judgelm.errors import InputError, one_line
from judgelm.serve.arguments import OPEN_CONTROLLER, TOKEN_VARIABLE, served_name
from judgelm.serve.servers import ask, check_url, is_loopback, is_private, listen, read_secret, url_of

_START_S = 600
"""loading a large model takes minutes"""
_STOP_S = 15


_LONG_S = 60
"""a part that lived for so long is started again at once; others wait, up to so long, and longer each time"""


@dataclass(eq=False, slots=True)
class Part:
    """A process of ours, and how it is started again."""

    name: str
    command: list[str]
    env: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes]
    started: float
    """by time.monotonic()"""
    failures: int = 0
    again: float | None = None
    """when it is to be started, where it has ended"""

    def last_words(self) -> str:
        """How it ended."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["nothing"]
        return f"{self.name} ended with exit code {self.process.poll()} ({self.log}): {one_line(lines[-1])}"


class Parts:
    """All processes; none outlives this object's `stop`."""

    def __init__(self, log_folder: Path) -> None:
        self.log_folder = log_folder
        self.log_folder.mkdir(parents=True, exist_ok=True)
        self.running: list[Part] = []

    def start(self, name: str, module: str, *args: str, env: dict[str, str] | None = None) -> None:
        log = self.log_folder / f"{name}.log"
        command = [sys.executable, "-m", f"judgelm.serve.{module}", *args]
        env = os.environ | (env or {})
        self.running.append(Part(name, command, env, log, _start(command, env, log), time.monotonic()))

    def check(self) -> None:
        """Raises InputError where a part has ended by itself."""
        for part in self.running:
            if part.process.poll() is not None:
                raise InputError(part.last_words())

    def revive(self) -> bool:
        """Start again what has ended, the longer after the more often it did; whether one has ended just now."""
        ended = False
        for part in self.running:
            now = time.monotonic()
            if part.process.poll() is None:
                continue
            if part.again is None:
                ended = True
                part.failures = 1 if now - part.started > _LONG_S else part.failures + 1
                wait = min(_LONG_S, 2 ** (part.failures - 1))
                part.again = now + wait
                print(f"{part.last_words()}; it is started again in {wait} s", file=sys.stderr, flush=True)
            elif now >= part.again:
                part.process, part.started, part.again = _start(part.command, part.env, part.log), now, None
        return ended

    def stop(self) -> None:
        """Page and API first, the controller last, so that nobody talks to a part that has gone."""
        for part in reversed(self.running):
            if part.process.poll() is None:
                part.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + _STOP_S
        for part in reversed(self.running):
            try:
                part.process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(part.process.pid, signal.SIGKILL)
                part.process.wait()
        self.running.clear()


def _start(command: list[str], env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        # in a session of its own: Ctrl-C reaches us alone, and we stop the parts in their order
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )


SPINS = "1500"
"""turns that a thread of a worker's matrix products waits for the next one before it sleeps: long enough for those that
follow at once, too short to keep a core from the other parts (benchmarks/README.md)"""


def serve_command(args: argparse.Namespace) -> None:
    """Start everything and wait for Ctrl-C or SIGTERM."""
    if args.workers_only != (args.controller_address is not None):
        raise InputError("--workers-only and --controller-address URL belong together")
    if args.num_workers < 1:
        raise InputError(f"--num-workers {args.num_workers}: expected 1 or more")
    controller = check_url(args.controller_address, "--controller-address") if args.controller_address else None
    if controller and not is_loopback(controller) and is_loopback(url_of(args.worker_host, 80)):
        raise InputError(
            f"--worker-host {args.worker_host}: the controller {controller} cannot reach that;"
            " expected this machine's address"
        )
    parts = Parts(Path(args.log_dir))
    with _terminated_as_interrupted():
        try:
            if controller is None:
                controller = _start_controller(parts, args)
            _start_workers(parts, args, controller)
            if not args.workers_only:
                _start_fronts(parts, args, controller)
            _wait_for_workers(parts, args, controller)
            while True:
                if parts.revive():
                    # so that nobody is sent to a worker that has gone, and /health tells
                    with contextlib.suppress(httpx.HTTPError):
                        ask(controller + "/refresh_all_workers", timeout_s=10)
                time.sleep(1)
        except KeyboardInterrupt:
            print("stopping ...", file=sys.stderr)
        finally:
            # a second Ctrl-C must not leave a part behind
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            parts.stop()


def _start_controller(parts: Parts, args: argparse.Namespace) -> str:
    with listen(args.controller_host, args.controller_port) as listening:
        port = listening.getsockname()[1]
        if not is_private(listening) and not read_secret(TOKEN_VARIABLE):
            print(OPEN_CONTROLLER, file=sys.stderr)
    flags = ["--host", args.controller_host, "--port", str(port), *_hosts(args)]
    parts.start("controller", "controller", *flags)
    return url_of(args.controller_host, port)


def _start_workers(parts: Parts, args: argparse.Namespace, controller: str) -> None:
    gpus = _gpus() if args.device in (None, "cuda") else []
    names = [served_name(model) for model in args.model]
    if len(set(names)) < len(names):
        raise InputError(f"--model {' '.join(args.model)}: each name may come once (--num-workers serves more of one)")
    number = 0
    for model, name in zip(args.model, names, strict=True):
        for copy in range(args.num_workers):
            port = _port(args.worker_host, 0)
            flags = ["--model-path", model, "--host", args.worker_host, "--port", str(port)]
            flags += ["--controller-address", controller, "--num-gpus", str(args.num_gpus_per_worker)]
            flags += ["--chat-format", args.chat_format, *_hosts(args)]
            wanted = (("--device", args.device), ("--dtype", args.dtype), ("--quantization", args.quantization))
            for flag, value in wanted:
                flags += [flag, str(value)] if value is not None else []
            if args.batch_tokens is not None:
                flags += ["--batch-tokens", str(args.batch_tokens)]
            env = {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", SPINS)}
            if gpus:
                take = args.num_gpus_per_worker
                mine = [gpus[(number * take + k) % len(gpus)] for k in range(take)]
                env["CUDA_VISIBLE_DEVICES"] = ",".join(dict.fromkeys(mine))
            parts.start(f"worker-{name}-{copy}", "model_worker", *flags, env=env)
            number += 1


def _start_fronts(parts: Parts, args: argparse.Namespace, controller: str) -> None:
    api_port = _port(args.host, args.api_port)
    flags = ["--host", args.host, "--port", str(api_port), "--controller-address", controller, *_hosts(args)]
    parts.start("api", "api", *flags)
    port = _port(args.host, args.port)
    flags = ["--host", args.host, "--port", str(port), "--controller-url", controller, "--log-dir", args.log_dir]
    flags += _hosts(args)
    flags += ["--share"] if args.share else []
    flags += ["--gradio-auth-path", args.gradio_auth_path] if args.gradio_auth_path else []
    parts.start("page", "gradio_web_server_judgelm", *flags)
    args.page, args.api = url_of(args.host, port), url_of(args.host, api_port)


def _wait_for_workers(parts: Parts, args: argparse.Namespace, controller: str) -> None:
    """Until every model has a worker and the page answers, then say where things are."""
    print(f"loading {', '.join(args.model)} ... (logs in {args.log_dir})", file=sys.stderr)
    end = time.monotonic() + _START_S
    wanted = {served_name(model) for model in args.model}
    with httpx.Client(trust_env=False, timeout=10) as http:
        while not _ready(http, args, controller, wanted):
            parts.check()
            if time.monotonic() > end:
                raise InputError(f"no worker of {', '.join(sorted(wanted))} after {_START_S} s; see {args.log_dir}")
            time.sleep(0.3)
    if args.workers_only:
        print(f"workers registered with {controller}; Ctrl-C stops them")
    else:
        print(f"page        {args.page}\nAPI         {args.api}  (its description: {args.api}/docs)")
        print(f"controller  {controller}\nlogs        {args.log_dir}\nCtrl-C stops all of it")
    sys.stdout.flush()


def _ready(http: httpx.Client, args: argparse.Namespace, controller: str, wanted: set[str]) -> bool:
    try:
        there = set(http.post(controller + "/list_models").json()["models"])
        fronts = args.workers_only or all(
            http.get(url).status_code < 500 for url in (args.page + "/", args.api + "/health")
        )
        return wanted <= there and fronts
    except (httpx.HTTPError, ValueError, KeyError):
        return False


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Linux then sends SIGTERM to a part even where we are killed and cannot."""
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _hosts(args: argparse.Namespace) -> list[str]:
    return ["--allowed-hosts", ",".join(args.allowed_hosts)] if args.allowed_hosts else []


def _port(host: str, port: int) -> int:
    """That port, or a free one for 0. Raises InputError where it is taken."""
    with listen(host, port) as listening:
        found: int = listening.getsockname()[1]
        return found


def _gpus() -> list[str]:
    """The GPUs that we may use, as CUDA_VISIBLE_DEVICES names them; none where there is no NVIDIA driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """systemd and Docker stop a service with SIGTERM."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
