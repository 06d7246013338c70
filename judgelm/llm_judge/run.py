"""A run on disk: results kept as they come, resumed after any end, put in place whole and sorted."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import platform
import sys
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout
from tqdm import tqdm

from judgelm.jsonl import InputError, Line, LineFile, Record, dump_line, id_key, id_order, read_json, write_text
from judgelm.llm_judge.judge import ORDERS, PROMPT_TOO_LONG, Done, Judged, JudgeSettings, Order
from judgelm.prompt import prompt_fingerprint
from judgelm.sample import Sample
from judgelm.verdict import Outcome, ParseState

_PACKAGES = ("judgelm", "torch", "transformers", "accelerate", "peft", "tokenizers")


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Where a run writes: one file an order, and what describes them all."""

    outputs: Mapping[Order, Path]
    run: Path
    described: tuple[Path, ...]
    """all output files that `run` speaks of, written by this command or not"""

    @classmethod
    def in_folder(cls, folder: Path, orders: Sequence[Order]) -> RunFiles:
        paths: dict[Order, Path] = {order: folder / f"{order}.jsonl" for order in ORDERS["both"]}
        return cls({order: paths[order] for order in orders}, folder / "run.json", tuple(paths.values()))

    @classmethod
    def for_answer_file(cls, answer_file: Path, order: Order) -> RunFiles:
        """The published scripts write one file, named by the user; its run.json stands beside it."""
        return cls({order: answer_file}, answer_file.with_name(answer_file.name + ".run.json"), (answer_file,))


@dataclass(frozen=True, slots=True)
class Judgements:
    """All judgements of one order."""

    lines: LineFile
    """sorted by id"""
    counts: Mapping[str, int]

    def first(self, most: int) -> list[Record]:
        return [line.record for line in self.lines[:most]]


class Judging(Protocol):
    """What judges: a judge, or replicas of one."""

    @property
    def description(self) -> Mapping[str, Any]: ...

    def run(
        self, samples: Iterable[Sample], orders: Sequence[Order], settings: JudgeSettings, done: Done = ()
    ) -> Generator[Judged, None, None]:
        """See `Judge.run`."""
        ...


def run_judge(
    load: Callable[[], Judging],
    samples: Sequence[Sample],
    settings: JudgeSettings,
    files: RunFiles,
    described: Mapping[str, Any],
    model_id: str,
) -> dict[Order, Judgements]:
    """Judge what is not judged yet and return all judgements of each order, sorted by id.

    `described` is what else must be the same for a run to be continued: model, files, data type. `load` is called only
    if anything is left to do. Raises InputError where the files belong to another run or cannot be written.
    """
    wanted = {
        **described,
        "model_id": model_id,
        "prompt_fingerprint": prompt_fingerprint(),
        **asdict(settings),
    }
    with _locked(files.run):
        earlier = _check_settings(files, wanted)
        sessions = earlier.get("sessions", [])
        session: dict[str, Any] = {"started": time.time(), "judged": 0, "versions": versions()}
        started = time.perf_counter()
        logs = {order: _Log(path) for order, path in files.outputs.items()}

        def describe() -> None:
            session["seconds"] = round(time.perf_counter() - started, 3)
            _write_run(files, wanted, [*sessions, session], None)

        try:
            describe()
            _judge_rest(load, samples, settings, logs, model_id, session, describe)
        finally:
            for log in logs.values():
                log.close()
            with suppress(InputError):  # a full disk is told of already
                describe()
        found = {order: log.finish() for order, log in logs.items()}
        _write_run(files, wanted, [*sessions, session], {order: one.counts for order, one in found.items()})
        return found


def _judge_rest(
    load: Callable[[], Judging],
    samples: Sequence[Sample],
    settings: JudgeSettings,
    logs: Mapping[Order, _Log],
    model_id: str,
    session: dict[str, Any],
    describe: Callable[[], None],
) -> None:
    keys = {sample.key for sample in samples}
    done = {(order, key) for order, log in logs.items() for key in log.keys & keys}
    total = len(samples) * len(logs)
    if done:
        print(f"judgelm: {len(done)} of {total} judgements are there already and are skipped", file=sys.stderr)
    if len(done) == total:
        return
    judge = load()
    # not a copy: an engine may count as it goes
    session["engine"] = judge.description
    describe()
    with closing(judge.run(samples, list(logs), settings, done)) as judgements:
        # replicas are loaded for the first judgement: now they have said what they are, or ended in one line
        first = list(itertools.islice(judgements, 1))
        describe()
        with tqdm(total=total, initial=len(done), unit=" judgements", smoothing=0.1, dynamic_ncols=True) as progress:
            for judged in itertools.chain(first, judgements):
                logs[judged.order].append(judged.sample.key, stamped(judged, model_id))
                session["judged"] += 1
                progress.update()


def stamped(judged: Judged, model_id: str) -> Record:
    """A record of `forward.jsonl` or `reversed.jsonl`: with an id of its own, the judge's name and the time."""
    stamp = {"pred_id": uuid.uuid4().hex, "pred_model_id": model_id, "tstamp": time.time()}
    return {**judged.to_record(), **stamp}


class _Log:
    """One output file: a `.partial` that grows a whole line at a time beside the sorted final one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = _partial(path)
        with _writing(self.partial):
            path.parent.mkdir(parents=True, exist_ok=True)
            _cut_half_line(self.partial)
            self.keys = self._read_keys()
            self._file = self.partial.open("ab", buffering=0)

    def _read_keys(self) -> set[str]:
        return {key for keys, _ in self._files() for key in keys}

    def _files(self) -> Iterator[tuple[list[str], LineFile]]:
        """The files of this output that hold something, each with its lines' keys."""
        for path in (self.path, self.partial):
            if path.exists() and path.stat().st_size:
                lines = LineFile(path)
                yield [_key(line) for line in lines], lines

    def append(self, key: str, record: Record) -> None:
        """Write one line and hand it to the operating system, so that a killed process loses nothing."""
        line = dump_line(record).encode()
        with _writing(self.partial):
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
        self.keys.add(key)

    def close(self) -> None:
        self._file.close()

    def finish(self) -> Judgements:
        """Put the sorted file in place, then drop the partial one."""
        places = {key: (lines, row) for keys, lines in self._files() for row, key in enumerate(keys)}
        order = sorted(places, key=id_order)
        write_text(self.path, (_text_of(*places[key]) for key in order))
        self.partial.unlink(missing_ok=True)
        lines = LineFile(self.path)
        return Judgements(lines, count_records(line.record for line in lines))


def _key(line: Line) -> str:
    if "question_id" not in line.record:
        raise InputError(f"{line.where}: not a judgement (no question_id); remove the file to go on")
    return id_key(line.record["question_id"])


def _text_of(lines: LineFile, row: int) -> str:
    _, raw = next(lines.select_raw([row]))
    return raw.decode()


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _holds_something(path: Path) -> bool:
    return any(file.exists() and file.stat().st_size for file in (path, _partial(path)))


def _cut_half_line(path: Path) -> None:
    """A process killed in mid-write leaves a line without its end: it is removed and judged again."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{path}: cannot be written ({error.strerror}); what was judged is kept, the same command goes on"
        raise InputError(message) from error


@contextmanager
def _locked(run: Path) -> Iterator[None]:
    lock = FileLock(run.with_name(f".{run.name}.lock"), timeout=0)
    try:
        run.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InputError(f"{run.parent}: another run is writing there") from None
    except OSError as error:
        raise InputError(f"{run.parent}: cannot be written ({error.strerror})") from None
    try:
        yield
    finally:
        lock.release()


def _check_settings(files: RunFiles, wanted: Mapping[str, Any]) -> Record:
    """The earlier run's description; empty for a new run, InputError for one with other settings."""
    if not files.run.exists():
        for path in files.described:
            if _holds_something(path):
                there = path if path.exists() else _partial(path)
                raise InputError(f"{there} exists already without {files.run.name}: move it, or name another place")
        return {}
    earlier = read_json(files.run)
    before = earlier.get("settings", {})
    # through JSON and back, so that tuples and lists compare
    now = json.loads(json.dumps(wanted))
    changed = [f"{name} was {before.get(name)!r}, now {now[name]!r}" for name in now if before.get(name) != now[name]]
    if changed and not any(_holds_something(path) for path in files.described):
        # the earlier run ended before its first judgement: there is nothing to mix with
        return {}
    if changed:
        way_out = "name another place, or remove it and its output files"
        raise InputError(f"{files.run} is of a run with other settings: {'; '.join(changed)} ({way_out})")
    return earlier


def _write_run(
    files: RunFiles, settings: Mapping[str, Any], sessions: list[dict[str, Any]], counts: Mapping[str, Any] | None
) -> None:
    known = read_json(files.run).get("counts", {}) if files.run.exists() else {}
    document = {
        "settings": settings,
        "finished": counts is not None,
        "counts": {**known, **(counts or {})},
        "sessions": sessions,
        "machine": {"platform": platform.platform(), "python": platform.python_version(), "cpus": os.cpu_count()},
    }
    write_text(files.run, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def count_records(records: Iterable[Record]) -> dict[str, int]:
    """How the judgements of one order came out."""
    reasons = {"length": "length_limit", PROMPT_TOO_LONG: PROMPT_TOO_LONG} | {
        r: r for r in ("out_of_memory", "refused")
    }
    names = ["total", *ParseState, "shortened", *reasons.values(), *Outcome, "suspicious_markers"]
    counts = {str(name): 0 for name in (*names, "prompt_tokens", "generated_tokens")}
    for record in records:
        counts["total"] += 1
        counts[record["pred_parse"]] += 1
        counts["shortened"] += record["pred_shortened"] is not None
        if record["pred_finish_reason"] in reasons:
            counts[reasons[record["pred_finish_reason"]]] += 1
        if record["pred_outcome"] is not None:
            counts[record["pred_outcome"]] += 1
        counts["suspicious_markers"] += record["pred_suspicious_markers"] > 0
        counts["prompt_tokens"] += record["pred_prompt_tokens"] or 0
        counts["generated_tokens"] += record["pred_tokens"]
    return counts


def hash_file(path: str | os.PathLike[str]) -> str:
    """sha256 of a file's content."""
    with Path(path).expanduser().open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
