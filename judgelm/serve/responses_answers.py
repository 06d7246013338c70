"""The shapes of OpenAI's responses: a whole one, and the events of a stream."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from judgelm.serve.judgement_requests import ErrorOut
from judgelm.serve.openai_answers import JSON, end_reason, write_event
from judgelm.serve.responses_requests import ResponseRequest
from judgelm.serve.worker_answers import Chunk, Usage

RESPONSES = "/v1/responses"


class ResponseForm:
    """A response with one message, and in it one text; see `judgelm.serve.openai_answers.Form`."""

    route = RESPONSES

    def __init__(self, request: ResponseRequest) -> None:
        self.request = request
        self.id = f"resp_{uuid.uuid4().hex}"
        self.item = f"msg_{uuid.uuid4().hex}"
        self.created = int(time.time())
        self._number = 0
        self._ended: Chunk | None = None

    def answer(self, chunks: Sequence[Chunk], usage: Usage) -> JSON:
        (ended,) = chunks
        cut = end_reason(ended) == "length"
        more = {"incomplete_details": {"reason": "max_output_tokens"}} if cut else {}
        counts = {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.total_tokens,
        }
        return self._response(_status(ended), output=[self._message(ended)], usage=counts, **more)

    def begin(self, index: int, first: Chunk) -> Iterator[str]:
        yield self._event("response.created", response=self._response("in_progress"))
        yield self._event("response.in_progress", response=self._response("in_progress"))
        item = {**self._message(None), "content": []}
        yield self._event("response.output_item.added", output_index=0, item=item)
        part = _part(first.model_copy(update={"text": ""}))
        yield self._event("response.content_part.added", **self._place, part=part)

    def step(self, index: int, text: str, chunk: Chunk) -> str:
        if chunk.refused:
            return self._event("response.refusal.delta", **self._place, delta=text)
        return self._event("response.output_text.delta", **self._place, delta=text, logprobs=[])

    def end(self, index: int, ended: Chunk) -> Iterator[str]:
        self._ended = ended
        if ended.refused:
            yield self._event("response.refusal.done", **self._place, refusal=ended.text)
        else:
            yield self._event("response.output_text.done", **self._place, text=ended.text, logprobs=[])
        yield self._event("response.content_part.done", **self._place, part=_part(ended))
        yield self._event("response.output_item.done", output_index=0, item=self._message(ended))

    def finish(self, usage: Usage) -> Iterator[str]:
        assert self._ended is not None
        whole = self.answer([self._ended], usage)
        yield self._event(f"response.{whole['status']}", response=whole)

    def error(self, error: ErrorOut) -> Iterator[str]:
        problem = {"code": "server_error", "message": error.message}
        yield self._event("response.failed", response=self._response("failed", error=problem))

    @property
    def _place(self) -> JSON:
        return {"item_id": self.item, "output_index": 0, "content_index": 0}

    def _event(self, kind: str, **fields: Any) -> str:
        self._number += 1
        return write_event({"type": kind, "sequence_number": self._number - 1, **fields}, kind)

    def _message(self, ended: Chunk | None) -> JSON:
        said = {"id": self.item, "type": "message", "role": "assistant"}
        if ended is None:
            return {**said, "status": "in_progress"}
        return {**said, "status": _status(ended), "content": [_part(ended)]}

    def _response(self, status: str, **more: Any) -> JSON:
        asked = self.request
        text = {} if asked.text is None else asked.text.model_dump(by_alias=True, exclude_none=True)
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            **dict.fromkeys(("error", "incomplete_details", "previous_response_id", "user", "usage")),
            **{name: getattr(asked, name) for name in ("model", "instructions", "max_output_tokens")},
            **{name: getattr(asked, name) for name in ("temperature", "top_p")},
            **{"output": [], "parallel_tool_calls": False, "tool_choice": "none", "tools": []},
            "metadata": asked.metadata or {},
            **{"text": {"format": {"type": "text"}, **text}, "truncation": "disabled", "store": False},
            "reasoning": {"effort": None, "summary": None},
            **more,
        }


def _status(ended: Chunk) -> str:
    return "incomplete" if end_reason(ended) == "length" else "completed"


def _part(said: Chunk) -> JSON:
    if said.refused:
        return {"type": "refusal", "refusal": said.text}
    return {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
