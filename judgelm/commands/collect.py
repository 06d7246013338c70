"""`judgelm collect`: questions and models -> an answer file of each model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from judgelm.console import above_zero, at_least
from judgelm.errors import one_line
from judgelm.flags import FILE_KINDS, add_columns_argument

if TYPE_CHECKING:
    from judgelm.collection import Collection, ModelAnswers

HELP = "collect many models' answers to questions"
DESCRIPTION = (
    "Ask models behind servers with OpenAI's API, and models in this process, each question of a file, and write an"
    " answer file of each. After any interruption the same command goes on where it stopped, and asks nothing again."
)
_MOST_NAMED = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm collect`."""
    parser.add_argument(
        "--questions",
        required=True,
        metavar="FILE",
        help="questions (question_id, question_body), dialogues (messages), any file that judgelm judge takes, or"
        f" questions as MT-bench, Arena-Hard and AlpacaEval write them; {FILE_KINDS}",
    )
    add_columns_argument(parser, "question=prompt")
    parser.add_argument(
        "--models",
        required=True,
        metavar="FILE",
        help="YAML: models, a list, each with a model and if you like name, engine (openai, hf, vllm), base_url,"
        " api_key_env, system, temperature, top_p, max_tokens, max_thinking_tokens, price and more (docs/teaching.md)",
    )
    parser.add_argument(
        "--output-dir", required=True, metavar="DIR", help="gets answers/NAME.jsonl, collect.json and log.jsonl"
    )
    parser.add_argument(
        "--samples",
        type=at_least(1),
        default=1,
        metavar="N",
        help="answers of each model to each question; those after the first have ids such as 17#2",
    )
    parser.add_argument(
        "--limit", type=at_least(1), metavar="N", help="ask only the first N questions; a later run without it goes on"
    )
    parser.add_argument(
        "--max-cost",
        type=above_zero,
        metavar="COST",
        help="stop before the answers cost more, by the prices of the models (default: no limit)",
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="ask again where a server refused to answer the last time"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the sampling; each answer's own comes from it and the question_id"
    )


def run(args: argparse.Namespace) -> None:
    """Collect, and say what came of it."""
    from judgelm.collection import CollectSettings, collect, read_models, read_questions

    settings = CollectSettings(args.samples, args.seed, args.limit, args.max_cost, args.retry_failed)
    models = read_models(args.models)
    found = collect(read_questions(args.questions, args.columns), models, args.output_dir, settings)
    print_collection(found, Path(args.output_dir).expanduser())


def print_collection(found: Collection, folder: Path) -> None:
    """What each model answered, and what all of it cost."""
    for model in found.models:
        print(_counts_line(model))
        failed = [f"{each.question_id} ({each.reason or each.finish_reason})" for each in model.failed]
        for what, names in (("no answer to", failed), ("empty answers to", model.empty)):
            if names:
                more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
                print(f"  {what} {one_line(', '.join(names[:_MOST_NAMED]))}{more}")
    if found.cost is not None:
        print(f"cost: {found.cost:.6g}")
    print(f"written to {', '.join(str(folder / each.file) for each in found.models if each.file)}")


def _counts_line(model: ModelAnswers) -> str:
    counts = {
        "failed": len(model.failed),
        "empty": len(model.empty),
        "cut off": model.cut_off,
        "with thoughts": model.thoughts,
    }
    said = "".join(f", {count} {what}" for what, count in counts.items() if count)
    tokens = f"{model.prompt_tokens} prompt tokens, {model.generated_tokens} generated tokens"
    cost = "" if model.cost is None else f", cost {model.cost:.6g}"
    return one_line(f"{model.name}: {model.answers} answers{said}; {tokens}{cost}")
