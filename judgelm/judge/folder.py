"""Samples -> judgements on disk: a folder with a file for each order, or one file as the paper's scripts write."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgelm.exports import write_rows
from judgelm.files import hash_file
from judgelm.jsonl import Record
from judgelm.judge.choice import AnyJudge, prepare
from judgelm.judge.settings import ORDERS, JudgeSettings, Order, check_orders
from judgelm.sample import Sample, rotation
from judgelm.samples import PathLike, Samples

if TYPE_CHECKING:
    from judgelm.judge.log import OrderFile
    from judgelm.judge.run import RunFiles

OUTPUT_FORMATS = ("jsonl", "csv", "parquet")
"""the first of them is always written"""


def judge_folder(
    samples: Sequence[Sample],
    folder: PathLike,
    judge: AnyJudge,
    settings: JudgeSettings | None = None,
    *,
    orders: str | None = None,
    model_id: str | None = None,
    keep_judged: bool = False,
) -> dict[Order, OrderFile]:
    """Judge what is not judged yet into `folder`, and return all judgements of each order, sorted by question_id.

    Args:
        samples: of `read_samples`, or made by the caller; task `settings.task`.
        folder: gets a file for each order, such as forward.jsonl, and run.json; a run that was ended goes on there.
        settings: how samples are judged (default: task pair, as published).
        orders: forward, reversed, both, or all for task multi (default: both for task pair, else forward).
        model_id: name of the judge in the records (default: the model's).
        keep_judged: go on though samples were removed, changed or added.

    Raises InputError where the folder belongs to another run, is damaged or cannot be written, where the judge cannot
    be had, and for images that it cannot be shown.
    """
    from judgelm.judge.run import RunFiles

    settings = settings or JudgeSettings()
    asked = check_orders(orders or ("both" if settings.task == "pair" else "forward"), settings.task)
    if len(asked) > len(ORDERS["both"]):
        most = max((len(sample.answers) for sample in samples), default=0)
        asked = tuple(order for order in asked if rotation(order) < most)
    files = RunFiles.in_folder(Path(folder).expanduser(), asked)
    return _judge(samples, files, judge, settings, {}, model_id, keep_judged)


def judge_answer_file(
    samples: Sequence[Sample],
    answer_file: PathLike,
    judge: AnyJudge,
    settings: JudgeSettings,
    order: Order = "forward",
    *,
    model_id: str | None = None,
    keep_judged: bool = False,
) -> OrderFile:
    """Judge in one order into one file, its run.json beside it; see `judge_folder`."""
    from judgelm.judge.run import RunFiles

    files = RunFiles.for_answer_file(Path(answer_file).expanduser(), order)
    return _judge(samples, files, judge, settings, {"order": order}, model_id, keep_judged)[order]


def _judge(
    samples: Sequence[Sample],
    files: RunFiles,
    judge: AnyJudge,
    settings: JudgeSettings,
    more: Mapping[str, Any],
    model_id: str | None,
    keep_judged: bool,
) -> dict[Order, OrderFile]:
    from judgelm.judge.run import run_judge

    chosen = prepare(judge).going_on(files.run)
    chosen.check_images(samples)
    settings = chosen.settle(settings)
    described = {**chosen.described, **describe_files(samples), **more}
    return run_judge(chosen.load, samples, settings, files, described, model_id or chosen.model_id, keep_judged)


def write_beside(found: Mapping[Order, OrderFile], output_format: str) -> list[Path]:
    """Write each order's judgements once more, beside its file, in one of `OUTPUT_FORMATS`; gives the paths.

    The JSON Lines are what is gone on from, evaluated and reported. Raises InputError for what the format cannot hold.
    """
    if output_format == OUTPUT_FORMATS[0]:
        return []
    paths = []
    for each in found.values():
        paths.append(each.path.with_suffix(f".{output_format}"))
        write_rows(paths[-1], functools.partial(_records, each))
    return paths


def _records(file: OrderFile) -> Iterator[Record]:
    return (line.record for line in file.lines)


def describe_files(samples: Sequence[Sample]) -> dict[str, Any]:
    """What run.json says of where samples come from; made by a caller, they come from no file."""
    if not isinstance(samples, Samples):
        nothing = {"question_file_sha256": None, "reference_file_sha256": None, "answer_num": None}
        return {**nothing, "thoughts_left_out": False}
    files = samples.files
    return {
        "question_file_sha256": hash_file(files.question_file),
        "reference_file_sha256": hash_file(files.reference_file) if files.reference_file else None,
        "answer_num": files.num_answers,
        "thoughts_left_out": files.thoughts > 0,
    }
