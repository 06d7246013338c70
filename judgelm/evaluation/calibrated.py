"""A judged folder and a map -> its samples with calibrated probabilities, without judging again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from judgelm.calibration import Calibration, belonging
from judgelm.errors import InputError
from judgelm.evaluation.results import JudgedSample, judged_task, read_folder
from judgelm.forms import Columns
from judgelm.samples import PathLike
from judgelm.verdict import Reading


def read_calibrated(
    folder: PathLike, calibration: Calibration | None, teacher: PathLike | None = None, columns: Columns | None = None
) -> list[JudgedSample]:
    """As `read_folder`, the judge's own probabilities calibrated by a map, where one is given.

    What another map made of them in the folder counts no more, and nothing is calibrated twice. Raises InputError, too,
    where the map belongs to other judgements, and where there are no probabilities.
    """
    if calibration is None:
        return read_folder(folder, teacher, columns=columns)
    check_pairs(folder)
    samples = read_folder(folder, teacher, columns=columns)
    check_probabilities(folder, samples)
    calibration.check(folder_settings(folder, samples), f"those in {folder}")
    known = {one.calibrated.map for sample in samples for one in sample.readings if one.calibrated}
    if others := known - {calibration.name}:
        said = f"{folder} was calibrated by another map ({', '.join(sorted(others))[:100]})"
        print(f"judgelm: {said}: its own probabilities are used, by {calibration.source}", file=sys.stderr)
    return [
        replace(one, forward=_calibrate(one.forward, calibration), reversed=_calibrate(one.reversed, calibration))
        for one in samples
    ]


def _calibrate(reading: Reading | None, calibration: Calibration) -> Reading | None:
    """The map treats both orders alike, so that it may be used on what is exchanged back already."""
    if reading is None or reading.probabilities is None:
        return reading
    return replace(reading, calibrated=calibration.apply(reading.probabilities))


def check_pairs(folder: PathLike) -> None:
    """Raises InputError for judgements that are not of pairs."""
    task = judged_task(folder)
    if task not in (None, "pair"):
        raise InputError(f"{folder}: a calibration is of P(win), P(tie) and P(lose), task pair, found task {task}")


def check_probabilities(folder: PathLike, samples: Sequence[JudgedSample]) -> None:
    """Raises InputError where no sample has any."""
    if not any(sample.own_probabilities for sample in samples):
        raise InputError(f"{folder}: no judgement has probabilities, which judgelm judge --scoring expected gives")


def folder_settings(folder: PathLike, samples: Sequence[JudgedSample]) -> dict[str, Any]:
    """What a map of a folder belongs to, by its run.json and the orders in it. Raises InputError without one."""
    from judgelm.run_settings import RunSettings

    path = Path(folder).expanduser() / "run.json"
    if not path.exists():
        raise InputError(f"{folder}: no run.json there, which says whose judgements these are")
    run = RunSettings.read(path)
    if run.settings.get("model") is None:
        raise InputError(f"{path}: names no model, and a map belongs to the probabilities of one")
    references = run.references
    if references is None:
        references = run.settings.get("reference_file_sha256") is not None
    orders = [name for name in ("forward", "reversed") if getattr(samples[0], name) is not None]
    return belonging(run.settings, orders, references)
