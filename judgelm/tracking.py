"""What was judged or found, as a run in an experiment tracker: MLflow, Weights & Biases or TensorBoard."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judgelm.errors import InputError, one_line
from judgelm.evaluation.rate import Rate
from judgelm.jsonl import dump_json

EXTRAS = {"mlflow": "mlflow", "wandb": "tracking", "tensorboard": "tracking"}
"""tracker, whose package has the same name -> the extra that installs it"""
_LONGEST = 500
"""characters of a setting, which is all that some servers take"""
_STRANGE = re.compile(r"[^\w\-./ ]")


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """What a command made, as trackers have it."""

    command: str
    folder: Path
    """where its results are"""
    settings: Mapping[str, Any]
    numbers: Mapping[str, Rate | float]
    """a rate becomes NAME, NAME_low and NAME_high"""
    files: Sequence[Path] = ()

    @property
    def name(self) -> str:
        """Of the run."""
        return f"{self.command} {self.folder.resolve().name}"

    @property
    def parameters(self) -> dict[str, str]:
        """The settings that are set, as texts."""
        given = {name: value for name, value in self.settings.items() if value is not None}
        texts = {name: value if isinstance(value, str) else dump_json(value) for name, value in given.items()}
        return {_plain(name): text[:_LONGEST] for name, text in texts.items()}

    @property
    def metrics(self) -> dict[str, float]:
        """All numbers that are defined, by names that every tracker takes."""
        found: dict[str, float] = {}
        for name, number in self.numbers.items():
            if not isinstance(number, Rate):
                found[_plain(name)] = float(number)
                continue
            parts = (("", number.value), ("_low", number.low), ("_high", number.high))
            found |= {_plain(name) + part: value for part, value in parts if value is not None}
        return found


def _plain(name: str) -> str:
    return _STRANGE.sub("_", name)


def check_trackers(names: Sequence[str]) -> None:
    """Raises InputError for one that is unknown or not installed; nothing is imported."""
    for name in names:
        if name not in EXTRAS:
            raise InputError(f"--report-to {one_line(name)}: expected some of {', '.join(EXTRAS)}")
        found = importlib.util.find_spec(name)
        # a folder of that name, which some of them write where they run, is no package
        if found is None or found.origin is None:
            raise InputError(f"--report-to {name}: it is not installed (pip install 'judgelm[{EXTRAS[name]}]')")


def track(names: Sequence[str], run: TrackedRun) -> None:
    """Log a run with each of the trackers. One that fails is told of on stderr: the results are there already."""
    for name in names:
        try:
            # what they say of themselves is no result
            with contextlib.redirect_stdout(sys.stderr):
                _LOG[name](run)
        except Exception as error:  # noqa: BLE001 - a tracker can raise whatever it likes
            said = one_line(f"{type(error).__name__}: {error}")[:300]
            print(f"judgelm: --report-to {name}: not logged ({said}); the results are in {run.folder}", file=sys.stderr)


def _log_to_mlflow(run: TrackedRun) -> None:
    """Where and in which experiment, MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say."""
    import mlflow

    with mlflow.start_run(run_name=run.name, tags={"judgelm.command": run.command, "judgelm.folder": str(run.folder)}):
        mlflow.log_params(run.parameters)
        mlflow.log_metrics(run.metrics)
        for file in run.files:
            mlflow.log_artifact(str(file))


def _log_to_wandb(run: TrackedRun) -> None:
    """In project WANDB_PROJECT, else judgelm; with WANDB_MODE=offline in a folder, for `wandb sync`."""
    import wandb

    project = os.environ.get("WANDB_PROJECT") or "judgelm"
    with wandb.init(project=project, name=run.name, job_type=run.command, config=run.parameters) as logged:
        logged.log(run.metrics)
        if run.files:
            artifact = wandb.Artifact(re.sub(r"[^\w\-.]", "_", run.name), type="judgelm")
            for file in run.files:
                artifact.add_file(str(file))
            logged.log_artifact(artifact)


def _log_to_tensorboard(run: TrackedRun) -> None:
    """In TENSORBOARD_LOGGING_DIR, else in the folder `tensorboard` beside the results; files are not copied."""
    from torch.utils.tensorboard import SummaryWriter

    place = os.environ.get("TENSORBOARD_LOGGING_DIR") or run.folder / "tensorboard"
    with SummaryWriter(str(Path(place) / run.command)) as writer:
        rows = [f"| {name} | {text.replace('|', ' ')} |" for name, text in run.parameters.items()]
        writer.add_text("settings", "\n".join(["| setting | value |", "|---|---|", *rows]))
        for name, value in run.metrics.items():
            writer.add_scalar(name, value, 0)


_LOG = {"mlflow": _log_to_mlflow, "wandb": _log_to_wandb, "tensorboard": _log_to_tensorboard}
