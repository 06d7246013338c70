"""docs/cli.md, from the same parsers that answer --help."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
from collections.abc import Sequence

import transformers

from judgelm.cli import build_parser
from judgelm.commands.published import (
    evaluate_parser,
    judgelm_preprocess_parser,
    mmvet_preprocess_parser,
    published_parser,
)
from judgelm.train.arguments import DataArguments, LoraArguments, ModelArguments, TrainingArguments

HUGGING_FACE = {field.name for field in dataclasses.fields(transformers.TrainingArguments)} - {"output_dir"}


def cli_page() -> str:
    """The whole page."""
    parts = [
        "# Commands\n",
        "Written by `scripts/docs` from what `--help` says; a test says when it is stale.\n",
        "Every command exits with 0 when it is done, 2 on a mistake in flags or files (one line on stderr), and 130"
        " after Ctrl-C; `judgelm train-data check` with 1 where a share is above its threshold. Results go to"
        " stdout, progress to stderr.\n",
    ]
    for action in build_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, parser in action.choices.items():
                parts.extend(sections(f"judgelm {name}", parser))
    parts.append("# Published scripts\n")
    parts.append(section("judgelm/data/JudgeLM/judgelm_preprocess.py", judgelm_preprocess_parser()))
    parts.append(section("judgelm/data/MM-Vet/mmvet_preprocess.py", mmvet_preprocess_parser()))
    for task, ending in (("pair", ""), ("single", "_single"), ("multi", "_multi"), ("mmvet", "_mmvet")):
        parts.append(section(f"judgelm/llm_judge/gen_model_judgement{ending}.py", published_parser(task)))
    parts.append(section("judgelm/llm_judge/eval_model_judgement.py", evaluate_parser()))
    parts.append("# Servers\n")
    for name in ("controller", "model_worker", "api", "gradio_web_server_judgelm", "cli"):
        parts.append(section(f"judgelm.serve.{name}", importlib.import_module(f"judgelm.serve.{name}").build_parser()))
    parts.append("# Training scripts\n")
    parts.append(
        "They also take the flags of Hugging Face's `TrainingArguments`; `judgelm train --help` and `--help` of each"
        " script list all.\n"
    )
    scripts = "judgelm/train/train.py, train_mem.py, train_xformers.py"
    parts.append(training_flags(scripts, "Fine-tune a judge.", (ModelArguments, DataArguments, TrainingArguments)))
    parts.append(training_flags("judgelm/train/train_lora.py", "Those above, and these.", (LoraArguments,)))
    return "\n".join(parts)


def sections(name: str, parser: argparse.ArgumentParser) -> list[str]:
    """A command, or all of its actions where it has some."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return [part for word, inner in action.choices.items() for part in sections(f"{name} {word}", inner)]
    return [section(name, parser)]


def training_flags(name: str, description: str, groups: Sequence[type]) -> str:
    """The flags that a training script has beside those of Hugging Face's TrainingArguments."""
    rows = ["| flag | meaning |", "|---|---|"]
    for field in (field for group in groups for field in dataclasses.fields(group)):
        if field.name in HUGGING_FACE:
            continue
        default = field.default_factory() if callable(field.default_factory) else field.default
        known = default is not None and default is not dataclasses.MISSING
        said = f" (default: {' '.join(default) if isinstance(default, list) else default})" if known else ""
        rows.append(f"| `--{field.name}` | {field.metadata['help']}{said} |")
    return f"## {name}\n\n{description}\n\n" + "\n".join(rows) + "\n"


def section(name: str, parser: argparse.ArgumentParser) -> str:
    """One command: what it does and a table of its arguments, those without a flag first."""
    rows = ["| argument | meaning |", "|---|---|"]
    formatter = parser._get_formatter()
    shown = [a for a in parser._actions if a.help is not argparse.SUPPRESS and a.dest != "help"]
    for action in sorted(shown, key=lambda a: bool(a.option_strings)):
        # how often it may be given is said in argparse's own way: D, [D], [D ...]
        value = formatter._format_args(action, formatter._get_default_metavar_for_positional(action))
        if action.option_strings:
            value = ", ".join(f"{flag} {option_value(action)}".rstrip() for flag in action.option_strings)
        need = " (required)" if action.option_strings and action.required else ""
        named = ", ".join(f"`{part}`" for part in value.split(", ")).replace("|", "\\|")
        rows.append(f"| {named} | {formatter._expand_help(action)}{need} |")
    return f"## {name}\n\n{parser.description}\n\n" + "\n".join(rows) + "\n"


def option_value(action: argparse.Action) -> str:
    """What follows a flag."""
    if action.nargs == 0:
        return ""
    words = action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper()
    return words if isinstance(words, str) else " ".join(words)
