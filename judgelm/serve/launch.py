"""`judgelm serve`: controller, workers, API and page as processes of one command, with one folder of logs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

import httpx

from judgelm.engine.loading import find_loader
from judgelm.errors import InputError
from judgelm.evaluation.calibration_map import read_calibration
from judgelm.judge.settings import tasks_of
from judgelm.prompt_form import PromptForm
from judgelm.prompt_template import read_prompt_template
from judgelm.serve.hosts import IP, ip_of, read_origins, same_machine
from judgelm.serve.processes import Processes
from judgelm.serve.servers import ask, check_url, is_loopback, is_private, listen, our_client, read_secret, url_of
from judgelm.serve.settings import OPEN_CONTROLLER, TOKEN_VARIABLE, ServeSettings

SPINS = "1500"
"""turns that a thread of a worker's matrix products waits for the next one before it sleeps: long enough for those that
follow at once, too short to keep a core from the other parts (benchmarks/README.md)"""
_START_S = 600
"""loading a large model takes minutes"""
_OF_WORKERS = (
    *("engine", "device", "dtype", "quantization", "compile", "batch_tokens", "chat_format"),
    *("prompt_format", "prompt_file", "verdict_format", "reasoning", "calibration"),
)
"""settings that a worker has as flags of the same names"""
_FRONTS, _AFTER_FRONTS, _LAST = 2, 1, 0
"""in which order parts are stopped: page and API while workers still answer what they ask, the controller last"""


def serve(settings: ServeSettings) -> None:
    """Start everything and wait for Ctrl-C or SIGTERM, a second of which ends it at once. Raises InputError where a
    part cannot be started, or its engine is not installed.
    """
    address = settings.controller_address
    theirs = None if address is None else check_url(address, "--controller-address")
    _check_reach(settings, theirs)
    _check_form(settings)
    read_origins(settings.allow_origins)
    find_loader(settings.engine)
    processes = Processes(settings.log_dir, settings.drain_s)
    # systemd and Docker stop a service with SIGTERM
    _on_signals(signal.default_int_handler)
    try:
        controller = theirs or _start_controller(processes, settings)
        _start_workers(processes, settings, controller)
        fronts = {} if theirs else _start_fronts(processes, settings, controller)
        _wait_for_workers(processes, settings, controller, fronts)
        while True:
            if processes.revive():
                # so that nobody is sent to a worker that has gone, and /health tells
                with contextlib.suppress(httpx.HTTPError):
                    ask(controller + "/refresh_all_workers", timeout_s=10)
            time.sleep(1)
    except KeyboardInterrupt:
        print("stopping ...", file=sys.stderr)
    finally:
        # who sends a second one has no time, and no part may stay behind
        _on_signals(lambda *_: processes.kill())
        processes.stop()


def _on_signals(handler: Any) -> None:
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, handler)


def _check_reach(settings: ServeSettings, controller: str | None) -> None:
    """Raises InputError where the controller would not take the workers."""
    if controller is not None:
        if not is_loopback(controller) and is_loopback(url_of(settings.worker_host, 80)):
            raise InputError(
                f"--worker-host {settings.worker_host}: the controller {controller} cannot reach that;"
                " expected this machine's address"
            )
    elif not read_secret(TOKEN_VARIABLE):
        # a worker speaks to it from the controller's own address
        there, here = (_bound(host) for host in (settings.controller_host, settings.worker_host))
        if not same_machine(there, here):
            raise InputError(
                f"--controller-host {settings.controller_host} takes no worker of --worker-host {settings.worker_host}"
                f" without a token: set {TOKEN_VARIABLE}, or give both the same address"
            )


def _check_form(settings: ServeSettings) -> None:
    """Raises InputError where no judge can be asked so, and for a map that is none; whether the models can, and whose
    map it is, their workers say.
    """
    if settings.calibration is not None:
        read_calibration(settings.calibration)
    template = None if settings.prompt_file is None else read_prompt_template(settings.prompt_file)
    tasks_of(PromptForm(False, template, settings.reasoning, settings.verdict_format, settings.max_reasoning_tokens))


def _bound(host: str) -> IP:
    """The address at which a server that listens there is found."""
    with listen(host, 0) as listening:
        found = ip_of(listening.getsockname()[0].partition("%")[0])
    assert found is not None
    return type(found)(1 if found.version == 6 else 0x7F000001) if found.is_unspecified else found


def _start_controller(processes: Processes, settings: ServeSettings) -> str:
    with listen(settings.controller_host, settings.controller_port) as listening:
        port = listening.getsockname()[1]
        if not is_private(listening) and not read_secret(TOKEN_VARIABLE):
            print(OPEN_CONTROLLER, file=sys.stderr)
    flags = {"host": settings.controller_host, "port": port, "warned": True, **_hosts(settings)}
    processes.start("controller", "controller", *_words(flags), stage=_LAST)
    return url_of(settings.controller_host, port)


def _start_workers(processes: Processes, settings: ServeSettings, controller: str) -> None:
    gpus = _gpus() if settings.device in (None, "cuda") else []
    take = settings.num_gpus_per_worker
    shared = {name.replace("_", "-"): getattr(settings, name) for name in _OF_WORKERS}
    shared |= {"max-reasoning-token": settings.max_reasoning_tokens, "drain-timeout": settings.drain_s}
    shared |= {"num-gpus": take, "host": settings.worker_host, "controller-address": controller, **_hosts(settings)}
    models = zip(settings.models, settings.names, strict=True)
    places = [served for served in models for _ in range(settings.num_workers)]
    for number, (model, served) in enumerate(places):
        flags = {"model-path": model, "port": _port(settings.worker_host, 0), **shared}
        flags |= {"model-names": served} if settings.served_model_names else {}
        env = {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", SPINS)}
        if gpus:
            mine = [gpus[(number * take + k) % len(gpus)] for k in range(take)]
            env["CUDA_VISIBLE_DEVICES"] = ",".join(dict.fromkeys(mine))
        processes.start(_log_name(number, served), "model_worker", *_words(flags), stage=_AFTER_FRONTS, env=env)


def _log_name(number: int, model: str) -> str:
    """A worker's, which is its log's too: another one for each, and short whatever the model is called."""
    return f"worker-{number}-{re.sub('[^0-9A-Za-z._-]+', '-', model)[:100]}"


def _start_fronts(processes: Processes, settings: ServeSettings, controller: str) -> dict[str, str]:
    """API and page, and their addresses."""
    host, api_port, port = settings.host, _port(settings.host, settings.api_port), _port(settings.host, settings.port)
    shared = {"host": host, "drain-timeout": settings.drain_s, "root-path": settings.root_path, **_hosts(settings)}
    flags = {"port": api_port, "controller-address": controller, "batch-dir": settings.batch_dir, **shared}
    origins = [word for origin in settings.allow_origins for word in ("--allow-origin", origin)]
    processes.start("api", "api", *_words(flags), *origins, stage=_FRONTS)
    flags = {"port": port, "controller-url": controller, "log-dir": settings.log_dir, "share": settings.share, **shared}
    flags |= {"gradio-auth-path": settings.gradio_auth_path}
    processes.start("page", "gradio_web_server_judgelm", *_words(flags), stage=_FRONTS)
    return {"page": url_of(host, port), "API": url_of(host, api_port)}


def _wait_for_workers(processes: Processes, settings: ServeSettings, controller: str, fronts: dict[str, str]) -> None:
    """Until every model has a worker and the page answers, then say where things are."""
    print(f"loading {', '.join(settings.models)} ... (logs in {settings.log_dir})", file=sys.stderr)
    end = time.monotonic() + _START_S
    wanted = set(settings.names)
    while not _ready(controller, wanted, fronts):
        processes.check()
        if time.monotonic() > end:
            raise InputError(f"no worker of {', '.join(sorted(wanted))} after {_START_S} s; see {settings.log_dir}")
        time.sleep(0.3)
    if fronts:
        print(f"page        {fronts['page']}\nAPI         {fronts['API']}  (its description: {fronts['API']}/docs)")
        print(f"controller  {controller}\nlogs        {settings.log_dir}\nCtrl-C stops all of it")
    else:
        print(f"workers registered with {controller}; Ctrl-C stops them")
    sys.stdout.flush()


def _ready(controller: str, wanted: set[str], fronts: dict[str, str]) -> bool:
    paths = {"page": "/", "API": "/health"}
    try:
        with our_client(10) as http:
            there = set(http.post(controller + "/list_models").json()["models"])
            answers = (http.get(url + paths[name]) for name, url in fronts.items())
            return wanted <= there and all(answer.status_code < 500 for answer in answers)
    except (httpx.HTTPError, ValueError, KeyError):
        return False


def _hosts(settings: ServeSettings) -> dict[str, str]:
    return {"allowed-hosts": ",".join(settings.allowed_hosts)}


def _words(flags: Mapping[str, Any]) -> list[str]:
    """Of a command line; flags that are None, False or empty are left out."""
    words = []
    for name, value in flags.items():
        if value is True:
            words.append(f"--{name}")
        elif value not in (None, "") and value is not False:
            words += [f"--{name}", str(value)]
    return words


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
