"""What /metrics of the API shows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.routing import Route

from judgelm.serve.guard import App, Message, Receive, Send
from judgelm.serve.worker_answers import Usage


class Metrics:
    """Counters of requests, tokens and judgements."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "judgelm_requests", "requests by route and status", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "judgelm_request_seconds", "until a request was answered whole", ["route"], registry=self.registry
        )
        self.in_progress = Gauge("judgelm_requests_in_progress", "requests not answered yet", registry=self.registry)
        self.tokens = Counter("judgelm_tokens", "tokens by kind", ["kind"], registry=self.registry)
        self.judgements = Counter("judgelm_judgements", "judgements by parse state", ["parse"], registry=self.registry)
        self.batch_lines = Counter(
            "judgelm_batch_lines", "answered requests of batches", ["outcome"], registry=self.registry
        )
        self.batches = Gauge("judgelm_batches", "batches that have not ended", registry=self.registry)

    def count(self, usage: Usage) -> None:
        self.tokens.labels("prompt").inc(usage.prompt_tokens)
        self.tokens.labels("completion").inc(usage.completion_tokens)

    @contextlib.contextmanager
    def timed(self, route: str) -> Iterator[None]:
        with self.in_progress.track_inprogress(), self.seconds.labels(route).time():
            yield


class Counted:
    """ASGI middleware: counts requests by route and status; 499 is a client that went away."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 499

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception:
            status = 500
            raise
        finally:
            route = scope.get("route")
            self.metrics.requests.labels(route.path_format if isinstance(route, Route) else "none", status).inc()
