"""Judgements that were told, by another program or by several judges, in a folder like a run's."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from judgelm.documents import Document
from judgelm.files import locked, write_text
from judgelm.jsonl import Record, dump_line
from judgelm.judge.description import RunDescription, Session, read_run_of
from judgelm.judge.log import count_records
from judgelm.judge.settings import ORDERS, Order


def write_told(
    folder: Path,
    kind: str,
    settings: Mapping[str, Any],
    orders: Mapping[Order, Iterable[Record]] | Mapping[str, Iterable[Record]],
    others: str,
    beside: Mapping[str, Document] | None = None,
) -> dict[str, dict[str, int]]:
    """Write the records of each order, sorted by id, and documents `beside` them; gives how they came out.

    What is there of this `kind`, a name among the settings, is replaced: it costs nothing to be made again. Raises
    InputError, which says that there are `others`, where judgements of another kind are.
    """
    run = RunDescription.begun(settings, [Session(started=time.time())])
    with locked(folder / "run.json"):
        read_run_of(folder, kind, others)
        # first, so that what a killed process leaves is known for what it is, and as half of it
        run.write(folder / "run.json", indent=2)
        counts: dict[str, dict[str, Any]] = {}
        for order in ORDERS["both"]:
            path = folder / f"{order}.jsonl"
            if order not in orders:
                path.unlink(missing_ok=True)
                continue
            records = list(orders[order])
            counts[order] = count_records(records)
            write_text(path, map(dump_line, records))
        for name, document in (beside or {}).items():
            document.write(folder / name, indent=2)
        # only what was given is written
        run.counts, run.finished = counts, True
        run.write(folder / "run.json", indent=2)
    return counts
