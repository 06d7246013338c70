"""All benchmarks whose data is there, judged one after another: one report of them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgelm.benchmark.benchmark import BEST_OF_FOUR, MT_BENCH, BenchmarkRun, run_benchmark
from judgelm.benchmark.readers import ANSWERS, GRADES
from judgelm.benchmark.sets import BENCHMARKS
from judgelm.errors import InputError, one_line
from judgelm.judge import AnyJudge, JudgeSettings, prepare
from judgelm.samples import PathLike

if TYPE_CHECKING:
    from judgelm.benchmark.report import BenchmarkResult, BenchmarksReport

ALL = "all"
BENCHMARKS_FILE = "benchmarks.json"


def find_data(data: PathLike) -> dict[str, Path]:
    """By benchmark its data in a folder: a folder or a file of its name.

    Raises InputError where there is none, and where several are of one benchmark.
    """
    place = Path(data).expanduser()
    if not place.is_dir():
        raise InputError(f"{place}: no such folder, expected one with a folder or a file for each benchmark")
    found = {}
    for name in BENCHMARKS:
        folder = [place / name] if (place / name).is_dir() else []
        named = folder + sorted(path for path in place.glob(f"{name}.*") if path.is_file())
        if len(named) > 1:
            raise InputError(f"{place}: expected one of {', '.join(path.name for path in named)}, found all")
        if named:
            found[name] = named[0]
    if not found:
        raise InputError(f"{place}: holds no folder or file named as a benchmark ({', '.join(BENCHMARKS)})")
    return found


def run_benchmarks(
    data: PathLike,
    output_dir: PathLike,
    judge: AnyJudge,
    settings: JudgeSettings | None = None,
    *,
    turn: str | None = None,
    by: str | None = None,
    orders: str | None = None,
    limit: int | None = None,
    model_id: str | None = None,
    keep_judged: bool = False,
    on_end: Callable[[str, BenchmarkRun | InputError], None] = lambda name, found: None,
) -> BenchmarksReport:
    """Run every benchmark whose data is in a folder, and write benchmarks.json. One that fails does not end the others.

    Args:
        data: see `find_data`; mm-vet's folder has answers.json, and grades.json if you like.
        output_dir: gets a folder for each benchmark; what was ended goes on.
        turn, by: of mt-bench-human and of rewardbench2.
        on_end: told of each benchmark as it ends.
        settings, orders, limit, model_id, keep_judged: see `run_benchmark`.

    Raises InputError where no data is there, and where the judge cannot be had.
    """
    from judgelm.benchmark.report import results_of

    there, place = find_data(data), Path(output_dir).expanduser()
    chosen = prepare(judge)
    one = partial(run_benchmark, judge=chosen, settings=settings, orders=orders, limit=limit, model_id=model_id)
    results: list[BenchmarkResult] = []
    failed: dict[str, str] = {}
    report = _report(model_id or chosen.name, results, failed, there)
    for name, path in there.items():
        try:
            own = _own_choices(name, turn, by) | _of_mmvet(name, path)
            found = one(name, place / name, data=path, keep_judged=keep_judged, **own)
        except InputError as error:
            failed[name] = one_line(str(error))
            on_end(name, error)
        else:
            results += results_of(found.report)
            on_end(name, found)
        report = _report(model_id or chosen.name, results, failed, there)
        report.write(place / BENCHMARKS_FILE, indent=2)
    return report


def _report(
    judge: str, results: Sequence[BenchmarkResult], failed: Mapping[str, str], there: Mapping[str, Path]
) -> BenchmarksReport:
    from judgelm.benchmark.report import BenchmarksReport

    missing = [name for name in BENCHMARKS if name not in there]
    return BenchmarksReport(judge=judge, results=list(results), failed=dict(failed), not_there=missing)


def _own_choices(name: str, turn: str | None, by: str | None) -> dict[str, Any]:
    return {MT_BENCH: {"turn": turn}, BEST_OF_FOUR: {"by": by}}.get(name, {})


def _of_mmvet(name: str, path: Path) -> dict[str, Any]:
    """Answers and grades that stand beside MM-Vet's own file. Raises InputError where there are no answers."""
    if BENCHMARKS[name].task != "mmvet":
        return {}
    found = {what: path / f"{what}.json" for what in (ANSWERS, GRADES) if (path / f"{what}.json").is_file()}
    if ANSWERS not in found:
        raise InputError(f"{path}: {name} needs a folder in which {ANSWERS}.json has a vision model's answers")
    return found
