"""A benchmark's files on this machine: those the user names, or fetched once from their public home."""

from __future__ import annotations

import lzma
import os
import sys
import zipfile
import zlib
from pathlib import Path

from judgelm.benchmark.labelled import Files
from judgelm.benchmark.sets import HUB, SHA256, find_benchmark
from judgelm.errors import InputError, one_line
from judgelm.files import DownloadError, cache_folder, download, hash_file, keep
from judgelm.jsonl import LineFile
from judgelm.samples import PathLike

MOST_BYTES = 1 << 30
"""of a file that is fetched, and of one unpacked from it: the largest known one has 30 MB"""
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError)
"""what reading a damaged, encrypted or strangely packed archive raises"""


def find_files(name: str, data: PathLike | None) -> Files:
    """The files of a benchmark by name: `data` is its file or a folder of them, else they are fetched and kept.

    Raises InputError for what is not there or cannot be fetched.
    """
    benchmark = find_benchmark(name)
    homes = benchmark.homes
    if data is not None:
        return _given_files(name, Path(data).expanduser())
    if not homes and benchmark.others:
        raise InputError(f"benchmark {name} is not fetched: --data PATH names your copy of {benchmark.others[0]}")
    if not homes:
        raise InputError(f"benchmark {name} has no public home: --data FILE names your pairs")
    folder = cache_folder() / "benchmarks" / name
    return {file: _kept(name, url, folder / file) for file, url in homes.items()}


def _given_files(name: str, data: Path) -> Files:
    benchmark = find_benchmark(name)
    names = list(benchmark.homes)
    if data.is_dir() and (names or benchmark.others):
        found = {file: data / file for file in (*names, *benchmark.others) if (data / file).is_file()}
        missing = [file for file in names or benchmark.others if file not in found]
        if not found or (missing and benchmark.all_needed):
            raise InputError(f"{data}: benchmark {name} needs {' and '.join(missing)} in this folder")
        return found
    if not data.is_file():
        raise InputError(f"{data}: no such file, needed by benchmark {name}")
    if len(names) > 1 and benchmark.all_needed:
        raise InputError(f"{data}: benchmark {name} needs a folder with {', '.join(names)}")
    return {data.name if len(names) != 1 else names[0]: data}


def _kept(name: str, url: str, path: Path) -> Path:
    """The file, fetched where it is not kept; of a zip archive the file of the path's name."""
    import httpx

    digest = SHA256.get(url)
    # the hub's own variable, for mirrors
    address = url.replace(HUB, os.environ.get("HF_ENDPOINT", HUB).rstrip("/"), 1)

    def fetch(work: Path) -> Path:
        print(f"judgelm: fetching {address}", file=sys.stderr)
        fetched = download(address, work / "file", MOST_BYTES)
        if url.endswith(".zip"):
            fetched = _unpack(fetched, path.name)
        _check(fetched, digest)
        return fetched

    try:
        return keep(path, name, fetch, lambda kept: kept.is_file() and digest in (None, hash_file(kept)))
    except (httpx.HTTPError, httpx.InvalidURL, DownloadError, OSError) as error:
        reason = one_line(str(error).strip().split("\n")[0]) or type(error).__name__
        raise InputError(
            f"benchmark {name}: {address} could not be fetched ({reason}); --data PATH takes a copy of the data"
        ) from None


def _unpack(archive: Path, name: str) -> Path:
    """The file of that name in a zip archive; raises DownloadError where it cannot be had."""
    target = archive.with_name("unpacked")
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [each for each in opened.infolist() if Path(each.filename).name == name]
            if not members:
                raise DownloadError(f"the archive holds no {name}")
            with opened.open(members[0]) as source, target.open("wb") as file:
                while block := source.read(1 << 20):
                    file.write(block)
                    if file.tell() > MOST_BYTES:
                        raise DownloadError(f"{name} unpacks to more than {MOST_BYTES >> 20} MiB")
    except _DAMAGED as error:
        raise DownloadError(f"not an archive that can be unpacked: {error}") from None
    return target


def _check(path: Path, digest: str | None) -> None:
    """Raises DownloadError for a file of another digest than is known, or without rows that can be read."""
    if digest is not None:
        if (found := hash_file(path)) != digest:
            raise DownloadError(f"it has sha256 {found}, expected {digest}")
        return
    try:
        for _ in LineFile(path):
            pass
    except InputError as error:
        raise DownloadError(f"what came is no data: {str(error).replace(str(path), 'line', 1)}") from None
