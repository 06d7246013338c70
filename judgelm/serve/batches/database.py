"""The database of a folder of batches: its tables, and how it is opened."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

_FORMAT = 1
_TABLES = """
CREATE TABLE files (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, name TEXT NOT NULL,
    purpose TEXT NOT NULL, bytes INTEGER NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL
);
CREATE TABLE batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, endpoint TEXT NOT NULL,
    input_file_id TEXT NOT NULL, status TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
    metadata TEXT NOT NULL, errors TEXT NOT NULL DEFAULT '[]', times TEXT NOT NULL DEFAULT '{}',
    total INTEGER NOT NULL DEFAULT 0, completed INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,
    result_bytes INTEGER NOT NULL DEFAULT 0, output_file_id TEXT, error_file_id TEXT
);
CREATE TABLE results (
    batch_id TEXT NOT NULL, line INTEGER NOT NULL, good INTEGER NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (batch_id, line)
);
"""


def open_database(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.Error, for a database of another kind too."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    db.row_factory = sqlite3.Row
    # a process that is killed loses nothing so, and no line waits for the disk
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    empty = not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if empty:
        db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_FORMAT}; COMMIT;")
    elif version != _FORMAT:
        raise sqlite3.DatabaseError(f"{path.name} has format {version}, expected {_FORMAT}")
    return db
