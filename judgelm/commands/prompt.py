"""`judgelm prompt`: the prompts a judge would see."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace

from judgelm.commands.choose import choose_criteria, choose_samples
from judgelm.criteria import Aspect
from judgelm.errors import SettingError
from judgelm.flags import add_criteria_argument, add_input_arguments
from judgelm.jsonl import dump_line
from judgelm.judge.settings import JudgeSettings, check_orders
from judgelm.prompt_flags import add_prompt_format_argument, add_template_argument, choose_template
from judgelm.sample import Sample

HELP = "print the prompts a judge would see"
DESCRIPTION = (
    "Print {question_id, prompt} as JSON Lines, with criteria a line for each aspect, for other engines and for a look."
    " Loads no model, and with --model its tokenizer alone."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm prompt`."""
    add_input_arguments(parser)
    add_criteria_argument(parser)
    add_template_argument(parser)
    add_prompt_format_argument(parser)
    parser.add_argument(
        "--model", help="whose prompts they are, with special tokens by name where its format is chat (default: plain)"
    )
    parser.add_argument("--reverse", action="store_true", help="exchange answers 1 and 2 first")
    parser.add_argument("--seed", type=int, default=0, help="task mmvet: picks among alternative ground truths")


def run(args: argparse.Namespace) -> None:
    """Print them."""
    check_orders("reversed" if args.reverse else "forward", args.task)
    settings = JudgeSettings(args.task, criteria=choose_criteria(args), prompt_template=choose_template(args))
    write = _find_writer(args.model, args.prompt_format, settings)
    for sample in choose_samples(args):
        shown = sample.swapped() if args.reverse else sample
        for aspect in settings.aspects:
            named = {} if aspect is None else {"aspect": aspect.name}
            prompt = write(shown, args.task, aspect)
            sys.stdout.write(dump_line({"question_id": sample.question_id, **named, "prompt": prompt}))


def _find_writer(
    model: str | None, wanted: str, settings: JudgeSettings
) -> Callable[[Sample, str, Aspect | None], str]:
    """What writes a sample's prompt for a model, whole however long it is."""
    if model is None:
        if wanted == "chat":
            raise SettingError("prompt_format", "chat: expected --model NAME too, whose chat template is meant")
        return settings.form.render
    from judgelm.encoding import encode_prompt
    from judgelm.models.folder import find_model
    from judgelm.models.loading import load_tokenizer
    from judgelm.models.prompt_format import find_prompt_format

    folder = find_model(model)
    form = replace(settings, prompt_format=find_prompt_format(folder, wanted).name).form
    tokenizer = load_tokenizer(folder)
    return lambda sample, task, aspect: encode_prompt(sample, task, tokenizer, sys.maxsize, aspect, form).text
