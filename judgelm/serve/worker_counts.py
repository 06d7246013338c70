"""What workers have done since they began: counted there, asked for by the API, and shown by its /metrics."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Self

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from pydantic import BaseModel, Field, model_validator

from judgelm.engine.hf.tree import common_length

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_MOST_WORKERS = 1024

_Count = Annotated[int, Field(ge=0, le=2**53)]
_Word = Annotated[str, Field(max_length=500)]


class Tally:
    """Counted by the one thread that runs a batch, and read by others."""

    def __init__(self) -> None:
        self.steps = [0] * (len(BATCH_SIZES) + 1)
        """of batches that have no more requests than each of `BATCH_SIZES`, and no more than the one before"""
        self.requests = self.prompt_tokens = self.reused_tokens = self.new_tokens = 0
        """in all steps together; the tokens of prompts, those of them that were not read again, and of texts"""
        self.running = 0
        """in the last step"""

    def begin(self, prompts: Sequence[Sequence[int]], packed: bool = False) -> None:
        """Prompts are read; those that stand side by side and begin alike, `packed`, together."""
        self.prompt_tokens += sum(map(len, prompts))
        if packed:
            self.reused_tokens += sum(itertools.starmap(common_length, itertools.pairwise(prompts)))

    def step(self, running: int) -> None:
        """So many requests get a token each."""
        self.steps[bisect.bisect_left(BATCH_SIZES, running)] += bool(running)
        self.requests += running
        self.running = running


class WorkerCounts(BaseModel):
    """What a worker says of itself; it may be anybody's."""

    running: _Count
    waiting: _Count
    steps: Annotated[list[_Count], Field(min_length=len(BATCH_SIZES) + 1, max_length=len(BATCH_SIZES) + 1)]
    requests: _Count
    prompt_tokens: _Count
    reused_tokens: _Count
    new_tokens: _Count

    @classmethod
    def of(cls, tally: Tally, queue_length: int) -> Self:
        names = ("steps", "requests", "prompt_tokens", "reused_tokens", "new_tokens")
        running = min(tally.running, queue_length)
        return cls(running=running, waiting=queue_length - running, **{name: getattr(tally, name) for name in names})


class ListedWorker(BaseModel):
    """A worker that the controller knows."""

    address: _Word
    model_names: Annotated[list[_Word], Field(min_length=1, max_length=64)]

    @property
    def labels(self) -> tuple[str, str]:
        """Its models, and where it is."""
        return ",".join(self.model_names), self.address


class WorkerList(BaseModel):
    """All of them."""

    workers: Annotated[list[ListedWorker], Field(max_length=_MOST_WORKERS)]

    @model_validator(mode="after")
    def _has_each_once(self) -> Self:
        self.workers = list({worker.labels: worker for worker in self.workers}.values())
        return self


class WorkerCollector(Collector):
    """The counts of all workers as metrics; of those that do not say theirs only that they are not up."""

    def __init__(self, found: Mapping[tuple[str, str], WorkerCounts | None]) -> None:
        self.found = found

    def collect(self) -> Iterable[Metric]:
        labels = ("model", "worker")
        up = GaugeMetricFamily("judgelm_worker_up", "whether the worker answers", labels=labels)
        running = GaugeMetricFamily("judgelm_worker_requests_running", "requests in the batch", labels=labels)
        waiting = GaugeMetricFamily("judgelm_worker_requests_waiting", "requests in the queue", labels=labels)
        tokens = CounterMetricFamily("judgelm_worker_tokens", "tokens by kind", labels=(*labels, "kind"))
        reused = CounterMetricFamily(
            "judgelm_worker_reused_prompt_tokens",
            "tokens of prompts that were not read again, as one before began with them",
            labels=labels,
        )
        sizes = HistogramMetricFamily("judgelm_worker_batch_size", "requests in a step of the batch", labels=labels)
        for of, counts in self.found.items():
            up.add_metric(of, float(counts is not None))
            if counts is None:
                continue
            running.add_metric(of, counts.running)
            waiting.add_metric(of, counts.waiting)
            tokens.add_metric((*of, "prompt"), counts.prompt_tokens)
            tokens.add_metric((*of, "completion"), counts.new_tokens)
            reused.add_metric(of, counts.reused_tokens)
            sizes.add_metric(of, list(_buckets(counts.steps)), counts.requests)
        return up, running, waiting, tokens, reused, sizes


def _buckets(steps: Sequence[int]) -> Iterator[tuple[str, float]]:
    names = [*(str(float(size)) for size in BATCH_SIZES), "+Inf"]
    return zip(names, map(float, itertools.accumulate(steps)), strict=True)
