"""Flags of how a judge is asked: in which format and whose words, for which form of verdict, and whether it thinks; and
by which map its probabilities are calibrated.
"""

from __future__ import annotations

import argparse

from judgelm.calibration import Calibration
from judgelm.console import at_least
from judgelm.models.prompt_format import PROMPT_FORMATS
from judgelm.prompt_form import PromptForm
from judgelm.prompt_template import PromptTemplate, read_prompt_template
from judgelm.verdict_forms import SCORES, VERDICT_FORMATS


def add_template_argument(parser: argparse.ArgumentParser) -> None:
    """A prompt of the user's own."""
    parser.add_argument(
        "--prompt-file",
        metavar="FILE",
        help="a prompt of your own, a template in Jinja that names question, answers (answer_a and answer_b; answer),"
        " reference, criterion, scale, dialogue and conversations; tasks pair, multi and grade (examples/templates has"
        " four)",
    )


def add_template_arguments(parser: argparse.ArgumentParser) -> None:
    """A prompt of the user's own, and what is read of its answers."""
    add_template_argument(parser)
    parser.add_argument(
        "--verdict-format",
        default=SCORES,
        choices=tuple(VERDICT_FORMATS),
        help="how it asks for the verdict; " + "; ".join(f"{name}: {what}" for name, what in VERDICT_FORMATS.items()),
    )


def add_prompt_format_argument(parser: argparse.ArgumentParser) -> None:
    """How a model in this process is asked."""
    parser.add_argument(
        "--prompt-format",
        default="auto",
        choices=tuple(PROMPT_FORMATS),
        help="; ".join(f"{name}: {what}" for name, what in PROMPT_FORMATS.items()),
    )


def add_reasoning_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether a judge thinks first, and how long."""
    parser.add_argument(
        "--reasoning",
        action="store_true",
        help="a reasoning model thinks before its verdict, in its own tags (chat prompts, or a server), and what it"
        " thought is kept in pred_reasoning (default: it does not, where its template knows how)",
    )
    parser.add_argument(
        "--max-reasoning-token",
        type=at_least(1),
        default=4096,
        metavar="N",
        help="most tokens of these thoughts, which are closed by force then",
    )


def add_calibration_argument(parser: argparse.ArgumentParser, more: str = "") -> None:
    """A map of the judge's probabilities."""
    parser.add_argument(
        "--calibration",
        metavar="MAP.json",
        help="a map that judgelm calibrate wrote of this very judge, asked in the same way: its probabilities are"
        f" calibrated, and ties called by the map's threshold{more}",
    )


def choose_calibration(args: argparse.Namespace) -> Calibration | None:
    """A map of the judge's probabilities. Raises InputError for a file that holds none."""
    if args.calibration is None:
        return None
    # what it is read with is loaded where there is one
    from judgelm.evaluation.calibration_map import read_calibration

    return read_calibration(args.calibration)


def choose_template(args: argparse.Namespace) -> PromptTemplate | None:
    """A prompt of the user's own."""
    return None if args.prompt_file is None else read_prompt_template(args.prompt_file)


def choose_form(args: argparse.Namespace) -> PromptForm:
    """How a judge is asked, but for the prompt format, which is the model's to say."""
    return PromptForm(
        template=choose_template(args),
        reasoning=args.reasoning,
        verdict_format=args.verdict_format,
        max_reasoning_tokens=args.max_reasoning_token,
    )
