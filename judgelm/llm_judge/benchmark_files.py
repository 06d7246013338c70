"""A benchmark's files on this machine: those the user names, or fetched once from their public home."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from judgelm.jsonl import InputError
from judgelm.llm_judge.benchmark_sets import BENCHMARKS, HUB, Benchmark, Files
from judgelm.tiny import cache_folder

_TIMEOUT_S = 60


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of that name; raises InputError for an unknown one."""
    if name not in BENCHMARKS:
        raise InputError(f"unknown benchmark {name!r}, expected one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def find_files(name: str, data: str | None) -> Files:
    """The files of a benchmark by name: `data` is its file or a folder of them, else they are fetched and kept.

    Raises InputError for what is not there or cannot be fetched.
    """
    homes = find_benchmark(name).homes
    if data is not None:
        return _given_files(name, Path(data).expanduser())
    if not homes:
        raise InputError(f"benchmark {name} has no public home: --data FILE names your pairs")
    folder = cache_folder() / "benchmarks" / name
    for file, url in homes.items():
        if not (folder / file).is_file():
            _fetch(name, url, folder / file)
    return {file: folder / file for file in homes}


def _given_files(name: str, data: Path) -> Files:
    benchmark = find_benchmark(name)
    names = list(benchmark.homes)
    if data.is_dir() and names:
        found = {file: data / file for file in names if (data / file).is_file()}
        missing = [file for file in names if file not in found]
        if not found or (missing and benchmark.all_needed):
            raise InputError(f"{data}: benchmark {name} needs {' and '.join(missing)} in this folder")
        return found
    if not data.is_file():
        raise InputError(f"{data}: no such file, needed by benchmark {name}")
    if len(names) > 1 and benchmark.all_needed:
        raise InputError(f"{data}: benchmark {name} needs a folder with {', '.join(names)}")
    return {data.name if len(names) != 1 else names[0]: data}


def _fetch(name: str, url: str, path: Path) -> None:
    """Download into place, whole or not at all; of a zip archive the one file of the path's name is kept."""
    import httpx

    # the hub's own variable, for mirrors
    url = url.replace(HUB, os.environ.get("HF_ENDPOINT", HUB).rstrip("/"), 1)
    print(f"judgelm: fetching {url}", file=sys.stderr)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as work:
            fetched = Path(work) / "file"
            with (
                httpx.stream("GET", url, follow_redirects=True, timeout=_TIMEOUT_S) as response,
                fetched.open("wb") as file,
            ):
                response.raise_for_status()
                for chunk in response.iter_bytes():
                    file.write(chunk)
            if url.endswith(".zip"):
                fetched = _unpack(fetched, path.name)
            os.replace(fetched, path)
    except (httpx.HTTPError, httpx.InvalidURL, zipfile.BadZipFile, OSError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"benchmark {name}: {url} could not be fetched ({reason[0]}); --data PATH takes a copy of the data"
        ) from None


def _unpack(archive: Path, name: str) -> Path:
    target = archive.with_name("unpacked")
    with zipfile.ZipFile(archive) as opened:
        members = [each for each in opened.namelist() if Path(each).name == name]
        if not members:
            raise OSError(f"the archive holds no {name}")
        with opened.open(members[0]) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
    return target
