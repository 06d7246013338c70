"""What is kept of uploaded files and of batches, and how clients are shown it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"]
ENDED: tuple[Status, ...] = ("completed", "failed", "expired", "cancelled")
UPLOADED = "batch"
"""the purpose of files that clients send"""
WRITTEN = "batch_output"
"""that of files that batches leave"""
WINDOW = "24h"
"""the one completion window, which clients must name"""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much clients may leave here."""

    file_bytes: int = 64 << 20
    all_bytes: int = 8 << 30
    """of files and of results"""
    files: int = 1000
    lines: int = 50_000
    """of a batch"""
    unfinished: int = 50
    """batches that wait or run"""
    batches: int = 5000
    result_bytes: int = 1 << 30
    """of a batch"""
    age_s: int = 30 * 86400
    """for which files, and batches that have ended, are kept"""
    window_s: int = 86400
    """in which a batch must end"""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file, without its content."""

    id: str
    owner: str
    """of whose API key it is; others do not see it"""
    name: str
    purpose: str
    bytes: int
    created_at: int
    """seconds since 1970, as all times here"""
    expires_at: int

    @classmethod
    def of(cls, row: sqlite3.Row) -> StoredFile:
        return cls(**{name: row[name] for name in cls.__slots__})

    def to_record(self) -> dict[str, Any]:
        """OpenAI's file object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        }


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch and how far it is."""

    id: str
    owner: str
    endpoint: str
    input_file_id: str
    status: Status
    created_at: int
    expires_at: int
    """then it ends, whatever is left"""
    metadata: dict[str, str]
    errors: list[dict[str, Any]]
    """why its file is refused"""
    times: Mapping[str, int]
    """when it came to each status: `in_progress_at` .."""
    total: int
    """lines; 0 until they are checked"""
    completed: int
    failed: int
    result_bytes: int
    output_file_id: str | None
    error_file_id: str | None

    @classmethod
    def of(cls, row: sqlite3.Row) -> Batch:
        found = {name: row[name] for name in cls.__slots__}
        return cls(**found | {name: json.loads(found[name]) for name in ("metadata", "errors", "times")})

    def to_record(self) -> dict[str, Any]:
        """OpenAI's batch object."""
        names = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": WINDOW,
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            **{f"{name}_at": self.times.get(f"{name}_at") for name in names},
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "metadata": self.metadata or None,
        }
