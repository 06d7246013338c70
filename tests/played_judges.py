"""A server that answers as our API does, by a rule in place of a model; requests are checked by the API's own types."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from local_server import LocalServer, QuietHandler

from judgelm.engine.interface import Generation
from judgelm.judge.judged import Judged, Likelihood
from judgelm.judgement import Judgement, Outcome
from judgelm.sample import Sample
from judgelm.serve.judgement_requests import JudgementRequest, Result, ResultOut
from judgelm.verdict import Verdict

Rule = Callable[[Sample], Sequence[float] | None]
"""the scores of the answers in the order shown; None for what cannot be read"""


def by_length(sample: Sample) -> list[float]:
    """The longer answer is better: a point for each character, up to 10."""
    return [float(min(len(answer), 10)) for answer in sample.answers]


class PlayedJudge(LocalServer):
    """`busy` requests are refused before the first is judged, and those of more than `most_bytes`."""

    def __init__(
        self, rule: Rule = by_length, name: str = "played", busy: int = 0, most_bytes: int = 10_000_000
    ) -> None:
        super().__init__(_Handler)
        self.rule, self.name, self.busy, self.most_bytes = rule, name, busy, most_bytes
        self.url = self.root
        self.requests: list[JudgementRequest] = []
        self.answer: dict[str, Any] | None = None
        """what it says in place of judging"""

    def judge(self, body: bytes) -> dict[str, Any]:
        request = JudgementRequest.model_validate_json(body)
        request.check()
        self.requests.append(request)
        results = [
            Result(index, self._verdict(each.sample, request), self._judged(each.sample, request))
            for index, each in enumerate(request.samples)
        ]
        return {"object": "list", "data": [ResultOut.of(each).model_dump(mode="json") for each in results]}

    def _judged(self, sample: Sample, request: JudgementRequest) -> tuple[Judged, ...]:
        return tuple(self._judge(sample.shown(order), order, request) for order in request.asked_orders)

    def _judge(self, shown: Sample, order: Any, request: JudgementRequest) -> Judged:
        scores = self.rule(shown)
        text = "cannot say" if scores is None else " ".join(f"{score:g}" for score in scores)
        judgement = Judgement.parse(text, len(shown.answers))
        made = Generation(shown.key, text, 10, 2, "stop")
        likelihood = None
        if request.scoring == "expected" and scores is not None and judgement.outcome is not None:
            sure = {each: 0.8 if each is judgement.outcome else 0.1 for each in Outcome}
            likelihood = Likelihood(tuple(scores), sure, 1.0)
        return Judged(shown, order, request.task, judgement, made, None, likelihood)

    def _verdict(self, sample: Sample, request: JudgementRequest) -> Verdict:
        readings = {each.order: each.reading for each in self._judged(sample, request)}
        return Verdict(readings.get("forward"), readings.get("reversed"), sample)


class _Handler(QuietHandler):
    server: PlayedJudge
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, {"object": "list", "data": [{"id": self.server.name, "object": "model"}]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.busy:
            self.server.busy -= 1
            self._answer(429, {"error": {"message": "too many wait", "code": "overloaded"}})
            return
        if len(body) > self.server.most_bytes:
            self._answer(413, {"error": {"message": "the body is too large", "code": "too_large"}})
            return
        self._answer(200, self.server.answer or self.server.judge(body))

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
