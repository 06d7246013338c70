"""/v1/files and /v1/batches, in OpenAI's form."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import IO, Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Form, HTTPException, Query, Request, UploadFile
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field, StringConstraints

from judgelm.errors import InputError, one_line
from judgelm.serve.batches.records import Batch, StoredFile
from judgelm.serve.batches.runner import Runner
from judgelm.serve.batches.store import Page, Store

FILES = "/v1/files"
_BATCHES = "/v1/batches"
_MOST_LISTED = 1000
_MOST_NAME = 255
_BLOCK = 1 << 20
_T = TypeVar("_T")
OwnerOf = Callable[[Request], str]
"""whose files and batches a client has; others see nothing of them"""

_FileId = Annotated[str, StringConstraints(pattern="^file-[0-9a-f]{32}$")]
_Key = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_Value = Annotated[str, StringConstraints(max_length=512)]
_Seconds = Annotated[int | None, Form(alias="expires_after[seconds]", ge=3600, le=30 * 86400)]


class BatchRequest(BaseModel, extra="forbid"):
    """A batch that is wanted."""

    input_file_id: _FileId
    endpoint: str = Field(description="one of the API's routes, to which each line of the file is posted")
    completion_window: Literal["24h"] = "24h"
    metadata: Annotated[dict[_Key, _Value], Field(max_length=16)] | None = None


def files_router(store: Store, owner_of: OwnerOf) -> APIRouter:
    """The routes of files, for an app."""
    router = APIRouter()

    @router.post(FILES)
    async def upload(
        http: Request,
        file: UploadFile,
        purpose: Annotated[Literal["batch"], Form()],
        seconds: _Seconds = None,
        anchor: Annotated[Literal["created_at"] | None, Form(alias="expires_after[anchor]")] = None,
    ) -> dict[str, Any]:
        """Keep a file of requests, one in JSON on each line."""
        name = one_line((file.filename or "").encode(errors="replace").decode())[:_MOST_NAME] or "batch.jsonl"
        return (await _kept(store.add_file, owner_of(http), name, _blocks(file.file), seconds)).to_record()

    @router.get(FILES)
    async def files(
        http: Request,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = _MOST_LISTED,
        order: Literal["asc", "desc"] = "desc",
        purpose: str | None = None,
    ) -> dict[str, Any]:
        """The files that are kept."""
        page = Page(min(limit, _MOST_LISTED), after, order == "desc")
        return _listed(*await _kept(store.files, owner_of(http), page, purpose))

    @router.get(FILES + "/{id}")
    async def file(id: str, http: Request) -> dict[str, Any]:
        """One of them."""
        return (await _kept(store.file, owner_of(http), id)).to_record()

    @router.get(FILES + "/{id}/content")
    async def content(id: str, http: Request) -> FileResponse:
        """What it holds."""
        found = await _kept(store.file, owner_of(http), id)
        # the name that a client gave it is nobody's path
        headers = {"X-Content-Type-Options": "nosniff"}
        name = f"{found.id}.jsonl"
        return FileResponse(store.content(found.id), media_type="application/jsonl", filename=name, headers=headers)

    @router.delete(FILES + "/{id}")
    async def delete(id: str, http: Request) -> dict[str, Any]:
        """Forget it."""
        await _kept(store.remove_file, owner_of(http), id)
        return {"id": id, "object": "file", "deleted": True}

    return router


def batches_router(store: Store, owner_of: OwnerOf, runner: Runner, endpoints: Collection[str]) -> APIRouter:
    """The routes of batches, for an app; each line of a batch is posted to one of the `endpoints`."""
    router = APIRouter()

    @router.post(_BATCHES)
    async def create(request: BatchRequest, http: Request) -> dict[str, Any]:
        """Answer all requests of a file."""
        if request.endpoint not in endpoints:
            raise InputError(f"endpoint: expected one of {', '.join(sorted(endpoints))}")
        asked = owner_of(http), request.endpoint, request.input_file_id, request.metadata or {}
        batch = await _kept(store.add_batch, *asked)
        runner.wake()
        return batch.to_record()

    @router.get(_BATCHES)
    async def batches(
        http: Request, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
    ) -> dict[str, Any]:
        """The batches that are kept, the newest first."""
        return _listed(*await _kept(store.batches, owner_of(http), Page(limit, after)))

    @router.get(_BATCHES + "/{id}")
    async def batch(id: str, http: Request) -> dict[str, Any]:
        """How far one of them is."""
        return (await _kept(store.batch, owner_of(http), id)).to_record()

    @router.post(_BATCHES + "/{id}/cancel")
    async def cancel(id: str, http: Request) -> dict[str, Any]:
        """End it; what it has is kept."""
        found = await _kept(store.cancel, owner_of(http), id)
        runner.cancel(id)
        return found.to_record()

    return router


def key_of(http: Request) -> str:
    """A client's API key, in a form that gives nothing of it away."""
    key = http.headers.get("authorization", "").partition(" ")[2].strip()
    return hashlib.sha256(key.encode()).hexdigest()


async def _kept(call: Callable[..., _T], *given: Any) -> _T:
    """What the store says, beside the event loop. Raises HTTPException for what it does not know."""
    try:
        return await asyncio.to_thread(call, *given)
    except KeyError as error:
        raise HTTPException(404, f"there is no file or batch {error.args[0]}") from None


def _listed(found: Sequence[StoredFile] | Sequence[Batch], more: bool) -> dict[str, Any]:
    ends = {"first_id": found[0].id, "last_id": found[-1].id} if found else {"first_id": None, "last_id": None}
    return {"object": "list", "data": [one.to_record() for one in found], "has_more": more, **ends}


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.read(_BLOCK), b"")
