"""Files from the web."""

from __future__ import annotations

import time
from pathlib import Path

_TIMEOUT_S = 60
_WHOLE_TIMEOUT_S = 1800


class DownloadError(Exception):
    """What came is not what was to be fetched."""


def download(address: str, target: Path, most_bytes: int) -> Path:
    """Fetch a file; gives `target`. Raises DownloadError for more bytes, OSError, and what httpx raises."""
    import httpx

    started = time.monotonic()
    with (
        httpx.stream("GET", address, follow_redirects=True, timeout=_TIMEOUT_S) as response,
        target.open("wb") as file,
    ):
        response.raise_for_status()
        for chunk in response.iter_bytes():
            file.write(chunk)
            if file.tell() > most_bytes:
                raise DownloadError(f"more than {most_bytes >> 20} MiB came")
            if time.monotonic() - started > _WHOLE_TIMEOUT_S:
                raise httpx.ReadTimeout(f"it took longer than {_WHOLE_TIMEOUT_S} seconds")
    return target
