"""What a server of OpenAI's API says: an answer, a refusal, a fault that may pass, or the end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from judgelm.engine import FinishReason
from judgelm.engine.outgoing import retry_after_s

Api = Literal["completions", "chat"]
_CONTEXT = re.compile(
    # OpenAI and vLLM, llama.cpp, Anthropic, ours, TGI
    r"context.?(?:length|size|window)|prompt is too long|model's context|max_new_tokens. must be",
    re.IGNORECASE,
)
_CONTENT = re.compile(r"content.?(?:policy|filter|management)|moderation|flagged", re.IGNORECASE)
_TRY_AGAIN = (408, 409, 429)
_BUSY = (503, 529)
_NOBODY = (401, 402, 403, 404, 405)
"""statuses that every other prompt would get as well"""
_UNSUPPORTED = ("insufficient_quota", "unsupported_parameter", "unsupported_value")
"""codes that every other prompt would get as well"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server wrote."""

    text: str
    finish_reason: FinishReason
    num_prompt_tokens: int
    """0 where the server does not count"""
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server does not want this prompt."""

    reason: str
    about: Literal["context", "prompt", "unknown"]
    """unknown: the request may be at fault as well as the prompt"""
    num_prompt_tokens: int = 0
    num_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """No answer this time; another attempt may have one."""

    reason: str
    retry_after_s: float | None = None
    broken: bool = False
    """the server failed at this request, and was not merely busy or away"""


@dataclass(frozen=True, slots=True)
class End:
    """No prompt would get an answer."""

    reason: str
    status: int


def read_response(response: httpx.Response, api: Api, clean: Callable[[str], str]) -> Answer | Refusal | Fault | End:
    """What a response means for its prompt and for the others."""
    status = response.status_code
    if response.is_success:
        try:
            return _read_answer(response.json(), api)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
            return Fault(f"{status}, but the answer cannot be read")
    message, code = _read_error(response)
    reason = clean(f"{status} {message}")
    if code in _UNSUPPORTED or 300 <= status < 400:
        return End(reason, status)
    if status in _TRY_AGAIN or status >= 500:
        wait_s = retry_after_s(response.headers.get("Retry-After"), time.time())
        return Fault(reason, wait_s, status >= 500 and status not in _BUSY)
    if status not in (401, 404) and _CONTENT.search(f"{code} {message}"):
        return Refusal(reason, "prompt")
    if status in _NOBODY:
        return End(reason, status)
    return Refusal(reason, "context" if _CONTEXT.search(f"{code} {message}") else "unknown")


def _read_answer(body: Any, api: Api) -> Answer | Refusal:
    choice = body["choices"][0]
    usage = body.get("usage") or {}
    num_prompt_tokens, num_tokens = (int(usage.get(f"{kind}_tokens") or 0) for kind in ("prompt", "completion"))
    message = choice["message"] if api == "chat" else {}
    if choice.get("finish_reason") == "content_filter" or message.get("refusal"):
        return Refusal("the answer was held back by the server's filter", "prompt", num_prompt_tokens, num_tokens)
    # a chat's content is null where nothing was written
    text = (message["content"] or "") if api == "chat" else choice["text"]
    if not isinstance(text, str):
        raise TypeError("the text is no text")
    return Answer(text, "length" if choice.get("finish_reason") == "length" else "stop", num_prompt_tokens, num_tokens)


def _read_error(response: httpx.Response) -> tuple[str, str]:
    """Message and code, from the forms that servers give them."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = None
    said = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(said, dict):
        return (said if isinstance(said, str) else response.reason_phrase), ""
    message = said.get("message") or said.get("detail") or response.reason_phrase
    return str(message), str(said.get("code") or said.get("type") or "")
