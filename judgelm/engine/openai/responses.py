"""What a server of OpenAI's API says: an answer, as what follows the prompt, a refusal, a passing fault, or the end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import httpx

from judgelm.engine.interface import FinishReason, Request
from judgelm.engine.openai.server import Api
from judgelm.judgement import Judgement
from judgelm.score_lines import find_score_line, thoughts_end

_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]+)?")
_CONTEXT = re.compile(
    # OpenAI and vLLM, llama.cpp, Anthropic, ours, TGI; a request above a limit of tokens a minute
    r"context.?(?:length|size|window)|prompt is too long|model's context|max_new_tokens. must be|request too large",
    re.IGNORECASE,
)
_CONTENT = re.compile(
    r"content.?(?:policy|filter|management)|moderation|flagged|ResponsibleAIPolicyViolation", re.IGNORECASE
)
_TRY_AGAIN = (408, 409, 429)
_BUSY = (408, 409, 429, 503, 529)
_NOBODY = (401, 402, 403, 404, 405)
"""statuses that every other prompt would get as well"""
_UNSUPPORTED = (
    *("insufficient_quota", "billing_hard_limit_reached", "billing_not_active"),
    *("unsupported_parameter", "unsupported_value"),
)
"""codes that every other prompt would get as well"""
_LENGTH = ("length", "max_tokens", "max_output_tokens")
_MOST_TOKENS = 1 << 40
"""a count above this is none"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server wrote."""

    text: str
    finish_reason: FinishReason
    num_prompt_tokens: int
    """0 where the server does not count"""
    num_tokens: int
    thoughts: str | None = None
    """those that came beside the text"""
    logprobs: Any = None
    """as the server gave them; see `read_likeliest`"""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server does not want this prompt, or has no answer to it."""

    reason: str
    about: Literal["context", "prompt", "unknown", "failed"]
    """unknown: the request may be at fault as well as the prompt; failed: the server too"""
    num_prompt_tokens: int = 0
    num_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """No answer this time; another attempt may have one."""

    reason: str
    retry_after_s: float | None = None
    kind: Literal["away", "broken", "unusable"] = "away"
    """away: busy, or not there; broken: it failed at this request; unusable: a reply, to be paid for, without a text"""


@dataclass(frozen=True, slots=True)
class End:
    """No prompt would get an answer."""

    reason: str
    status: int


Outcome = Answer | Refusal | Fault | End


@dataclass(frozen=True, slots=True)
class _Error:
    """What a server says of an error, whatever the form."""

    message: str
    codes: str
    """code and type, one behind the other"""
    status: int | None
    """the code, where it is a status of HTTP"""


def read_response(response: httpx.Response, api: Api, clean: Callable[[str], str]) -> Outcome:
    """What a response means for its prompt and for the others."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = None
    status = response.status_code
    wait_s = retry_after_s(response.headers.get("Retry-After"), time.time())
    if not response.is_success:
        error = _read_error(body)
        return _classify(status, error or _Error(response.reason_phrase, "", None), wait_s, clean)
    choice = _first_choice(body)
    found = None if choice is None else _read_choice(choice, body, api)
    if found is not None:
        return found
    # some servers find out, or say so, only once the answer has begun
    error = _read_error(body, "error") or _read_error(choice, "error")
    if error is None:
        return Fault(f"{status}, but there is no text in the answer", kind="unusable")
    if error.status is not None:
        return _classify(error.status, error, wait_s, clean)
    if any(code in error.codes.split() for code in _UNSUPPORTED):
        return End(clean(f"{status} {error.message}"), status)
    return Fault(clean(f"{status}, but an error: {error.message}"), wait_s, "unusable")


def retry_after_s(value: str | None, now: float) -> float | None:
    """The seconds that a Retry-After header gives as a number or as a date; None where it says nothing."""
    if value is None:
        return None
    if _SECONDS.fullmatch(value.strip()):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _classify(status: int, error: _Error, wait_s: float | None, clean: Callable[[str], str]) -> Outcome:
    reason = clean(f"{status} {error.message}")
    if any(code in error.codes.split() for code in _UNSUPPORTED) or 300 <= status < 400:
        return End(reason, status)
    message = f"{error.codes} {error.message}"
    if status in _TRY_AGAIN or status >= 500:
        if status == 429 and _CONTEXT.search(message):
            return Refusal(reason, "context")
        return Fault(reason, wait_s, "away" if status in _BUSY else "broken")
    if status not in (401, 404) and _CONTENT.search(message):
        return Refusal(reason, "prompt")
    if status in _NOBODY:
        return End(reason, status)
    return Refusal(reason, "context" if _CONTEXT.search(message) else "unknown")


def _first_choice(body: Any) -> dict[str, Any] | None:
    choices = body.get("choices") if isinstance(body, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, dict) else None


def _read_choice(choice: dict[str, Any], body: dict[str, Any], api: Api) -> Answer | Refusal | None:
    """None where the choice holds nothing that can be used."""
    counted = body.get("usage")
    usage = counted if isinstance(counted, dict) else {}
    num_prompt_tokens, num_tokens = (_read_count(usage.get(f"{kind}_tokens")) for kind in ("prompt", "completion"))
    message = choice.get("message") if api == "chat" else {}
    if not isinstance(message, dict):
        return None
    content = message.get("content") if api == "chat" else choice.get("text")
    reason = choice.get("finish_reason")
    if reason == "content_filter" or message.get("refusal") or _has_part(content, "refusal"):
        return Refusal("the answer was held back by the server's filter", "prompt", num_prompt_tokens, num_tokens)
    reached_limit = isinstance(reason, str) and reason.casefold() in _LENGTH
    text = _read_text(content)
    if text is None and reached_limit:
        # all the room went into thoughts
        text = ""
    if text is None or reason == "error":
        return None
    ended: FinishReason = "length" if reached_limit else "stop"
    thoughts = _read_thoughts(message, content)
    return Answer(text, ended, num_prompt_tokens, num_tokens, thoughts, choice.get("logprobs"))


def _read_thoughts(message: dict[str, Any], content: Any) -> str | None:
    """What came beside the text; None where nothing did."""
    for name in ("reasoning_content", "reasoning"):
        if message.get(name):
            return _read_text(message[name]) or ""
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    thinking = [part.get("thinking") for part in parts if part.get("type") == "thinking"]
    return "".join(_read_text(each) or "" for each in thinking) if thinking else None


def _read_text(content: Any) -> str | None:
    """A text, or the text parts of a list put together; None where there is none. Half surrogate pairs are replaced."""
    if isinstance(content, dict):
        content = [content]
    if isinstance(content, list):
        texts = [text for part in content if (text := _part_text(part)) is not None]
        content = "".join(texts) if texts else None
    if not isinstance(content, str):
        return None
    return content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _part_text(part: Any) -> str | None:
    if isinstance(part, dict) and part.get("type", "text") in ("text", "output_text"):
        part = part.get("text")
    return part if isinstance(part, str) else None


def _has_part(content: Any, kind: str) -> bool:
    return isinstance(content, list) and any(isinstance(part, dict) and part.get("type") == kind for part in content)


def _read_count(value: Any) -> int:
    """A count of tokens; 0 for what is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_TOKENS:
        return 0
    return int(value)


def _read_error(body: Any, name: str | None = None) -> _Error | None:
    """Message and codes, from the forms that servers give them; with `name`, only what stands in that field."""
    if isinstance(body, list) and body:
        body = body[0]
    found = body.get("error", None if name else body) if isinstance(body, dict) else None if name else body
    if isinstance(found, str) and found:
        return _Error(found, "", None)
    if not isinstance(found, dict) or not found:
        return None
    message = found.get("message") or found.get("detail") or "an error without a message"
    codes = [found.get(field) for field in ("code", "type")]
    status = next((number for number in map(_read_count, codes) if 400 <= number < 600), None)
    return _Error(str(message), " ".join(str(code) for code in codes if code is not None), status)


def continue_prompt(text: str, request: Request) -> str:
    """A chat's answer as if it continued the prompt; see `OpenAIEngine`."""
    prefill = request.prefill
    begun = text.lstrip()
    if not prefill or not begun:
        return begun if prefill else text
    whole = Judgement.parse(begun, request.num_answers, request.readable)
    if whole.scores is not None and begun.startswith(prefill):
        return begun.removeprefix(prefill)
    # servers strip the space in front of an answer
    visible = begun[thoughts_end(begun) or 0 :].lstrip()
    for more in (f" {begun}", f" {visible}", f"\n{visible}"):
        read = Judgement.parse(prefill + more, request.num_answers, request.readable).scores
        if read is not None and read[0] == float(prefill):
            return more
    if whole.scores is not None and whole.scores[0] == float(prefill):
        return ", ".join(["", *(f"{score:g}" for score in whole.scores[1:])]) + f"\n{whole.reasons}"
    return f" {visible}"


def score_end(text: str, request: Request) -> int | None:
    """Where the scores end in what follows the prompt; None where there are none."""
    line = find_score_line(request.prefill + text, request.num_answers, request.readable)
    return None if line is None else max(0, line.end - len(request.prefill))
