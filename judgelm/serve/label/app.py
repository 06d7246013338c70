"""The page of labels as an app: three files that are the same for everybody, and behind a name or a token the rows."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Header, Query
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from judgelm.errors import InputError
from judgelm.labelling import Labelling, People, Place
from judgelm.labelling.votes import Choice
from judgelm.serve.api_errors import add_error_handlers
from judgelm.serve.guard import Guard
from judgelm.serve.hosts import Hosts
from judgelm.serve.label.shown import Answer

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
MOST_REASON = 2000
"""characters"""
_MOST_BODY_BYTES = 64 << 10
_BETWEEN_WRITES_S = 1.0
_FILES = {"/": "label.html", "/label.css": "label.css", "/label.js": "label.js"}
_HEADERS = {
    # what others wrote is text alone; should it ever get further, nothing of it runs or is loaded
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_NEEDS_LINK = "this page needs the link that you were given"
_NEEDS_NAME = "say your name first"


class VoteIn(BaseModel):
    """What a person says of a row, as the answers were shown to this person."""

    model_config = ConfigDict(extra="forbid", strict=True)

    row: str = Field(max_length=64)
    choice: Choice = Field(description="null takes back what was said")
    reason: str = Field("", max_length=MOST_REASON)


def create_app(labelling: Labelling, people: People, hosts: Hosts | None = None) -> FastAPI:
    """The page in front of a labelling."""
    writer = _Writer(labelling)
    app = FastAPI(title="Labels", docs_url=None, redoc_url=None, openapi_url=None, lifespan=writer.lifespan)

    def admit(path: str, authorization: str) -> str | None:
        if not path.startswith("/api/") or people.find(authorization) is not None:
            return None
        return _NEEDS_NAME if people.is_open else _NEEDS_LINK

    app.add_middleware(Guard, limit=_MOST_BODY_BYTES, hosts=hosts, admit=admit)
    add_error_handlers(app)
    for path, name in _FILES.items():
        app.add_api_route(path, _file(name), methods=["GET"])

    @app.get("/open")
    async def is_open() -> Response:
        """Whether everybody may label, under a name."""
        return JSONResponse({"open": people.is_open}, headers=_HEADERS)

    _add_rows(app, labelling, people, writer)
    return app


def _add_rows(app: FastAPI, labelling: Labelling, people: People, writer: _Writer) -> None:
    def who(authorization: str) -> str:
        person = people.find(authorization)
        if person is None:  # the guard has looked at another one of several headers
            raise HTTPException(401, "expected one Authorization header")
        return labelling.votes.name_of(person)

    def answer(person: str, place: Place | None) -> Response:
        content = Answer.of(person, labelling.progress(person), place).model_dump()
        return JSONResponse(content, headers=_HEADERS)

    def find(person: str, row: str | None, steps: int, skipped: bool) -> Place | None:
        if row is not None:
            return labelling.place(person, row, steps)
        return labelling.skipped_row(person) if skipped else labelling.open_row(person)

    @app.get("/api/row")
    def show_row(
        authorization: Annotated[str, Header()],
        row: Annotated[str | None, Query(max_length=64)] = None,
        steps: Annotated[int, Query(ge=-1, le=1)] = 0,
        skipped: bool = False,
    ) -> Response:
        """The first row of which the person said nothing, or was passed over; a row, or the one before or behind it."""
        person = who(authorization)
        return answer(person, find(person, row, steps, skipped))

    @app.post("/api/vote")
    def vote(authorization: Annotated[str, Header()], said: VoteIn) -> Response:
        """Keep what the person says; answered once the disk has it, with the next row, or with the same where it was
        taken back.
        """
        person = who(authorization)
        place = labelling.place(person, said.row)
        if place is None:
            raise HTTPException(404, "no such row: the page is of another file, load it again")
        try:
            labelling.save(person, place, said.choice, said.reason)
        except InputError as error:
            log.error("%s", error)
            raise HTTPException(500, "not saved; the server's log says why") from None
        writer.due = True
        again = said.choice is None
        return answer(person, labelling.place(person, said.row) if again else labelling.open_row(person))


class _Writer:
    """Writes the file of labels a moment after a vote, so that many votes are one writing."""

    def __init__(self, labelling: Labelling) -> None:
        self.labelling = labelling
        self.due = False
        """set by the threads that take votes"""

    @contextlib.asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        writing = asyncio.create_task(self._write())
        yield
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writing
        # a signal may end the process right behind this
        self._write_due()

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(_BETWEEN_WRITES_S)
            await asyncio.to_thread(self._write_due)

    def _write_due(self) -> None:
        if not self.due:
            return
        self.due = False
        try:
            self.labelling.write()
        except InputError as error:
            # the votes are kept, and the labels follow from them
            log.error("%s", error)


def _file(name: str) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return FileResponse(FOLDER / name, headers=_HEADERS)

    return send
