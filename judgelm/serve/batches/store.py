"""A folder with all files and batches: a database of what there is, and a file for each content.

Whatever a client was told has happened is there after the end of the process, whichever end it was: each change is a
transaction, and a content is written before its row and removed after it.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from filelock import FileLock, Timeout

from judgelm.errors import InputError
from judgelm.serve.batches.database import open_database
from judgelm.serve.batches.records import ENDED, UPLOADED, WRITTEN, Batch, BatchLimits, Status, StoredFile

_CONTENT = re.compile("file-[0-9a-f]{32}")
"""the name of a content; other files that somebody put there are left alone"""
_UNFINISHED = f"status NOT IN {ENDED}"
_AT_ONCE = 200
"""results read from the database at once"""


class Page(NamedTuple):
    """Which part of a list is wanted."""

    limit: int
    after: str | None = None
    """the id in front of it"""
    newest_first: bool = True


class Store:
    """The folder, which one process at a time has; safe for several threads.

    Args:
        now: seconds since 1970.

    Raises InputError where the folder is another's, or cannot be used.
    """

    def __init__(self, folder: Path, limits: BatchLimits | None = None, now: Callable[[], float] = time.time) -> None:
        self.limits = limits or BatchLimits()
        self.now = now
        self._contents = folder / "files"
        self._lock = threading.RLock()
        self._used = FileLock(folder / "in-use")
        try:
            # they are the texts of users
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._contents.mkdir(mode=0o700, exist_ok=True)
            self._used.acquire(timeout=0)
            self._db = open_database(folder / "batches.sqlite")
        except Timeout:
            raise InputError(f"{folder}: another server has this folder of batches") from None
        except (OSError, sqlite3.Error) as error:
            self._used.release()
            raise InputError(f"{folder}: expected a folder for batches ({error})") from None
        self._remove_leftovers()
        self.sweep()

    def _remove_leftovers(self) -> None:
        """Of uploads that were cut off."""
        known = {row["id"] for row in self._db.execute("SELECT id FROM files")}
        for path in self._contents.iterdir():
            if _CONTENT.fullmatch(path.name) and path.name not in known:
                path.unlink()

    def close(self) -> None:
        with self._lock:
            self._db.close()
        self._used.release()

    def sweep(self) -> None:
        """Forget files and ended batches of a certain age."""
        now = int(self.now())
        with self._change() as db:
            inputs = f"SELECT input_file_id FROM batches WHERE {_UNFINISHED}"
            old = db.execute(f"DELETE FROM files WHERE expires_at <= ? AND id NOT IN ({inputs}) RETURNING id", [now])
            gone = [row["id"] for row in old]
            db.execute(f"DELETE FROM batches WHERE created_at <= ? AND NOT {_UNFINISHED}", [now - self.limits.age_s])
        for name in gone:
            self.content(name).unlink(missing_ok=True)

    # files

    def add_file(self, owner: str, name: str, content: Iterable[bytes], expires_s: int | None = None) -> StoredFile:
        """Keep what a client sends. Raises InputError where it is too long, or there is no room for it."""
        self.sweep()
        self._check_room()
        written = self._write(content, self.limits.file_bytes)
        with self._change() as db:
            return self._note(db, written, owner, name, UPLOADED, expires_s)

    def file(self, owner: str, id: str) -> StoredFile:
        """Raises KeyError where the owner has no such file."""
        return StoredFile.of(self._row("files", owner, id))

    def files(self, owner: str, page: Page, purpose: str | None = None) -> tuple[list[StoredFile], bool]:
        """A page of the owner's, and whether there are more. Raises KeyError for a page that follows an unknown one."""
        rows, more = self._page("files", owner, page, *(("AND purpose = ?", purpose) if purpose else ()))
        return [StoredFile.of(row) for row in rows], more

    def content(self, id: str) -> Path:
        """Where a file's content is."""
        return self._contents / id

    def remove_file(self, owner: str, id: str) -> None:
        """Raises KeyError, and InputError while a batch that has not ended needs it."""
        with self._change() as db:
            self.file(owner, id)
            found = db.execute(f"SELECT id FROM batches WHERE input_file_id = ? AND {_UNFINISHED}", [id]).fetchone()
            if found is not None:
                raise InputError(f"{id} is the input of {found['id']}, which has not ended")
            db.execute("DELETE FROM files WHERE id = ?", [id])
        self.content(id).unlink(missing_ok=True)

    # batches

    def add_batch(self, owner: str, endpoint: str, input_file_id: str, metadata: dict[str, str]) -> Batch:
        """A batch that is to be run. Raises KeyError for an unknown file, InputError for another kind of file, and
        where there is no room for it or for its results.
        """
        self.sweep()
        new, now = f"batch_{uuid.uuid4().hex}", int(self.now())
        with self._change() as db:
            self._check_room()
            if self.file(owner, input_file_id).purpose != UPLOADED:
                raise InputError(f"input_file_id: {input_file_id} has not the purpose {UPLOADED}")
            count, waiting = db.execute(f"SELECT count(*), coalesce(sum({_UNFINISHED}), 0) FROM batches").fetchone()
            if waiting >= self.limits.unfinished or count >= self.limits.batches:
                raise InputError(f"there is no room: {waiting} batches have not ended, {count:,} are kept")
            db.execute(
                "INSERT INTO batches (id, owner, endpoint, input_file_id, status, created_at, expires_at, metadata)"
                " VALUES (?, ?, ?, ?, 'validating', ?, ?, ?)",
                [new, owner, endpoint, input_file_id, now, now + self.limits.window_s, json.dumps(metadata)],
            )
            return self.batch(owner, new)

    def batch(self, owner: str, id: str) -> Batch:
        """Raises KeyError where the owner has no such batch."""
        return Batch.of(self._row("batches", owner, id))

    def batches(self, owner: str, page: Page) -> tuple[list[Batch], bool]:
        """As `files`."""
        rows, more = self._page("batches", owner, page)
        return [Batch.of(row) for row in rows], more

    def unfinished(self) -> list[Batch]:
        """Of all owners, the oldest first."""
        with self._lock:
            rows = self._db.execute(f"SELECT * FROM batches WHERE {_UNFINISHED} ORDER BY number").fetchall()
        return [Batch.of(row) for row in rows]

    def move(self, batch: Batch, status: Status, *, errors: Sequence[dict[str, Any]] = (), total: int = 0) -> bool:
        """On to its next status, unless it has come to another one meanwhile; whether it has not."""
        with self._change() as db:
            now = self.batch(batch.owner, batch.id)
            if now.status != batch.status:
                return False
            times = {**now.times, f"{status}_at": int(self.now())}
            db.execute(
                "UPDATE batches SET status = ?, times = ?, errors = ?, total = ? WHERE id = ?",
                [status, json.dumps(times), json.dumps([*now.errors, *errors]), total or now.total, batch.id],
            )
            return True

    def cancel(self, owner: str, id: str) -> Batch:
        """Raises KeyError, and InputError for a batch that cannot be cancelled any more."""
        with self._change():
            batch = self.batch(owner, id)
            if batch.status in ("validating", "in_progress"):
                self.move(batch, "cancelling")
            elif batch.status != "cancelling":
                raise InputError(f"{id} cannot be cancelled: it is {batch.status}")
            return self.batch(owner, id)

    # results

    def add_result(self, id: str, line: int, good: bool, text: str) -> bool:
        """Keep what came of a line of a batch that is in progress; whether it may have more."""
        with self._change() as db:
            changed = db.execute(
                "UPDATE batches SET completed = completed + ?, failed = failed + ?, result_bytes = result_bytes + ?"
                " WHERE id = ? AND status = 'in_progress' RETURNING id",
                [good, not good, len(text.encode()), id],
            ).fetchall()
            if changed:
                db.execute("INSERT INTO results VALUES (?, ?, ?, ?)", [id, line, good, text])
            return bool(changed) and self.excess(id) is None

    def excess(self, id: str) -> str | None:
        """Why a batch may have no more results, if it may not."""
        with self._lock:
            (size,) = self._db.execute("SELECT result_bytes FROM batches WHERE id = ?", [id]).fetchone()
            _, held = self._held()
        if size > self.limits.result_bytes:
            return f"the results have more than {self.limits.result_bytes:,} bytes"
        if held > self.limits.all_bytes:
            return f"all files and results have more than {self.limits.all_bytes:,} bytes; delete some"
        return None

    def done(self, id: str) -> set[int]:
        """The lines of a batch that have results."""
        with self._lock:
            return {row["line"] for row in self._db.execute("SELECT line FROM results WHERE batch_id = ?", [id])}

    def finish(self, batch: Batch, status: Status, left: Sequence[str] = ()) -> None:
        """Write what there is of a batch's results, in the order of its lines, and end it; `left` are texts of lines
        that have none. The batch is one that takes no more results, or one that has none.
        """
        parts = {"output": self._results(batch.id, True), "error": self._results(batch.id, False, left)}
        written = {kind: self._write(part) for kind, part in parts.items()}
        kept = {kind: file for kind, file in written.items() if self.content(file).stat().st_size}
        with self._change() as db:
            # one that was cancelled before its lines were looked at ends by that
            moved = self.move(batch, status)
            for kind, file in kept.items() if moved else ():
                self._note(db, file, batch.owner, f"{batch.id}_{kind}.jsonl", WRITTEN, None)
                db.execute(f"UPDATE batches SET {kind}_file_id = ? WHERE id = ?", [file, batch.id])
            if moved:
                db.execute("UPDATE batches SET failed = failed + ? WHERE id = ?", [len(left), batch.id])
                db.execute("DELETE FROM results WHERE batch_id = ?", [batch.id])
        for file in set(written.values()) - set(kept.values() if moved else ()):
            self.content(file).unlink()

    def _results(self, id: str, good: bool, more: Iterable[str] = ()) -> Iterator[bytes]:
        last = -1
        while True:
            with self._lock:
                rows = self._db.execute(
                    "SELECT line, text FROM results WHERE batch_id = ? AND good = ? AND line > ? ORDER BY line LIMIT ?",
                    [id, good, last, _AT_ONCE],
                ).fetchall()
            if not rows:
                break
            yield from (row["text"].encode() for row in rows)
            last = rows[-1]["line"]
        yield from (text.encode() for text in more)

    # what all of these need

    def _held(self) -> tuple[int, int]:
        """How many files there are, and the bytes of these and of results that are in none yet."""
        number, held = self._db.execute(
            "SELECT count(*), coalesce(sum(bytes), 0) + (SELECT coalesce(sum(result_bytes), 0) FROM batches"
            f" WHERE {_UNFINISHED}) FROM files"
        ).fetchone()
        return number, held

    def _check_room(self) -> None:
        """Raises InputError where nothing more is taken."""
        with self._lock:
            number, held = self._held()
        if number >= self.limits.files or held >= self.limits.all_bytes:
            raise InputError(f"there is no room: {number:,} files, {held:,} bytes are kept already; delete some")

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """A transaction; one within another is a part of it."""
        with self._lock:
            if self._db.in_transaction:
                yield self._db
                return
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db

    def _row(self, table: Literal["files", "batches"], owner: str, id: str) -> sqlite3.Row:
        with self._lock:
            row: sqlite3.Row | None = self._db.execute(
                f"SELECT * FROM {table} WHERE id = ? AND owner = ?", [id, owner]
            ).fetchone()
        if row is None:
            raise KeyError(id)
        return row

    def _page(
        self, table: Literal["files", "batches"], owner: str, page: Page, condition: str = "", *values: str
    ) -> tuple[list[sqlite3.Row], bool]:
        how, order = ("<", "DESC") if page.newest_first else (">", "ASC")
        where, given = f"owner = ? {condition}", [owner, *values]
        if page.after is not None:
            where, given = f"{where} AND number {how} ?", [*given, self._row(table, owner, page.after)["number"]]
        with self._lock:
            sql = f"SELECT * FROM {table} WHERE {where} ORDER BY number {order} LIMIT ?"
            rows = self._db.execute(sql, [*given, page.limit + 1]).fetchall()
        return rows[: page.limit], len(rows) > page.limit

    def _write(self, content: Iterable[bytes], most: int | None = None) -> str:
        """A new file's id. Raises InputError for a content that is too long, of which nothing is kept."""
        new = f"file-{uuid.uuid4().hex}"
        path, size = self.content(new), 0
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                for part in content:
                    size += len(part)
                    if most is not None and size > most:
                        raise InputError(f"the file is larger than {most:,} bytes")
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return new

    def _note(
        self, db: sqlite3.Connection, id: str, owner: str, name: str, purpose: str, expires_s: int | None
    ) -> StoredFile:
        now, size = int(self.now()), self.content(id).stat().st_size
        expires = now + min(expires_s or self.limits.age_s, self.limits.age_s)
        found = StoredFile(id, owner, name, purpose, size, now, expires)
        names = StoredFile.__slots__
        marks = ", ".join("?" * len(names))
        values = [getattr(found, each) for each in names]
        db.execute(f"INSERT INTO files ({', '.join(names)}) VALUES ({marks})", values)
        return found
