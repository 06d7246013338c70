"""Which workers there are, where they are, and which of them serves a model."""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
from pydantic import AfterValidator, BaseModel, Field

from judgelm.serve.hosts import IP, ip_of, same_machine
from judgelm.serve.protocol import (
    HEART_BEAT_EXPIRATION_S,
    BaseController,
    DispatchMethod,
    ErrorCode,
    WorkerInfo,
    error_chunk,
)
from judgelm.serve.servers import ask, url_of

log = logging.getLogger(__name__)

_MOST_WORKERS = 1024
_STATUS_TIMEOUT_S = 5
_GENERATE_TIMEOUT_S = 100
_MOST_QUEUE = 1_000_000


def _check_name(name: str) -> str:
    if not name.isprintable():
        raise ValueError("a name has printable characters alone")
    return name


_Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_check_name)]
QueueLength = Annotated[int, Field(ge=0, le=_MOST_QUEUE)]


class WorkerStatus(BaseModel):
    """What a worker says of itself."""

    model_names: Annotated[list[_Name], Field(min_length=1, max_length=64)]
    speed: Annotated[float, Field(gt=1e-6, le=1e6, allow_inf_nan=False)] = 1
    queue_length: QueueLength = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker is."""

    address: str
    """to which clients are sent"""
    ips: frozenset[IP]
    """from which it speaks, where it has no token"""

    def is_of(self, client: str) -> bool:
        """Whether that client is on the worker's machine."""
        speaker = ip_of(client)
        return speaker is not None and all(same_machine(speaker, ip) for ip in self.ips)


def find_place(name: str, client: str) -> Place | None:
    """The place of a worker that registers itself without a token: every address of its host must be the client's own,
    and one of them is kept, so that the name cannot be made to point elsewhere later on. None for another's.
    """
    parts = urlsplit(name)
    host = parts.hostname or ""
    try:
        found = {ip_of(str(entry[4][0])) for entry in socket.getaddrinfo(host, parts.port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return None
    place = Place(name, frozenset(ip for ip in found if ip is not None))
    if None in found or not place.ips or not place.is_of(client):
        return None
    if host == "localhost" or ip_of(host) is not None:
        return place
    if parts.scheme == "https":
        # its certificate is for the name
        return None
    speaker = ip_of(client)
    ip = speaker if speaker in place.ips else min(place.ips, key=str)
    return replace(place, address=url_of(str(ip), parts.port or 80))


class Controller(BaseController):  # type: ignore[misc]
    """FastChat's controller, safe for several threads; workers that are asked for their status are asked at once."""

    def __init__(self, dispatch_method: str) -> None:
        # FastChat's own starts a thread that would keep the process from ending
        self.worker_info: dict[str, Any] = {}
        self.dispatch_method = DispatchMethod.from_str(dispatch_method)
        self.lock = threading.RLock()
        self.closing = threading.Event()
        self._places: dict[str, Place] = {}
        self.missing: dict[str, list[str]] = {}
        """models of the workers that went away without a word and were not replaced"""

    def watch(self) -> None:
        """Drop workers whose heart has stopped, until `closing` is set."""
        while not self.closing.wait(max(0.1, HEART_BEAT_EXPIRATION_S / 10)):
            with self.lock:
                before = dict(self.worker_info)
                self.remove_stale_workers_by_expiration()
                for name in set(before) - set(self.worker_info):
                    log.warning("worker %s sent no heart beat for %d s and is dropped", name, HEART_BEAT_EXPIRATION_S)
                    self._miss(name, before[name].model_names)

    def register_worker(
        self,
        worker_name: str,
        check_heart_beat: bool,
        worker_status: dict[str, Any] | None,
        multimodal: bool,
        place: Place | None = None,
    ) -> bool:
        place = place or self._places.get(worker_name) or Place(worker_name, frozenset())
        status = worker_status or _ask_status(worker_name, place.address)
        if not status:
            return False
        with self.lock:
            if worker_name not in self.worker_info:
                if len(self.worker_info) >= _MOST_WORKERS:
                    return False
                log.info("worker %s registered: %s", worker_name, ", ".join(status["model_names"]))
                self._found(worker_name, status["model_names"])
            self._places[worker_name] = place
            self.worker_info[worker_name] = WorkerInfo(
                status["model_names"],
                status["speed"],
                status["queue_length"],
                check_heart_beat,
                time.time(),
                multimodal,
            )
        return True

    def remove_worker(self, worker_name: str) -> None:
        super().remove_worker(worker_name)
        self._places.pop(worker_name, None)

    def deregister_worker(self, worker_name: str) -> bool:
        """A worker that ends says so; whether it was known."""
        with self.lock:
            self.missing.pop(worker_name, None)
            if worker_name not in self.worker_info:
                return False
            self.remove_worker(worker_name)
            log.info("worker %s has said goodbye", worker_name)
            return True

    def list_missing_models(self) -> list[str]:
        """Those in `missing`."""
        return sorted(name for models in self.missing.values() for name in models)

    def place_of(self, worker_name: str) -> Place | None:
        """Where a registered worker is."""
        with self.lock:
            return self._places.get(worker_name)

    def _miss(self, name: str, models: list[str]) -> None:
        if len(self.missing) < _MOST_WORKERS:
            self.missing[name] = models

    def _found(self, name: str, models: list[str]) -> None:
        """A worker that comes back, or another one of the same models, is not missed any more."""
        replaced = [name] if name in self.missing else [key for key, lost in self.missing.items() if lost == models]
        if replaced:
            del self.missing[replaced[0]]

    def get_worker_status(self, worker_name: str) -> dict[str, Any] | None:
        place = self.place_of(worker_name)
        return _ask_status(worker_name, place.address if place else worker_name)

    def refresh_all_workers(self) -> None:
        """Ask every worker; those that do not answer are dropped. Meanwhile clients are served as before."""
        with self.lock:
            known = dict(self.worker_info)
        for name, status in self._statuses(list(known)):
            with self.lock:
                if name not in self.worker_info:
                    continue
                if status is None:
                    log.warning("worker %s is dropped", name)
                    self._miss(name, self.worker_info[name].model_names)
                    self.remove_worker(name)
                else:
                    self.register_worker(name, known[name].check_heart_beat, status, known[name].multimodal)

    def worker_api_get_status(self) -> dict[str, Any]:
        with self.lock:
            names = list(self.worker_info)
        found = [status for _, status in self._statuses(names) if status is not None]
        return {
            "model_names": sorted({name for status in found for name in status["model_names"]}),
            # no more than a controller takes that has this one as its worker
            "speed": min(1e6, sum(status["speed"] for status in found)),
            "queue_length": min(_MOST_QUEUE, sum(status["queue_length"] for status in found)),
        }

    def _statuses(self, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any] | None]]:
        if names:
            with ThreadPoolExecutor(min(32, len(names))) as pool:
                yield from zip(names, pool.map(self.get_worker_status, names), strict=True)

    def get_worker_address(self, model_name: str) -> str:
        with self.lock:
            # the shortest queue counts its own dispatches until the worker's next heart beat
            lottery = self.dispatch_method is DispatchMethod.LOTTERY
            name = self._draw(model_name) if lottery else str(super().get_worker_address(model_name))
            return self._places[name].address if name else ""

    def _draw(self, model_name: str) -> str:
        having = {name: info.speed for name, info in self.worker_info.items() if model_name in info.model_names}
        return random.choices(list(having), list(having.values()))[0] if having else ""

    def receive_heart_beat(self, worker_name: str, queue_length: int) -> bool:
        with self.lock:
            info = self.worker_info.get(worker_name)
            if info is not None:
                info.queue_length = queue_length
                info.last_heart_beat = time.time()
            return info is not None

    def worker_api_generate_stream(self, params: dict[str, Any]) -> Iterator[bytes]:
        """Pass a generation on, so that a controller can stand as a worker of another one."""
        address = self.get_worker_address(params["model"])
        if not address:
            yield error_chunk("no worker has this model", ErrorCode.CONTROLLER_NO_WORKER)
            return
        try:
            with (
                httpx.Client(trust_env=False, timeout=_GENERATE_TIMEOUT_S) as http,
                http.stream("POST", address + "/worker_generate_stream", json=params) as response,
            ):
                yield from response.iter_bytes()
        except httpx.HTTPError:
            yield error_chunk("the worker does not answer", ErrorCode.CONTROLLER_WORKER_TIMEOUT)


def _ask_status(name: str, address: str) -> dict[str, Any] | None:
    try:
        answer = ask(address + "/worker_get_status", timeout_s=_STATUS_TIMEOUT_S).raise_for_status()
        return WorkerStatus.model_validate(answer.json()).model_dump()
    except (httpx.HTTPError, ValueError, RecursionError) as error:
        log.warning("worker %s does not give its status: %s", name, type(error).__name__)
        return None
