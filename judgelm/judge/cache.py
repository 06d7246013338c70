"""Judgements that were made once: kept across runs, so that the same prompts are not judged again."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, astuple, replace
from functools import cache
from pathlib import Path
from typing import Any

from judgelm.dialogue import read_shortened, shortened_record
from judgelm.engine.interface import Generation
from judgelm.errors import InputError
from judgelm.files import cache_folder
from judgelm.judge.choice import JudgeChoice
from judgelm.judge.judge import JudgeLike
from judgelm.judge.judged import Judged, Likelihood
from judgelm.judge.settings import Done, JudgeSettings, Order
from judgelm.judgement import Outcome
from judgelm.prompt import TASKS
from judgelm.sample import Sample, rotation

_FILE = "judgements.sqlite"
_FORMAT = 1
"""of the file: what else is in one of another number cannot be read"""
_WAIT_S = 30
"""for other processes that write"""
_TOGETHER = 32
"""judgements that are written at once"""
_PASSING = ("out_of_memory", "refused", "cancelled")
"""finish reasons that the same prompt need not have another time"""
_Place = tuple[Order, str]
"""of a sample in one order"""


def cached(judge: JudgeChoice, folder: str | os.PathLike[str] | None = None) -> JudgeChoice:
    """The same judge, which is loaded only where it has not judged the same already.

    Args:
        folder: keeps the judgements, for any number of judges and processes (default: one of the user's cache).
    """
    path = Path(folder or cache_folder() / "judgements").expanduser() / _FILE
    load = cache(lambda: CachedJudge(judge.load, judge.described, path))
    return replace(judge, load=load)


class CachedJudge:
    """A judge, or replicas of one, in front of which stands what it has said."""

    def __init__(self, load: Callable[[], JudgeLike], described: Mapping[str, Any], path: Path) -> None:
        self.path = path
        self.hits = 0
        """judgements of the last run that were there"""
        self._load = load
        self._loaded: JudgeLike | None = None
        # wherever they lie, the same files are the same model
        found = described.get("model_fingerprint")
        self._described = {name: value for name, value in described.items() if not (found and name == "model")}

    @property
    def description(self) -> Mapping[str, Any]:
        """The judge's, where it was loaded, and how many judgements were there."""
        own = {} if self._loaded is None else self._loaded.description
        return {**own, "cache": str(self.path), "cached_judgements": self.hits}

    def run(
        self, samples: Iterable[Sample], orders: Sequence[Order], settings: JudgeSettings, done: Done = ()
    ) -> Generator[Judged, None, None]:
        """See `Judge.run`. What is there comes first; what is not is judged without the others."""
        samples, self.hits = list(samples), 0
        with _Kept.open(self.path) as kept:
            keys: dict[_Place, bytes] = {}
            found: set[_Place] = set()
            for place, sample in _places(samples, orders):
                if place in done:
                    continue
                shown = sample.shown(place[0])
                key = self._key(shown, settings)
                if (judged := _judged(kept.get(key), shown, place[0], settings)) is None:
                    keys[place] = key
                else:
                    found.add(place)
                    self.hits += 1
                    yield judged
            print(f"judgelm: {self.hits} of {len(keys) + self.hits} judgements are in {self.path}", file=sys.stderr)
            if not keys:
                return
            if found:
                missing = {key for _, key in keys}
                samples = [sample for sample in samples if sample.key in missing]
                done = found.union(done)
            self._loaded = self._load()
            with closing(self._loaded.run(samples, orders, settings, done)) as judgements:
                for judged in judgements:
                    kept.put(keys[judged.order, judged.sample.key], _value(judged))
                    yield judged

    def _key(self, shown: Sample, settings: JudgeSettings) -> bytes:
        """Of all that a judgement comes from. Its order among others is no part of it."""
        # as the judge is shown it: other words of the same texts tell others apart
        prompts = [settings.form.show(shown, settings.task, aspect) for aspect in settings.aspects]
        drawn = settings.scoring == "sample" and settings.temperature > 0
        asked = settings.to_record() | ({} if drawn else {"seed": None})
        # what is kept are the judge's own probabilities
        del asked["calibration"]
        said: dict[str, Any] = {
            "judge": self._described,
            "settings": asked,
            "sample": shown.key if drawn else None,
            "prompts": [prompt.text for prompt in prompts],
        }
        if shown.images:
            said["images"] = [[(*astuple(image), end) for image, end in prompt.images] for prompt in prompts]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).digest()


def _places(samples: Sequence[Sample], orders: Sequence[Order]) -> Iterator[tuple[_Place, Sample]]:
    for sample in samples:
        for order in orders:
            if rotation(order) < len(sample.answers):
                yield (order, sample.key), sample


def _value(judged: Judged) -> str | None:
    """What cannot be found out without the judge, by each aspect; None for what another attempt may change."""
    parts = judged.parts or (judged,)
    if any(part.generation is not None and part.generation.finish_reason in _PASSING for part in parts):
        return None
    return json.dumps([_part(part) for part in parts])


def _part(judged: Judged) -> dict[str, Any]:
    made, likely = judged.generation, judged.likelihood
    return {
        "generation": made and asdict(replace(made, key="", likelihoods=())),
        "shortened": shortened_record(judged.shortened),
        "likelihood": likely and [likely.expected, likely.outcomes, likely.mass],
    }


def _judged(value: str | None, shown: Sample, order: Order, settings: JudgeSettings) -> Judged | None:
    """As it was made; None for what is none, which is judged anew."""
    if value is None:
        return None
    try:
        parts = [_read_part(part, shown, order, settings) for part in json.loads(value)]
        (alone,) = parts if settings.criteria is None else (Judged.by_criteria(settings.criteria, parts),)
    except (ValueError, TypeError, LookupError):
        return None
    return alone


def _read_part(part: Mapping[str, Any], shown: Sample, order: Order, settings: JudgeSettings) -> Judged:
    made, likely, prefill = part["generation"], part["likelihood"], TASKS[settings.task].prefill
    generation = made and Generation(**made | {"key": shown.key, "likelihoods": ()})
    likelihood = None
    if likely:
        expected, outcomes, mass = likely
        read = outcomes and {Outcome(name): probability for name, probability in outcomes.items()}
        likelihood = Likelihood(tuple(expected), read, mass)
    text = prefill + generation.text if generation else ""
    judgement = settings.read(text, len(shown.answers))
    return Judged(shown, order, settings.task, judgement, generation, read_shortened(part["shortened"]), likelihood)


class _Kept:
    """The file, while a run looks into it. Where it cannot be written the run goes on without it, with a warning."""

    def __init__(self, path: Path, file: sqlite3.Connection | None) -> None:
        self._path = path
        self._file = file
        self._writes = file is not None
        self._new: list[tuple[bytes, str]] = []

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[_Kept]:
        """Raises InputError for a file that is damaged or of another version."""
        kept = cls(path, None)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = cls(path, _connect(path))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise InputError(f"{path.parent}: cannot be written ({error.strerror})") from None
            kept._warn(error)
        except sqlite3.OperationalError as error:
            kept._warn(error)
        except sqlite3.DatabaseError as error:
            raise InputError(f"{path}: damaged ({error}): remove it, or name another --cache") from None
        try:
            yield kept
        finally:
            kept._write()
            if kept._file is not None:
                kept._file.close()

    def get(self, key: bytes) -> str | None:
        if self._file is None:
            return None
        try:
            row = self._file.execute("SELECT value FROM judgements WHERE key = ?", (key,)).fetchone()
        except sqlite3.OperationalError as error:
            self._warn(error)
            return None
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self._path}: damaged ({error}): remove it, or name another --cache") from None
        value: str | None = None if row is None else row[0]
        return value

    def put(self, key: bytes, value: str | None) -> None:
        if value is not None and self._writes:
            self._new.append((key, value))
            if len(self._new) >= _TOGETHER:
                self._write()

    def _write(self) -> None:
        new, self._new = self._new, []
        if self._file is None or not (self._writes and new):
            return
        try:
            with self._file:
                self._file.executemany("INSERT OR REPLACE INTO judgements VALUES (?, ?)", new)
        except sqlite3.Error as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        self._writes = False
        print(f"judgelm: warning: {self._path}: judgements are not kept there ({error})", file=sys.stderr)


def _connect(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.Error, and InputError for a file of another version."""
    file = sqlite3.connect(path, timeout=_WAIT_S)
    try:
        (found,) = file.execute("PRAGMA user_version").fetchone()
        if found == 0:
            with suppress(sqlite3.OperationalError):
                # who reads need not wait for who writes; a file system without shared memory does without
                file.execute("PRAGMA journal_mode = WAL")
            with file:
                file.execute("CREATE TABLE IF NOT EXISTS judgements (key BLOB PRIMARY KEY, value TEXT) WITHOUT ROWID")
                file.execute(f"PRAGMA user_version = {_FORMAT}")
        elif found != _FORMAT:
            raise InputError(f"{path}: of another version of judgelm ({found}): remove it, or name another --cache")
    except BaseException:
        file.close()
        raise
    return file
