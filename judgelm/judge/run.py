"""A run on disk: results kept as they come, resumed after any end, put in place whole and sorted."""

from __future__ import annotations

import itertools
import json
import reprlib
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from judgelm.appended import writing
from judgelm.calibration import belonging
from judgelm.errors import InputError
from judgelm.files import locked, remove_unfinished
from judgelm.jsonl import Record
from judgelm.judge.description import RunDescription, Session, read_description, versions
from judgelm.judge.judge import JudgeLike
from judgelm.judge.judged import Judged, stamp
from judgelm.judge.kept import KEEP_FLAG, Stored, left_out_of
from judgelm.judge.log import Log, OrderFile, partial_of
from judgelm.judge.settings import ROTATIONS, JudgeSettings, Order
from judgelm.prompt import TASKS, prompt_fingerprint
from judgelm.sample import Sample, rotation
from judgelm.samples import has_dialogues, has_images, has_references, sample_keys

_INPUTS = ("question_file_sha256", "reference_file_sha256")
"""settings that say which samples there are"""
_DEFAULTS = {**JudgeSettings().to_record(), "engine": "hf", "thoughts_left_out": False}
"""what runs did before they could be told otherwise: an older run.json does not say it"""
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 100


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Where a run writes: one file an order, and what describes them all."""

    outputs: Mapping[Order, Path]
    run: Path
    described: Mapping[Order, Path]
    """all output files that `run` speaks of, written by this command or not"""

    @classmethod
    def in_folder(cls, folder: Path, orders: Sequence[Order]) -> RunFiles:
        paths: dict[Order, Path] = {order: folder / f"{order}.jsonl" for order in ("reversed", *ROTATIONS)}
        return cls({order: paths[order] for order in orders}, folder / "run.json", paths)

    @classmethod
    def for_answer_file(cls, answer_file: Path, order: Order) -> RunFiles:
        """The published scripts write one file, named by the user; its run.json stands beside it."""
        return cls({order: answer_file}, answer_file.with_name(answer_file.name + ".run.json"), {order: answer_file})


class _RunFile:
    """run.json of a run that is under way."""

    def __init__(self, path: Path, earlier: RunDescription, settings: Mapping[str, Any]) -> None:
        self._path = path
        self._began = time.perf_counter()
        self.session = Session(started=time.time(), judged=0, versions=versions())
        self.described = RunDescription.begun(settings, [*earlier.sessions, self.session])
        self.described.counts = earlier.counts
        self.judge: JudgeLike | None = None
        """once it is loaded"""

    def write(self) -> None:
        self.session.seconds = round(time.perf_counter() - self._began, 3)
        if self.judge is not None:
            # an engine may count as it goes
            self.session.engine = dict(self.judge.description)
        self.described.write(self._path, indent=2)

    def finish(self, found: Mapping[Order, OrderFile]) -> None:
        self.described.counts |= {order: dict(one.counts) for order, one in found.items()}
        self.described.finished = True
        self.write()


def run_judge(
    load: Callable[[], JudgeLike],
    samples: Sequence[Sample],
    settings: JudgeSettings,
    files: RunFiles,
    described: Mapping[str, Any],
    model_id: str,
    keep_judged: bool | None = None,
) -> dict[Order, OrderFile]:
    """Judge what is not judged yet and return all judgements of each order, sorted by id.

    `described` is what else must be the same for a run to be continued: model, files, data type. With `keep_judged` the
    input files may be others: what was judged of samples that are the same still counts (None: not offered). `load` is
    called only if anything is left to do. Raises InputError where the files belong to another run, are damaged, or
    cannot be written.
    """
    settings.check_samples(samples)
    prompts = _prompt_fingerprints(samples, settings)
    wanted = {**described, "model_id": model_id, "prompt_fingerprint": prompts[0], **settings.to_record()}
    references = has_references(samples)
    if settings.calibration is not None:
        settings.calibration.check(belonging(wanted, tuple(files.outputs), references), "this run's")
    with locked(files.run):
        stored = Stored(files.described, samples, settings, model_id, wanted.get("answer_num"))
        run = _RunFile(files.run, _check_settings(files.run, stored, wanted, prompts, keep_judged), wanted)
        if keep_judged and stored.begun:
            run.session.kept, run.session.left_out = stored.keep_matches()
            run.described.counts = {}
            print(f"judgelm: judgements kept: {run.session.kept}, left out: {run.session.left_out}", file=sys.stderr)
        run.described.references = references
        logs = {order: stored.log(order, keep_judged is not None) for order in files.outputs}
        _remove_leftovers(files)
        run.write()
        with ExitStack() as stack:
            stack.callback(_write_last, run)
            for log in logs.values():
                log.open()
                stack.callback(log.close)
            _judge_rest(load, samples, settings, logs, model_id, run)
        found = {order: log.finish() for order, log in logs.items()}
        run.finish(found)
        return found


def _prompt_fingerprints(samples: Sequence[Sample], settings: JudgeSettings) -> tuple[str, ...]:
    """Of the prompts of these samples, and behind it those of rows with images, dialogues, both or neither: no row's
    prompt depends on another row.
    """
    if settings.prompt_template:
        return (settings.prompt_template.sha256,)
    dialogues, images = has_dialogues(samples), has_images(samples)
    prefilled = TASKS[settings.task].prefill  # takes no dialogues
    kinds = itertools.product((dialogues,) if prefilled else (dialogues, not dialogues), (images, not images))
    return tuple(prompt_fingerprint(settings.task, settings.criteria, *kind) for kind in kinds)


def _write_last(run: _RunFile) -> None:
    # a full disk is told of already
    with suppress(InputError):
        run.write()


def _remove_leftovers(files: RunFiles) -> None:
    """What killed runs were writing; nobody else writes here, as long as this one has the lock."""
    outputs = files.described.values()
    for path in (files.run, *outputs, *map(partial_of, outputs), *map(left_out_of, outputs)):
        with writing(path):
            remove_unfinished(path)


def _judge_rest(
    load: Callable[[], JudgeLike],
    samples: Sequence[Sample],
    settings: JudgeSettings,
    logs: Mapping[Order, Log],
    model_id: str,
    run: _RunFile,
) -> None:
    keys = set(sample_keys(samples))
    done = {(order, key) for order, log in logs.items() for key in log.keys & keys}
    total = _count_judgements(samples, logs)
    if done:
        print(f"judgelm: {len(done)} of {total} judgements are there already and are skipped", file=sys.stderr)
    if len(done) == total:
        return
    run.judge = load()
    run.write()
    with closing(run.judge.run(samples, list(logs), settings, done)) as judgements:
        # replicas are loaded for the first judgement: now they have said what they are, or ended in one line
        first = list(itertools.islice(judgements, 1))
        run.write()
        with tqdm(total=total, initial=len(done), unit=" judgements", smoothing=0.1, dynamic_ncols=True) as progress:
            for judged in itertools.chain(first, judgements):
                record = stamped(judged.calibrated(settings.calibration), model_id)
                logs[judged.order].append(judged.sample.key, record)
                run.session.judged += 1
                progress.update()


def _count_judgements(samples: Sequence[Sample], orders: Iterable[Order]) -> int:
    """A sample is rotated by less than its answers."""
    rotated = [steps for order in orders if (steps := rotation(order))]
    unrotated = len(samples) * (len(list(orders)) - len(rotated))
    return unrotated + (sum(steps < len(each.answers) for each in samples for steps in rotated) if rotated else 0)


def stamped(judged: Judged, model_id: str) -> Record:
    """A record of an order's file: with an id of its own, the judge's name and the time."""
    return {**judged.to_record(), **stamp(model_id)}


def _check_settings(
    run: Path, stored: Stored, wanted: Mapping[str, Any], prompts: Collection[str], keep: bool | None
) -> RunDescription:
    """The earlier run's description; empty for a new run, InputError for one with other settings.

    Other input files are no obstacle where `keep` is asked for; None: the command has no such flag. `prompts` are
    fingerprints that are no other setting than the wanted one.
    """
    earlier, begun = read_description(run), stored.begun
    if earlier is None:
        for path in begun:
            there = path if path.exists() else partial_of(path)
            raise InputError(f"{there} exists already without {run.name}: move it, or name another place")
        return RunDescription()
    before = {**_DEFAULTS, **earlier.settings}
    if before.get("prompt_fingerprint") in prompts:
        before["prompt_fingerprint"] = wanted["prompt_fingerprint"]
    # through JSON and back, so that tuples and lists compare
    now = json.loads(json.dumps(wanted))
    changed = [name for name in now if before.get(name) != now[name]]
    if changed and not begun and "cascade" not in before:
        # the earlier run ended before its first judgement: there is nothing to mix with
        return RunDescription()
    # with a reference or without one is another prompt for all of them
    keepable = keep is not None and all(
        name == "thoughts_left_out" or (name in _INPUTS and before.get(name) and now[name]) for name in changed
    )
    if not changed or (keepable and keep):
        return earlier
    way_out = "name another place, or remove it and its output files"
    if keepable and any(matches := list(stored.matches().values())):
        way_out = (
            f"{KEEP_FLAG} keeps the {sum(matches)} of {len(matches)} judgements whose samples are unchanged and"
            f" judges the rest anew; or {way_out}"
        )
    if now.get("thoughts_left_out") and "thoughts_left_out" in changed:
        way_out = f"--keep-thinking shows the judge the answers' thoughts, as before; {way_out}"
    if changed == ["calibration"]:
        way_out = f"judgelm evaluate --calibration and rank --calibration need no judging; or {way_out}"
    said = "; ".join(f"{n} was {_REPR.repr(before.get(n))}, now {_REPR.repr(now[n])}" for n in changed)
    raise InputError(f"{run} is of a run with other settings: {said} ({way_out})")
