"""What the API answers where something cannot be done: one body for all of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from typing import Any

from fastapi import FastAPI
from fastapi import Request as HTTPRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from judgelm.errors import InputError, one_line
from judgelm.serve.guard import App, Message, Receive, Send
from judgelm.serve.judgement_requests import ErrorOut
from judgelm.serve.openai_requests import UnsupportedField
from judgelm.serve.protocol import TOO_LARGE, ErrorCode, WorkerError
from judgelm.serve.servers import said_of

log = logging.getLogger(__name__)

_STATUS: dict[int, int] = {
    TOO_LARGE: 413,
    ErrorCode.VALIDATION_TYPE_ERROR: 400,
    ErrorCode.CONTEXT_OVERFLOW: 400,
    ErrorCode.INVALID_MODEL: 404,
    ErrorCode.ENGINE_OVERLOADED: 429,
    ErrorCode.RATE_LIMIT: 429,
    ErrorCode.CONTROLLER_NO_WORKER: 503,
    ErrorCode.CONTROLLER_WORKER_TIMEOUT: 502,
}
_CODES = {
    400: "invalid_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    422: "invalid_request",
    429: "overloaded",
    500: "server_error",
    502: "worker_lost",
    503: "no_worker",
}
DOCUMENTED = (400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 500, 502, 503)
_NO_ROUTE = ("Not Found", "Method Not Allowed")
"""what starlette says where no route takes a request"""
_WITH_BATCHES = ("/v1/files", "/v1/batches")
_MOST_MESSAGE = 1000
"""characters of an error's message"""


class ErrorResponse(BaseModel):
    """The body of every error."""

    error: ErrorOut


def add_error_handlers(app: FastAPI) -> None:
    """For all that the routes raise."""
    for kind in (WorkerError, InputError, UnsupportedField, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, _answer)


async def _answer(asked: HTTPRequest, error: Exception) -> JSONResponse:
    match error:
        case WorkerError():
            unknown = error.code == ErrorCode.INVALID_MODEL
            status = _STATUS.get(error.code, 500)
            return _error(str(error), status, *(("model", "model_not_found") if unknown else ()))
        case InputError():
            return _error(str(error), 400)
        case UnsupportedField():
            return _error(str(error), 400, error.field, "unsupported_parameter")
        case HTTPException():
            return _error(_detail(asked, error), error.status_code, headers=error.headers)
        case RequestValidationError():
            found = [(_place(entry), said_of(entry)) for entry in error.errors()[:3]]
            return _error("; ".join(f"{place or 'body'}: {said}" for place, said in found), 422, found[0][0])
    log.error("request failed", exc_info=error)
    return _error("the server failed; its log says why", 500)


class Caught:
    """ASGI middleware: what nobody expected is answered here. Starlette does so outside of all other middleware, where
    nothing is added any more by which a page of another site may read it.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception as error:
            if begun:
                raise
            await (await _answer(HTTPRequest(scope), error))(scope, receive, send)


def worker_error(error: WorkerError) -> ErrorOut:
    """The same in a stream that has begun."""
    status = _STATUS.get(error.code, 500)
    return ErrorOut(message=str(error), type=_kind(status), code=_CODES.get(status))


def _error(
    message: str,
    status: int,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The documented body of an error; what a client wrote into its message is one line that UTF-8 can hold."""
    said, place = (
        text and one_line(text.encode(errors="replace").decode())[:_MOST_MESSAGE] for text in (message, param)
    )
    error = ErrorOut(message=said or "", type=_kind(status), param=place, code=code or _CODES.get(status))
    retry = {"Retry-After": "2"} if status == 429 else {}
    return JSONResponse({"error": error.model_dump()}, status, {**(headers or {}), **retry})


def _kind(status: int) -> str:
    return "invalid_request_error" if status < 500 and status != 429 else "server_error"


def _place(entry: Mapping[str, Any]) -> str | None:
    """Where in the body an error is, without pydantic's words for the branches of a union; None for all of it."""
    if entry["type"] == "json_invalid":
        return None
    parts = [str(part) for part in entry["loc"][1:]]
    return ".".join(part for part in parts if part != "str" and not {"-", "["} & set(part)) or None


def _detail(asked: HTTPRequest, error: HTTPException) -> str:
    """What a route says, or where a request should have gone that no route takes."""
    if error.detail not in _NO_ROUTE:
        return str(error.detail)
    path, said = asked.scope["path"], f"{asked.method} {asked.scope['path']}"
    if error.status_code == 405:
        return f"{said}: expected {(error.headers or {}).get('Allow', 'another method')}"
    if path in _WITH_BATCHES:
        return f"{said}: this server keeps no files and batches (judgelm serve --batch-dir FOLDER does)"
    return f"{said}: no such address (/docs lists them)"
