"""`judgelm audit`: a judge and samples -> its biases, in audit.json and a table."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from judgelm.commands.choose import choose_criteria, choose_judge
from judgelm.commands.judge import print_note
from judgelm.console import flags_of
from judgelm.flags import add_file_arguments, add_judging_arguments, add_model_arguments
from judgelm.judge import prepare
from judgelm.prompt_flags import choose_template

HELP = "measure a judge's biases"
DESCRIPTION = (
    "Measure what moves a judge that should not: position, length, format, references, self-"
    "preference, injected instructions, chance. Each check has an effect, its 95 % interval over "
    "questions and a verdict against a threshold. Writes audit.json; after any interruption the same "
    "command goes on where it stopped."
)
AUDIT_FILE = "audit.json"


class _List(argparse.Action):
    """Prints the checks and ends, as --help does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from judgelm.report.terminal import checks_table

        print(checks_table())
        parser.exit()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm audit`."""
    parser.add_argument("--list", action=_List, nargs=0, help="print the checks and what they change, and end")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--only", nargs="+", metavar="NAME", help="run these checks alone (default: all)")
    chosen.add_argument("--skip", nargs="+", metavar="NAME", help="leave these checks out")
    parser.add_argument(
        "--task",
        default="pair",
        choices=("pair", "multi"),
        help="multi: samples of 2 to 10 answers, judged in all rotations; its checks are first_place, last_place and"
        " rotation",
    )
    add_model_arguments(parser)
    add_file_arguments(parser, "right answers, for the checks of references (default: reference in the rows)")
    parser.add_argument(
        "--teacher",
        metavar="FILE",
        help="a truth: teacher judgements (question_id, text) or labels (question_id, label) (default: text or label"
        " in the rows)",
    )
    parser.add_argument(
        "--self-id",
        metavar="TEXT",
        help="answers whose answer1_model_id or answer2_model_id holds this text are the judge's own (default:"
        " --model-id, or the model's name)",
    )
    parser.add_argument(
        "--output-dir", required=True, metavar="DIR", help=f"gets {AUDIT_FILE}, and a folder for each round of judging"
    )
    add_judging_arguments(
        parser, None, " (default: expected, the cheapest and the finest; with --engine openai greedy)"
    )


def run(args: argparse.Namespace) -> None:
    """Audit a judge and print what was found."""
    from judgelm.audit import AuditSettings, run_audit
    from judgelm.report.terminal import findings_table

    given = flags_of(AuditSettings, args)
    given |= {"max_new_tokens": args.max_new_token, "max_reasoning_tokens": args.max_reasoning_token}
    settings = AuditSettings(**given | {"criteria": choose_criteria(args), "prompt_template": choose_template(args)})
    # what does not go together is told, as by judgelm judge
    replace(settings.judging, constrained=bool(args.constrained))
    judge = prepare(choose_judge(args))
    found = run_audit(
        args.question_file,
        args.output_dir,
        judge,
        settings,
        reference_file=args.reference_file,
        teacher=args.teacher,
        limit=args.limit,
        model_id=args.model_id,
        columns=args.columns,
        keep_thinking=args.keep_thinking,
    )
    print(findings_table(found.checks))
    print(f"written to {Path(args.output_dir).expanduser() / AUDIT_FILE}")
    print_note(judge)
