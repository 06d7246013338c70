"""What the judging and evaluating commands do, ours and the published scripts alike."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from judgelm.console import run_main
from judgelm.jsonl import InputError, dump_json, write_text
from judgelm.llm_judge.arguments import evaluate_parser, published_parser
from judgelm.llm_judge.comparison import compare
from judgelm.llm_judge.engines import ChosenJudge, choose_judge, choose_model
from judgelm.llm_judge.evaluation import evaluate_samples
from judgelm.llm_judge.judge import JudgeSettings, Order, check_orders
from judgelm.llm_judge.judged import PathLike, read_files, read_folder
from judgelm.llm_judge.log import Judgements
from judgelm.llm_judge.metrics import PUBLISHED, Metrics
from judgelm.llm_judge.report import MAX_ROWS, cost_line, counts_line, judgement_table, metrics_table, win_lines
from judgelm.llm_judge.run import RunFiles, hash_file, run_judge
from judgelm.llm_judge.summary import RATE_LABELS, summarize
from judgelm.llm_judge.summary_tables import comparison_table, summary_tables
from judgelm.prompt import TASKS
from judgelm.reading import Samples, find_task, read_samples
from judgelm.sample import Sample


def judge_command(args: argparse.Namespace) -> None:
    """`judgelm judge`: judge a file into a folder, then say what came of it."""
    task = find_task(args.task).name
    orders = check_orders(args.orders or ("both" if task == "pair" else "forward"), task)
    judge_into_folder(args, task, orders)


def judge_into_folder(args: argparse.Namespace, task: str, orders: Sequence[Order]) -> None:
    """Judge `args.question_file` into `args.output_dir`, and print what came of it."""
    samples = read_questions(args, task)[: args.limit]
    files = RunFiles.in_folder(Path(args.output_dir).expanduser(), orders)
    chosen = choose_judge(args)
    found = judge_samples(args, chosen, task, args.scores_only, samples, files)
    print(judgement_table({order: each.first(MAX_ROWS) for order, each in found.items()}, len(samples)))
    print()
    for order, each in found.items():
        print(counts_line(order, each.counts))
    if chosen.prices:
        print(cost_line([each.counts for each in found.values()], chosen.prices))
    print(f"written to {', '.join(str(path) for path in files.outputs.values())}")
    print_note(chosen)


def published_main(task: str, argv: Sequence[str] | None = None) -> NoReturn:
    """A gen_model_judgement script: judge a file into one answer file."""

    def command() -> None:
        args = published_parser(task).parse_args(argv)
        order: Order = "reversed" if args.if_reverse_answers else "forward"
        files = RunFiles.for_answer_file(Path(args.answer_file).expanduser(), order)
        samples = read_questions(args, task)
        chosen = choose_model(args, args.model_path)
        if order == "reversed" and TASKS[task].prefill:
            print(
                "judgelm: warning: exchanged, the known answer loses its place and its 10 to the other", file=sys.stderr
            )
        print(f"Output to {args.answer_file}")
        found = judge_samples(args, chosen, task, bool(args.if_fast_eval), samples, files, order=order)[order]
        print(counts_line(order, found.counts))
        if task == "pair":
            print(win_lines(found.counts))
        print_note(chosen)

    run_main(command, argv=argv)


def read_questions(args: argparse.Namespace, task: str) -> Samples:
    """The samples that the flags ask for."""
    return read_samples(
        args.question_file,
        task,
        reference_file=args.reference_file,
        num_answers=args.answer_num,
        begin=args.question_begin,
        end=args.question_end,
        seed=args.seed,
    )


def judge_samples(
    args: argparse.Namespace,
    chosen: ChosenJudge,
    task: str,
    scores_only: bool,
    samples: Sequence[Sample],
    files: RunFiles,
    **more: Any,
) -> dict[Order, Judgements]:
    """Judge samples of `args.question_file` with the judge that was chosen; `more` must be the same to go on too."""
    described: dict[str, Any] = {
        **chosen.described,
        "question_file_sha256": hash_file(args.question_file),
        "reference_file_sha256": hash_file(args.reference_file) if args.reference_file else None,
        "answer_num": args.answer_num,
        **more,
    }
    settings = JudgeSettings(
        task, scores_only, args.temperature, args.max_new_token, args.seed, chosen.constrained, args.scoring
    )
    model_id = args.model_id or Path(chosen.name).name
    return run_judge(chosen.load, samples, settings, files, described, model_id, args.keep_judged)


def print_note(chosen: ChosenJudge) -> None:
    """What a user of this judge must know, where there is something."""
    if chosen.note:
        print(f"note: {chosen.note}")


def evaluate_command(args: argparse.Namespace) -> None:
    """`judgelm evaluate`."""
    if (args.folder is None) == (args.forward is None):
        raise InputError("judgelm evaluate takes either a folder that judgelm judge wrote, or --forward FILE")
    if args.folder is not None and args.reversed is not None:
        raise InputError("--reversed goes with --forward; of a folder both orders are read")
    name = args.folder or args.forward
    if args.folder is None:
        samples = read_files(args.forward, args.reversed, args.teacher)
    else:
        samples = read_folder(args.folder, args.teacher)
    metrics = evaluate_samples(samples, name, args.teacher)
    summary = summarize(samples)
    print(summary_tables(summary))
    if args.against is not None:
        names = (str(name), str(args.against))
        summary["against"] = compare(samples, read_folder(args.against, args.teacher), names)
        print(f"\n{comparison_table(summary['against'], names)}")
    print_metrics(metrics, args.teacher)
    if args.output is not None:
        write_text(args.output, dump_json(summary, indent=1) + "\n")


def evaluate_main(argv: Sequence[str] | None = None) -> NoReturn:
    """The eval_model_judgement script."""

    def command() -> None:
        args = evaluate_parser().parse_args(argv)
        forward, teacher = args.sequential_pred_answer_file_path, args.gt_answer_file_path
        samples = read_files(forward, args.reversed_pred_answer_file_path, teacher)
        metrics = evaluate_samples(samples, forward, teacher)
        print(summary_tables(summarize(samples)))
        print_metrics(metrics, teacher)

    run_main(command, argv=argv)


def print_metrics(metrics: Metrics, teacher: PathLike | None) -> None:
    """The published metrics and counts as a table, and as the last line one JSON object."""
    if metrics.get("not_judged"):
        print(f"judgelm: {metrics['not_judged']} rows of {teacher} have no judgement and do not count", file=sys.stderr)
    said_already = {*RATE_LABELS, "agreement_both_orders"} - set(PUBLISHED)
    print(f"\n{metrics_table({name: value for name, value in metrics.items() if name not in said_already})}\n")
    sys.stdout.write(dump_json(metrics) + "\n")
