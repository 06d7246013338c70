"""The `judgelm` command: a file of `judgelm/commands` for each of its commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from judgelm import __version__
from judgelm.commands import (
    arena,
    audit,
    benchmark,
    calibrate,
    cascade,
    collect,
    convert,
    evaluate,
    judge,
    jury,
    label,
    merge,
    preferences,
    prompt,
    rank,
    report,
    serve,
    teach,
    train,
    train_data,
)
from judgelm.console import Parser, run_main

COMMANDS = (
    judge,
    evaluate,
    calibrate,
    benchmark,
    report,
    rank,
    arena,
    audit,
    label,
    jury,
    cascade,
    collect,
    teach,
    preferences,
    train,
    train_data,
    merge,
    serve,
    prompt,
    convert,
)
"""in the order of `judgelm --help`"""


def build_parser() -> Parser:
    """The command line, from which docs/cli.md is written too."""
    parser = Parser(prog="judgelm", description="Judge the answers of language models with language models.")
    parser.add_argument("--version", action="version", version=f"judgelm {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2].replace("_", "-")
        # the training script answers --help itself
        added = commands.add_parser(
            name, help=command.HELP, description=command.DESCRIPTION, add_help=command is not train
        )
        command.add_arguments(added)
        added.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the command."""

    def command() -> None:
        parser = build_parser()
        args, flags = parser.parse_known_args(argv)
        if flags and args.command != "train":
            parser.error(f"unrecognized arguments: {' '.join(flags)}")
        args.flags = flags
        args.run(args)

    run_main(command, argv=argv)
