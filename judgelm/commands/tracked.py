"""`--report-to` of several commands: what they made -> a run of MLflow, Weights & Biases or TensorBoard."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgelm.files import PathLike

if TYPE_CHECKING:
    from judgelm.evaluation.rate import Rate
    from judgelm.judge.log import OrderFile
    from judgelm.judge.settings import Order
    from judgelm.ranking.ranking import Ranking

Numbers = Mapping[str, "Rate | float"]


def add_tracking_argument(parser: argparse.ArgumentParser) -> None:
    """The flag."""
    parser.add_argument(
        "--report-to",
        type=_names,
        metavar="NAME",
        help="log the settings, numbers and files as a run of mlflow, wandb or tensorboard (comma between several),"
        " each where its own environment variables say; a log that fails loses no result (default: none)",
    )


def _names(value: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in value.split(",")))


def check_tracking(args: argparse.Namespace) -> None:
    """Raises InputError for a tracker that is not there, before anything is judged."""
    if args.report_to:
        from judgelm.tracking import check_trackers

        check_trackers(args.report_to)


def track_judged(args: argparse.Namespace, folder: Path, found: Mapping[Order, OrderFile]) -> None:
    """How the judgements of each order came out."""
    counts = ((order, name, count) for order, each in found.items() for name, count in each.counts.items())
    numbers = {f"{order}/{name}": float(count) for order, name, count in counts}
    _track(args, "judge", folder, numbers, [each.path for each in found.values()])


def track_numbers(args: argparse.Namespace, place: PathLike, numbers: Numbers) -> None:
    """What `judgelm evaluate` found of a folder, or of a file."""
    path = Path(place).expanduser()
    folder = path if path.is_dir() else path.parent
    files = [] if args.output is None else [Path(args.output).expanduser()]
    _track(args, "evaluate", folder, numbers, files)


def track_arena(args: argparse.Namespace, folder: Path, ranking: Ranking) -> None:
    """Every model's numbers."""
    numbers: dict[str, Any] = {"judgements": float(ranking.judgements), "unread": float(ranking.unread)}
    for model in ranking.models:
        numbers |= {f"{name}/{model.name}": getattr(model, name) for name in ("win_rate", "bradley_terry", "elo")}
    names = ("forward.jsonl", "reversed.jsonl", "ranking.json", "ranking.svg")
    _track(args, "arena", folder, numbers, [folder / name for name in names])


def _track(args: argparse.Namespace, command: str, folder: Path, numbers: Numbers, files: list[Path]) -> None:
    """Where a tracker is named, with the settings of the folder's run.json, if there is one."""
    if not args.report_to:
        return
    from judgelm.judge.description import read_description
    from judgelm.tracking import TrackedRun, track

    path = folder / "run.json"
    described = read_description(path)
    settings = {} if described is None else described.settings
    track(args.report_to, TrackedRun(command, folder, settings, numbers, [path, *files] if described else files))
