"""What the judging and evaluating commands do, ours and the published scripts alike."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from judgelm.answers import JUDGELM_OUTPUT, MMVET_OUTPUT
from judgelm.commands.evaluate import print_evaluation
from judgelm.commands.judge import print_note
from judgelm.console import Parser, at_least, none_or_text, run_main
from judgelm.evaluation import evaluate_files
from judgelm.flags import add_generation_arguments, add_keep_judged_argument
from judgelm.judge import JudgeSettings, ModelChoice, Order, judge_answer_file, place, prepare
from judgelm.prompt import TASKS
from judgelm.report.terminal import counts_line, win_lines
from judgelm.samples import read_samples


def published_main(task: str, argv: Sequence[str] | None = None) -> NoReturn:
    """A gen_model_judgement script: judge a file into one answer file."""

    def command() -> None:
        args = published_parser(task).parse_args(argv)
        order: Order = "reversed" if args.if_reverse_answers else "forward"
        samples = read_samples(
            args.question_file,
            task,
            reference_file=args.reference_file,
            num_answers=args.answer_num,
            begin=args.question_begin,
            end=args.question_end,
            # as published
            keep_thinking=True,
        )
        placement = place(None, args.num_gpus_per_model, args.num_gpus_total, args.num_replicas, args.ray_address)
        model = ModelChoice(
            args.model_path, max_gpu_memory=args.max_gpu_memory, prompt_format="plain", placement=placement
        )
        judge = prepare(model)
        settings = JudgeSettings(
            task, bool(args.if_fast_eval), temperature=args.temperature, max_new_tokens=args.max_new_token
        )
        if order == "reversed" and TASKS[task].prefill:
            print(
                "judgelm: warning: exchanged, the known answer loses its place and its 10 to the other", file=sys.stderr
            )
        print(f"Output to {args.answer_file}")
        found = judge_answer_file(
            samples,
            args.answer_file,
            judge,
            settings,
            order,
            model_id=args.model_id,
            keep_judged=args.keep_judged,
        )
        print(counts_line(order, found.counts))
        if task == "pair":
            print(win_lines(found.counts))
        print_note(judge)

    run_main(command, argv=argv)


def evaluate_main() -> NoReturn:
    """The eval_model_judgement script."""

    def command() -> None:
        args = evaluate_parser().parse_args()
        files = args.sequential_pred_answer_file_path, args.reversed_pred_answer_file_path
        print_evaluation(evaluate_files(*files, args.gt_answer_file_path), args.gt_answer_file_path)

    run_main(command)


def published_parser(task: str) -> Parser:
    """Flags of the paper's gen_model_judgement scripts, as they are published."""
    parser = Parser(description=f"Judge a JSONL file; task {task}: {TASKS[task].help}.")
    parser.set_defaults(reference_file=None, if_reverse_answers=0, answer_num=None)
    parser.add_argument("--model-path", required=True, help="hub id, local folder, PEFT adapter folder, or tiny")
    parser.add_argument("--model-id", required=True, help="name of the judge in the records")
    parser.add_argument("--question-file", required=True, help="judge samples, JSON Lines")
    parser.add_argument("--answer-file", required=True, help="output judgements, JSON Lines sorted by question_id")
    parser.add_argument("--question-begin", type=int, help="first row to judge")
    parser.add_argument("--question-end", type=int, help="row after the last to judge")
    parser.add_argument("--if-fast-eval", type=int, choices=(0, 1), default=0, help="1: scores only, no reasons")
    if task != "mmvet":
        parser.add_argument("--reference-file", type=none_or_text, help="reference answers, or None")
        parser.add_argument(
            "--if-reverse-answers",
            "--if-reverse",
            type=int,
            choices=(0, 1),
            default=0,
            help="1: exchange answers 1 and 2",
        )
    if task == "multi":
        parser.add_argument("--answer-num", type=at_least(2), default=2, help="answers of each sample")
    add_generation_arguments(parser, published=True)
    add_keep_judged_argument(parser)
    return parser


def judgelm_preprocess_parser() -> Parser:
    """Flags of the published judgelm_preprocess script."""
    parser = Parser(
        description=f"Join answer files into judge samples: {JUDGELM_OUTPUT} in the folder above the first file's."
    )
    parser.add_argument("--ans1_file_path", required=True, help="Assistant 1's answers (task single: the reference's)")
    parser.add_argument("--ans2_file_path", required=True, help="Assistant 2's answers")
    parser.add_argument("--ansmore_file_paths", nargs="+", default=[], help="answers of Assistants 3, 4 ..")
    return parser


def mmvet_preprocess_parser() -> Parser:
    """Flags of the published mmvet_preprocess script."""
    parser = Parser(
        description=f"Join ground truth and predictions into judge samples: {MMVET_OUTPUT} beside the truth."
    )
    parser.add_argument("--gt_file_path", required=True, help="mm-vet.json")
    parser.add_argument("--pred_file_path", required=True, help='predictions: {"v1_0": "text", ..}')
    return parser


def evaluate_parser() -> Parser:
    """Flags of the paper's eval_model_judgement script, as they are published."""
    parser = Parser(description="Compare judgements with a teacher's and with those of the exchanged answers.")
    parser.add_argument("--gt-answer-file-path", required=True, help="teacher judgements: question_id, text")
    parser.add_argument("--sequential-pred-answer-file-path", required=True, help="judgements in forward order")
    parser.add_argument("--reversed-pred-answer-file-path", required=True, help="judgements in reversed order")
    return parser
