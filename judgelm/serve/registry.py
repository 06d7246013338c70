"""Which workers there are, where they are, and which of them serves a model."""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
from pydantic import AfterValidator, BaseModel, Field

from judgelm.serve.hosts import IP, ip_of, same_machine
from judgelm.serve.protocol import HEART_BEAT_EXPIRATION_S, ErrorCode, error_chunk
from judgelm.serve.servers import ask, our_client, url_of

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


@dataclass(slots=True)
class _Worker:
    place: Place
    status: WorkerStatus
    check_heart_beat: bool
    multimodal: bool
    heard: float = field(default_factory=time.monotonic)
    """when it last said that it lives"""


class Controller:
    """Knows the workers, safe for several threads.

    Args:
        dispatch_method: "shortest_queue", or "lottery", which is at random, by speed.
        expiration_s: a worker that says nothing for so long is dropped.
    """

    def __init__(self, dispatch_method: str, expiration_s: float = HEART_BEAT_EXPIRATION_S) -> None:
        self.lottery = dispatch_method == "lottery"
        self.expiration_s = expiration_s
        self.closing = threading.Event()
        self._lock = threading.RLock()
        self._workers: dict[str, _Worker] = {}
        self._missing: dict[str, list[str]] = {}
        """models of the workers that went away without a word and were not replaced"""

    def watch(self) -> None:
        """Drop workers whose heart has stopped, until `closing` is set."""
        while not self.closing.wait(max(0.1, self.expiration_s / 10)):
            now = time.monotonic()
            with self._lock:
                for name, worker in list(self._workers.items()):
                    if worker.check_heart_beat and worker.heard < now - self.expiration_s:
                        log.warning("worker %s sent no heart beat for %d s and is dropped", name, self.expiration_s)
                        self._lose(name)

    def register_worker(
        self, name: str, check_heart_beat: bool, status: WorkerStatus | None, multimodal: bool, place: Place
    ) -> bool:
        """Whether it answers, where it does not say its status, and there is room for it."""
        status = status or _ask_status(name, place)
        if status is None:
            return False
        with self._lock:
            if name not in self._workers:
                if len(self._workers) >= _MOST_WORKERS:
                    return False
                log.info("worker %s registered: %s", name, ", ".join(status.model_names))
                self._find(name, status.model_names)
            self._workers[name] = _Worker(place, status, check_heart_beat, multimodal)
        return True

    def deregister_worker(self, name: str) -> bool:
        """A worker that ends says so; whether it was known."""
        with self._lock:
            self._missing.pop(name, None)
            known = self._workers.pop(name, None) is not None
            if known:
                log.info("worker %s has said goodbye", name)
            return known

    def receive_heart_beat(self, name: str, queue_length: int) -> bool:
        """Whether the worker is known."""
        with self._lock:
            worker = self._workers.get(name)
            if worker is not None:
                worker.status.queue_length, worker.heard = queue_length, time.monotonic()
            return worker is not None

    def list_models(self, multimodal: bool | None = None) -> list[str]:
        """Of all workers, or of those that are or are not multimodal."""
        with self._lock:
            found = [one for one in self._workers.values() if multimodal in (None, one.multimodal)]
            return sorted({name for worker in found for name in worker.status.model_names})

    def list_workers(self) -> list[dict[str, Any]]:
        """Where each worker is, and its models."""
        with self._lock:
            known = self._workers.values()
            return [{"address": one.place.address, "model_names": one.status.model_names} for one in known]

    def list_missing_models(self) -> list[str]:
        """Of the workers that went away without a word and were not replaced."""
        with self._lock:
            return sorted(name for models in self._missing.values() for name in models)

    def place_of(self, name: str) -> Place | None:
        with self._lock:
            worker = self._workers.get(name)
            return None if worker is None else worker.place

    def _lose(self, name: str) -> None:
        worker = self._workers.pop(name)
        if len(self._missing) < _MOST_WORKERS:
            self._missing[name] = worker.status.model_names

    def _find(self, name: str, models: list[str]) -> None:
        """A worker that comes back, or another one of the same models, is not missed any more."""
        replaced = [name] if name in self._missing else [key for key, lost in self._missing.items() if lost == models]
        if replaced:
            del self._missing[replaced[0]]

    def refresh_all_workers(self) -> None:
        """Ask every worker; those that do not answer are dropped. Meanwhile clients are served as before."""
        for name, status in self._statuses():
            with self._lock:
                worker = self._workers.get(name)
                if worker is not None and status is not None:
                    worker.status, worker.heard = status, time.monotonic()
                elif worker is not None:
                    log.warning("worker %s is dropped", name)
                    self._lose(name)

    def worker_api_get_status(self) -> dict[str, Any]:
        """What this controller says of itself to another one that has it as a worker; no more than that one takes."""
        found = [status for _, status in self._statuses() if status is not None]
        return {
            "model_names": sorted({name for status in found for name in status.model_names}),
            "speed": min(1e6, sum(status.speed for status in found)),
            "queue_length": min(_MOST_QUEUE, sum(status.queue_length for status in found)),
        }

    def _statuses(self) -> Iterator[tuple[str, WorkerStatus | None]]:
        """All workers are asked at once."""
        with self._lock:
            places = {name: worker.place for name, worker in self._workers.items()}
        if places:
            with ThreadPoolExecutor(min(32, len(places))) as pool:
                yield from zip(places, pool.map(_ask_status, places, places.values()), strict=True)

    def get_worker_address(self, model: str) -> str:
        """Of a worker that has the model; empty where there is none."""
        with self._lock:
            having = [worker for worker in self._workers.values() if model in worker.status.model_names]
            if not having:
                return ""
            if self.lottery:
                return random.choices(having, [worker.status.speed for worker in having])[0].place.address
            chosen = min(having, key=lambda worker: worker.status.queue_length / worker.status.speed)
            # its queue counts its own dispatches until the worker's next heart beat
            chosen.status.queue_length += 1
            return chosen.place.address

    def worker_api_generate_stream(self, params: dict[str, Any]) -> Iterator[bytes]:
        """Pass a generation on, so that a controller can stand as a worker of another one."""
        address = self.get_worker_address(params["model"])
        if not address:
            yield error_chunk("no worker has this model", ErrorCode.CONTROLLER_NO_WORKER)
            return
        try:
            url = address + "/worker_generate_stream"
            with our_client(_GENERATE_TIMEOUT_S) as http, http.stream("POST", url, json=params) as response:
                yield from response.iter_bytes()
        except httpx.HTTPError:
            yield error_chunk("the worker does not answer", ErrorCode.CONTROLLER_WORKER_TIMEOUT)


def _ask_status(name: str, place: Place) -> WorkerStatus | None:
    try:
        answer = ask(place.address + "/worker_get_status", timeout_s=_STATUS_TIMEOUT_S).raise_for_status()
        return WorkerStatus.model_validate(answer.json())
    except (httpx.HTTPError, ValueError, RecursionError) as error:
        log.warning("worker %s does not give its status: %s", name, type(error).__name__)
        return None
