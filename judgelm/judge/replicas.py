"""Replicas of a judge on Ray: on the GPUs or cores of this machine, or of a cluster."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import platform
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import judgelm
from judgelm.engine.interface import block_size
from judgelm.errors import InputError
from judgelm.judge.judge import Judge, foresee, plan_blocks
from judgelm.judge.judged import Judged
from judgelm.judge.placement import Placement
from judgelm.judge.settings import Done, JudgeSettings, Order
from judgelm.models.folder import ModelFolder, find_model
from judgelm.sample import Sample

_PACKAGE = Path(judgelm.__file__).resolve().parent
_TRIES = 3
"""replicas that may be lost over one block, or one after another in loading"""
_PORTION_SECONDS = 0.2
"""a replica hands over what it has judged so often: each handing over costs about a millisecond"""
_STORE = 256 << 20
"""bytes in which Ray keeps what is on its way: a block of long answers is about 10 MB"""
_SECONDS_TO_ANSWER = 5
_Handle = Any
"""Ray's, which has no types of its own: an actor, or a stream of what it yields"""


def absolute(folder: ModelFolder) -> ModelFolder:
    """The same folder for a process that works elsewhere."""
    return ModelFolder(folder.name, folder.path.resolve(), absolute(folder.base) if folder.base else None)


def load_on_node(folder: ModelFolder, fingerprint: str | None, **settings: Any) -> Judge:
    """`Judge.load` where the folder may not be shared: a hub id or embedded model is then fetched by its name.

    Raises InputError where that gives other files than the run was described with.
    """
    if not _is_here(folder):
        folder = find_model(folder.name)
    if folder.fingerprint() != fingerprint:
        raise InputError(f"model {folder.name}: its files on node {platform.node()} are not those of the other nodes")
    return Judge.load(folder, **settings)


def _load_expecting(load: Callable[[], Judge], tokens: int) -> Judge:
    judge = load()
    judge.expect(tokens)
    return judge


def _is_here(folder: ModelFolder) -> bool:
    return folder.path.is_dir() and (folder.base is None or _is_here(folder.base))


class Replica:
    """A judge in a process of its own: Ray's actor."""

    def __init__(self, load: Callable[[], Judge], threads: int | None) -> None:
        self._load = load
        self._threads = threads
        self._judge: Judge | None = None

    def load(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Load the model and say on which node, and what it is. A stream of one, which is waited for as blocks are."""
        if self._threads is not None:
            import torch

            torch.set_num_threads(self._threads)
        self._judge = self._load()
        yield platform.node(), dict(self._judge.description)

    def judge(
        self, block: Sequence[Sample], orders: Sequence[Order], settings: JudgeSettings, done: Done
    ) -> Iterator[list[Judged]]:
        """A block's judgements, in portions as they are there."""
        assert self._judge is not None, "load comes first"
        portion: list[Judged] = []
        sent = time.monotonic()
        for judged in self._judge.run_block(block, orders, settings, done):
            portion.append(judged)
            if time.monotonic() - sent > _PORTION_SECONDS:
                yield portion
                portion, sent = [], time.monotonic()
        yield portion


@dataclass(slots=True)
class _Block:
    samples: Sequence[Sample]
    done: set[tuple[Order, str]]
    """judged already, by an earlier session or by a replica that was lost"""
    lost: int = 0
    """replicas, over this block"""


class Replicas:
    """A judge in several processes, with the results of one: a block goes to whichever is free. `load` loads a
    replica's judge, in its process.
    """

    def __init__(self, load: Callable[[], Judge], placement: Placement) -> None:
        self.load = load
        self.placement = placement
        # as the engines choose it: results depend on it
        self.block = block_size("cuda" if placement.gpus_each else "cpu")
        self.description: dict[str, Any] = {"replicas": 0, "lost": 0, "nodes": [], "engines": []}
        """filled as replicas are loaded; engines and nodes that are alike stand there once"""

    def run(
        self, samples: Iterable[Sample], orders: Sequence[Order], settings: JudgeSettings, done: Done = ()
    ) -> Generator[Judged, None, None]:
        """See `Judge.run`. Ray is there as long as this runs. No more replicas are started than there are blocks."""
        tokens, all_samples = foresee(samples, orders, settings)
        blocks = self._blocks(all_samples, orders, settings.task, done)
        first = list(itertools.islice(blocks, self.placement.replicas))
        if not first:
            return
        with _joined(self.placement) as ray:
            # each has its share of the cores too: so they decide as one process would
            load = functools.partial(_load_expecting, self.load, tokens // len(first))
            start = _starter(ray, load, replace(self.placement, replicas=len(first)))
            print(f"judgelm: replicas to load: {len(first)}", file=sys.stderr)
            shift = _Shift(ray, start, itertools.chain(first, blocks), self.description)
            yield from shift.run(len(first), orders, settings)

    def _blocks(self, samples: Iterable[Sample], orders: Sequence[Order], task: str, done: Done) -> Iterator[_Block]:
        """The blocks in which something is left to do."""
        for block in plan_blocks(samples, task, self.block):
            asked = {(order, sample.key) for sample in block for order in orders}
            known = {one for one in asked if one in done}
            if known < asked:
                yield _Block(block, known)


@dataclass(slots=True)
class _Shift:
    """The replicas of one run, and what each of them is at."""

    ray: Any
    start: Callable[[], _Handle]
    blocks: Iterator[_Block]
    description: dict[str, Any]
    again: list[_Block] = field(default_factory=list)
    """of replicas that were lost, and the next one"""
    at: dict[_Handle, tuple[_Handle, _Block | None]] = field(default_factory=dict)
    """what comes in -> from whom, of which block; None: loading"""
    idle: list[_Handle] = field(default_factory=list)
    lost_in_loading: int = 0

    def run(self, replicas: int, orders: Sequence[Order], settings: JudgeSettings) -> Iterator[Judged]:
        """All judgements of all blocks, each once."""
        self.description["replicas"] = replicas
        for _ in range(replicas):
            self._load_another()
        while self._fetch() or any(block for _, block in self.at.values()):
            while self.idle and self._fetch():
                self._give(self.idle.pop(), self.again.pop(), orders, settings)
            (stream,), _ = self.ray.wait(list(self.at), num_returns=1)
            replica, block = self.at[stream]
            try:
                portion = self.ray.get(next(stream))
            except StopIteration:
                del self.at[stream]
                self.idle.append(replica)
            except _losses(self.ray) as error:
                self._replace(stream, error)
            except self.ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, InputError):
                    raise error.cause from None
                raise
            else:
                if block is None:
                    self._note_loaded(*portion)
                    continue
                for judged in portion:
                    block.done.add((judged.order, judged.sample.key))
                    yield judged

    def _fetch(self) -> bool:
        """Whether there is another block to be given."""
        if not self.again:
            self.again.extend(itertools.islice(self.blocks, 1))
        return bool(self.again)

    def _give(self, replica: _Handle, block: _Block, orders: Sequence[Order], settings: JudgeSettings) -> None:
        judge = replica.judge.options(num_returns="streaming")
        self.at[judge.remote(block.samples, orders, settings, frozenset(block.done))] = (replica, block)

    def _load_another(self) -> None:
        replica = self.start()
        self.at[replica.load.options(num_returns="streaming").remote()] = (replica, None)

    def _note_loaded(self, node: str, engine: Mapping[str, Any]) -> None:
        self.lost_in_loading = 0
        for names, one in (("nodes", node), ("engines", engine)):
            if one not in self.description[names]:
                self.description[names].append(one)

    def _replace(self, stream: _Handle, error: Exception) -> None:
        """A new replica for one that was lost, its block to whoever is free next. Raises InputError after `_TRIES`."""
        replica, block = self.at.pop(stream)
        self.ray.kill(replica)
        self.description["lost"] += 1
        if block is None:
            self.lost_in_loading += 1
            tries, what = self.lost_in_loading, "loading the model"
        else:
            block.lost += 1
            tries, what = block.lost, f"judging the block of question_id {block.samples[0].question_id}"
            self.again.append(block)
        reason = str(error).strip().splitlines()[-1].split(". ")[0]
        if tries == _TRIES:
            raise InputError(
                f"{tries} replicas were lost in {what}, the last one so: {reason}; what was judged is kept"
            )
        print(f"judgelm: a replica was lost in {what} and is replaced ({reason})", file=sys.stderr)
        self._load_another()


def _losses(ray: Any) -> tuple[type[Exception], ...]:
    """How Ray says that a process or node is gone, or what it held."""
    errors = ray.exceptions
    return (errors.RayActorError, errors.ObjectLostError, errors.NodeDiedError, errors.OutOfMemoryError)


@contextlib.contextmanager
def _joined(placement: Placement) -> Iterator[Any]:
    """The module ray, connected: to the cluster, or to one that is started here and ends with this."""
    address = _check_address(placement.ray_address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray says at length that it hides GPUs from those who asked for none; replicas on cores do not look for them
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    where: dict[str, Any]
    environment: dict[str, Any] = {"env_vars": {"OMP_WAIT_POLICY": "PASSIVE"}}
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address == "local":
        paths = [str(_PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["env_vars"]["PYTHONPATH"] = os.pathsep.join(paths)
        where = {"include_dashboard": False, "object_store_memory": _STORE, "num_cpus": _cores()}
    else:
        # other nodes need not have this package, and get this version of it
        environment["py_modules"] = [str(_PACKAGE)]
        where = {}
    try:
        try:
            with _interrupts_wait():
                ray.init(address, **where, **quiet, runtime_env=environment)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"Ray cannot be used at {address}: {reason}") from error
        yield ray
    finally:
        with _interrupts_wait():
            ray.shutdown()


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C is heard at the end: Ray, starting, may swallow it, and, ending, leave processes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        raise KeyboardInterrupt


def _check_address(address: str | None) -> str:
    """Ray's word for it. Raises InputError at once where nothing answers; Ray would try for minutes."""
    if address in (None, "auto"):
        return address or "local"
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _SECONDS_TO_ANSWER).close()
    except (OSError, ValueError) as error:
        raise InputError(
            f"--ray-address {address}: nothing answers there ({error}); expected auto or host:port"
        ) from None
    return address


def _cores() -> int:
    """Of this machine. torch counts real cores, unless it is told a number of threads for each process."""
    import torch

    return os.cpu_count() or 1 if "OMP_NUM_THREADS" in os.environ else torch.get_num_threads()


def _starter(ray: Any, load: Callable[[], Judge], placement: Placement) -> Callable[[], _Handle]:
    """What starts a replica. Raises InputError where there is no room for all of them."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if placement.gpus_each:
        gpus = [int(node.get("GPU", 0)) for node in nodes]
        if sum(count // placement.gpus_each for count in gpus) < placement.replicas:
            raise InputError(
                f"GPUs are asked for: {placement.gpus_each} for each replica, replicas: {placement.replicas}; Ray has"
                f" {sum(gpus)} on {len(nodes)} nodes"
            )
        actor = ray.remote(Replica).options(num_gpus=placement.gpus_each, num_cpus=0)
        return lambda: actor.remote(load, None)
    cores = [int(node.get("CPU", 0)) for node in nodes]
    threads = _cores_each(cores, placement.replicas)
    if placement.ray_address is None:
        import torch

        threads = min(threads, torch.get_num_threads())
    if not threads:
        raise InputError(f"{placement.replicas} replicas are asked for, Ray has {sum(cores)} cores")
    actor = ray.remote(Replica).options(num_cpus=threads)
    return lambda: actor.remote(load, threads)


def _cores_each(cores: Sequence[int], replicas: int) -> int:
    """The most cores that each replica can have where all find their place on nodes with so many; 0: not even one."""
    return max((each for each in range(1, max(cores) + 1) if sum(n // each for n in cores) >= replicas), default=0)
