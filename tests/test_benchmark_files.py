"""A benchmark's files: fetched once from their public home, checked and kept."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from benchmark_rows import fails, last_json, pandalm_row, write_json
from conftest import write_jsonl
from filelock import FileLock
from judging import run_command
from local_server import LocalServer

from judgelm.benchmark import files as benchmark_files
from judgelm.benchmark.files import find_files
from judgelm.benchmark.sets import BENCHMARKS, SHA256
from judgelm.errors import InputError


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Any]:
    """A server of files, which counts what it is asked for."""
    folder = tmp_path / "served"
    folder.mkdir()
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            asked.append(self.path)

    with LocalServer(partial(Handler, directory=str(folder))) as server:
        yield folder, server.root, asked


def move(name: str, homes: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHMARKS, name, replace(BENCHMARKS[name], homes=homes))


def test_a_benchmark_is_fetched_once_and_kept(
    home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, url, asked = home
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JUDGELM_CACHE", raising=False)
    served = write_json(folder / "set.json", [pandalm_row(0, 1, 1, 2)])
    move("pandalm", {"testset-v1.json": f"{url}/set.json"}, monkeypatch)
    verdicts = write_jsonl(tmp_path / "v.jsonl", [{"question_id": 0, "verdict": 1}])
    for _ in range(2):
        assert run_command(["benchmark", "pandalm", "--predictions", str(verdicts)]) == 0
    kept = tmp_path / "cache" / "judgelm" / "benchmarks" / "pandalm" / "testset-v1.json"
    assert kept.read_bytes() == served.read_bytes()
    assert len(asked) == 1
    report = last_json(capsys)
    assert report["files"]["testset-v1.json"]["sha256"] == hashlib.sha256(served.read_bytes()).hexdigest()
    assert report["homes"] == {"testset-v1.json": f"{url}/set.json"}
    assert [path.name for path in kept.parent.iterdir()] == ["testset-v1.json"]


def test_of_an_archive_one_file_is_kept(home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, url, _ = home
    monkeypatch.setenv("JUDGELM_CACHE", str(tmp_path / "cache"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("mm-vet/images/v1_0.png", b"image")
        archive.writestr("mm-vet/mm-vet.json", '{"v1_0": {}}')
    (folder / "mm-vet.zip").write_bytes(packed.getvalue())
    move("mm-vet", {"mm-vet.json": f"{url}/mm-vet.zip"}, monkeypatch)
    assert find_files("mm-vet", None)["mm-vet.json"].read_text() == '{"v1_0": {}}'


def test_the_hubs_mirror_is_used_where_one_is_named(home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, url, _ = home
    monkeypatch.setenv("JUDGELM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", f"{url}/")
    for address in BENCHMARKS["judgelm-val"].homes.values():
        write_jsonl(folder / address.removeprefix("https://huggingface.co/"), [{"question_id": 1}])
    assert all(path.is_file() for path in find_files("judgelm-val", None).values())


def test_what_cannot_be_fetched_ends_in_one_line_that_names_data(
    home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, url, _ = home
    monkeypatch.setenv("JUDGELM_CACHE", str(tmp_path / "cache"))
    verdicts = write_jsonl(tmp_path / "v.jsonl", [{"question_id": 0, "verdict": 1}])
    for address, reason in ((f"{url}/nothing.json", "404"), ("http://127.0.0.1:9/x.json", "refused")):
        move("pandalm", {"testset-v1.json": address}, monkeypatch)
        line = fails(["benchmark", "pandalm", "--predictions", str(verdicts)], capsys)
        assert address in line
        assert reason in line
        assert "--data PATH takes a copy" in line
    assert not [path for path in (tmp_path / "cache" / "benchmarks").rglob("*") if path.is_file()]


def zipped(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def damaged(archive: bytes) -> bytes:
    """The compressed bytes behind the first file's header are no longer what they were."""
    start = archive.index(b"mm-vet.json") + len("mm-vet.json")
    return archive[:start] + b"\xff" * 20 + archive[start + 20 :]


def encrypted(archive: bytes) -> bytes:
    """Both headers say that the file is encrypted."""
    content = bytearray(archive)
    content[6] |= 1
    content[archive.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


TRUTH = json.dumps({f"v1_{k}": {"question": "Q", "answer": "A" * 99} for k in range(50)}).encode()
BAD_FILES = {
    "a damaged archive": (damaged(zipped("mm-vet.json", TRUTH)), "not an archive that can be unpacked"),
    "an encrypted archive": (encrypted(zipped("mm-vet.json", TRUTH)), "not an archive that can be unpacked"),
    "half an archive": (zipped("mm-vet.json", TRUTH)[:-30], "not an archive that can be unpacked"),
    "no archive": (b"<html>Too many requests</html>", "not an archive that can be unpacked"),
    "an archive of something else": (zipped("other.json", TRUTH), "the archive holds no mm-vet.json"),
    "an archive of a half file": (zipped("mm-vet.json", TRUTH[:-9]), "what came is no data: line:1: not JSON"),
    "an archive that unpacks to too much": (zipped("mm-vet.json", b" " * (3 << 20)), "unpacks to more than 1 MiB"),
    "too much": (b"0" * (3 << 20), "more than 1 MiB came"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_download_ends_in_one_line_and_nothing_is_kept(
    kind: str, home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url, _ = home
    monkeypatch.setenv("JUDGELM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(benchmark_files, "MOST_BYTES", 1 << 20)
    content, message = BAD_FILES[kind]
    (folder / "mm-vet.zip").write_bytes(content)
    move("mm-vet", {"mm-vet.json": f"{url}/mm-vet.zip"}, monkeypatch)
    with pytest.raises(
        InputError, match=f"benchmark mm-vet: {url}/mm-vet.zip could not be fetched .*{message}"
    ) as error:
        find_files("mm-vet", None)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "cache" / "benchmarks" / "mm-vet").iterdir()) == []
    (folder / "mm-vet.zip").write_bytes(zipped("mm-vet/mm-vet.json", TRUTH))
    assert find_files("mm-vet", None)["mm-vet.json"].read_bytes() == TRUTH


@pytest.mark.parametrize("content", [b"<html>Sign in</html>", b'[{"idx": 0},', b"", b"\xff\xfe"])
def test_an_answer_that_is_no_data_is_not_kept(
    content: bytes, home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url, _ = home
    monkeypatch.setenv("JUDGELM_CACHE", str(tmp_path / "cache"))
    (folder / "set.json").write_bytes(content)
    move("pandalm", {"testset-v1.json": f"{url}/set.json"}, monkeypatch)
    with pytest.raises(InputError, match="what came is no data"):
        find_files("pandalm", None)
    assert not [path for path in (tmp_path / "cache" / "benchmarks").rglob("*") if path.is_file()]


def test_a_known_file_is_the_one_with_its_digest(home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, url, _ = home
    monkeypatch.setenv("JUDGELM_CACHE", str(tmp_path / "cache"))
    kept = tmp_path / "cache" / "benchmarks" / "pandalm" / "testset-v1.json"
    served = write_json(folder / "set.json", [pandalm_row(0, 1, 1, 2)])
    move("pandalm", {"testset-v1.json": f"{url}/set.json"}, monkeypatch)
    monkeypatch.setitem(SHA256, f"{url}/set.json", "0" * 64)
    with pytest.raises(InputError, match=f"it has sha256 [0-9a-f]{{64}}, expected {'0' * 64}"):
        find_files("pandalm", None)
    assert not kept.exists()
    # what an earlier version has kept is fetched anew where it is another file
    write_json(kept, ["an older one"])
    digest = hashlib.sha256(served.read_bytes()).hexdigest()
    monkeypatch.setitem(SHA256, f"{url}/set.json", digest)
    assert find_files("pandalm", None)["testset-v1.json"].read_bytes() == served.read_bytes()


def test_public_files_are_those_of_a_commit_and_have_a_digest_but_for_two_sets() -> None:
    homes = {name: list(benchmark.homes.values()) for name, benchmark in BENCHMARKS.items()}
    assert set(SHA256) <= {address for addresses in homes.values() for address in addresses}
    of_no_commit = {name for name in homes if not all(re.search("/[0-9a-f]{40}/", one) for one in homes[name])}
    of_no_digest = {name for name in homes if not all(one in SHA256 for one in homes[name])}
    assert (of_no_commit, of_no_digest) == ({"mm-vet"}, {"mm-vet", "judgelm-val"}), "one is a release"


def test_a_download_waits_for_one_that_runs_and_removes_the_folders_of_killed_ones(
    home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url, _ = home
    monkeypatch.setenv("JUDGELM_CACHE", str(tmp_path / "cache"))
    write_json(folder / "set.json", [pandalm_row(0, 1, 1, 2)])
    move("pandalm", {"testset-v1.json": f"{url}/set.json"}, monkeypatch)
    place = tmp_path / "cache" / "benchmarks" / "pandalm"
    (place / "unfinished-pandalm-killed").mkdir(parents=True)
    (place / "unfinished-pandalm-killed" / "file").write_bytes(b"half")
    with ThreadPoolExecutor() as pool:
        with FileLock(tmp_path / "cache" / "pandalm.lock"):
            found = pool.submit(find_files, "pandalm", None)
            with pytest.raises(TimeoutError):
                found.result(0.2)
        assert found.result(60) == {"testset-v1.json": place / "testset-v1.json"}
    assert [path.name for path in place.iterdir()] == ["testset-v1.json"]
