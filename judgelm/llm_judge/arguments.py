"""The judging commands' flags: ours and the published ones, each said once."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from typing import Any

from judgelm.console import Parser
from judgelm.jsonl import InputError
from judgelm.llm_judge.cluster import Placement
from judgelm.llm_judge.judge import SCORINGS
from judgelm.model import QUANTIZATIONS
from judgelm.preprocess import JUDGELM_OUTPUT, MMVET_OUTPUT
from judgelm.prompt import TASKS


def add_prompt_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm prompt`."""
    _add_input_arguments(parser)
    parser.add_argument("--reverse", action="store_true", help="exchange answers 1 and 2 first")
    parser.add_argument("--seed", type=int, default=0, help="task mmvet: picks among alternative ground truths")


def _add_input_arguments(parser: argparse.ArgumentParser) -> None:
    tasks = "; ".join(f"{task.name}: {task.help}" for task in TASKS.values())
    parser.add_argument("--task", default="pair", metavar="TASK", help=f"what is judged ({tasks})")
    add_file_arguments(parser)
    parser.add_argument(
        "--answer-num",
        type=at_least(2),
        metavar="N",
        help="task multi: how many answers of each sample (default: all it has)",
    )


def add_file_arguments(
    parser: argparse.ArgumentParser, references: str = "reference answers shown to the judge"
) -> None:
    """Flags that name questions and references."""
    parser.add_argument("--question-file", required=True, metavar="FILE", help="judge samples, JSON Lines")
    parser.add_argument(
        "--reference-file", type=none_or_text, metavar="FILE", help=f"{references}, joined on question_id"
    )


def add_judge_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm judge`."""
    add_model_arguments(parser)
    _add_input_arguments(parser)
    parser.add_argument(
        "--output-dir", required=True, metavar="DIR", help="gets forward.jsonl, reversed.jsonl, run.json"
    )
    add_orders_argument(parser)
    add_scores_only_argument(parser)
    add_judging_arguments(parser)
    add_keep_judged_argument(parser)


def add_keep_judged_argument(parser: argparse.ArgumentParser) -> None:
    """Whether judgements of an earlier question file count."""
    parser.add_argument(
        "--keep-judged",
        action="store_true",
        help="go on though rows of the question or reference file were removed, changed or added: what was judged of"
        " rows whose texts are the same is kept, other judgements are moved to a file of the same name and .left-out",
    )


def add_orders_argument(parser: argparse.ArgumentParser) -> None:
    """In which orders two answers are shown."""
    parser.add_argument(
        "--orders",
        choices=("forward", "reversed", "both"),
        help="as given, answers 1 and 2 exchanged, or one after the other (default: both for task pair, else forward)",
    )


def add_scores_only_argument(parser: argparse.ArgumentParser) -> None:
    """Whether reasons are wanted."""
    parser.add_argument("--scores-only", action="store_true", help="stop after the score line: no reasons")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that say who judges."""
    parser.add_argument(
        "--model",
        default="tiny",
        help="hub id, local folder, PEFT adapter folder, or an embedded one: tiny, tiny-base; of a server: its name for"
        " the model",
    )
    parser.add_argument(
        "--engine",
        default="hf",
        choices=("hf", "vllm", "openai"),
        help="what runs the model; hf: transformers, in this process; vllm: vLLM, in this process; openai: a server"
        " with OpenAI's API, such as judgelm serve, vLLM or a vendor",
    )
    parser.add_argument("--model-id", help="name of the judge in the records (default: the model's)")


def add_judging_arguments(parser: argparse.ArgumentParser, scoring: str | None = "sample", default: str = "") -> None:
    """Flags that say how it judges, and where it runs; `default` tells what `scoring` None means."""
    parser.add_argument(
        "--scoring",
        default=scoring,
        choices=tuple(SCORINGS),
        help="; ".join(f"{name}: {what}" for name, what in SCORINGS.items())
        + ". expected gives the expected scores and"
        " the probability of each outcome, needs --engine hf or vllm, and no reasons come with it" + default,
    )
    parser.add_argument(
        "--limit", type=at_least(1), metavar="N", help="judge only the first N samples; a later run without it goes on"
    )
    _add_generation_arguments(parser)
    parser.add_argument(
        "--constrained",
        action=argparse.BooleanOptionalAction,
        help="let the model write nothing but a score line first, so that all can be parsed (default: on for tiny and"
        " tiny-base)",
    )
    add_device_arguments(parser)
    parser.add_argument(
        "--seed", type=int, default=0, help="of the sampling; each sample's own comes from it and the question_id"
    )
    _add_server_arguments(parser)


def _add_server_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a server as the judge, --engine openai")
    group.add_argument(
        "--base-url",
        metavar="URL",
        help="of the server, up to /v1 with most, such as http://127.0.0.1:21003/v1 (default: OPENAI_BASE_URL of the"
        " environment)",
    )
    group.add_argument(
        "--api",
        default="completions",
        choices=("completions", "chat"),
        help="completions: the server continues the very prompt, as judges trained for it need; chat: the prompt is one"
        " message, for general models of vendors that have no completions",
    )
    group.add_argument(
        "--api-key-variable",
        metavar="NAME",
        help="environment variable with the API key, which is written nowhere (default: OPENAI_API_KEY, where it is"
        " set)",
    )
    group.add_argument(
        "--max-concurrency", type=at_least(1), default=16, metavar="N", help="most requests under way at once"
    )
    group.add_argument(
        "--requests-per-minute",
        type=_above_zero,
        metavar="N",
        help="most requests a minute, evenly spaced (default: no limit)",
    )
    group.add_argument(
        "--request-timeout",
        type=_above_zero,
        default=600,
        metavar="SECONDS",
        help="how long one judgement may take before it is asked for again",
    )
    group.add_argument(
        "--request-fields",
        type=_json_object,
        metavar="JSON",
        help="fields set in each request as they are, null leaving one out: "
        """'{"max_tokens": null, "max_completion_tokens": 4096}'""",
    )
    group.add_argument(
        "--price-per-million-tokens",
        type=_from_zero,
        nargs=2,
        metavar=("IN", "OUT"),
        help="prices of prompt tokens and generated tokens: the run's cost is printed and kept in run.json",
    )


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that say how a model is held."""
    parser.add_argument(
        "--dtype",
        default="auto",
        choices=("auto", "bfloat16", "float16", "float32"),
        help="of the weights; auto: bfloat16 where the hardware computes in it",
    )
    parser.add_argument(
        "--quantization",
        choices=QUANTIZATIONS,
        help="keep the weights of linear layers in 8 bits: half the memory of bfloat16 (needs torchao)",
    )
    parser.add_argument("--device", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    parser.add_argument(
        "--batch-tokens",
        type=at_least(1),
        metavar="N",
        help="most tokens in one batch; fewer need less memory (default: what the memory holds)",
    )


def _add_generation_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--temperature", type=_from_zero, default=0.2, metavar="T", help="of the sampling; 0 is greedy")
    parser.add_argument(
        "--max-new-token", type=at_least(1), default=2048, metavar="N", help="most tokens of a judgement"
    )
    parser.add_argument(
        "--num-gpus-per-model", type=at_least(1), default=1, metavar="N", help="GPUs over which one model is spread"
    )
    parser.add_argument(
        "--num-gpus-total",
        type=at_least(1),
        metavar="N",
        help="all GPUs: one replica of the model for each --num-gpus-per-model of them (default: those of one model;"
        " with --device cpu both flags say nothing)",
    )
    parser.add_argument(
        "--num-replicas",
        type=at_least(1),
        metavar="N",
        help="replicas of the model, which share the work; on a CPU each has its share of the cores (default:"
        " --num-gpus-total / --num-gpus-per-model, on a CPU 1)",
    )
    parser.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="join a running Ray cluster: auto or host:port (default: several replicas start Ray on this machine)",
    )
    parser.add_argument(
        "--max-gpu-memory",
        metavar="SIZE",
        help="most memory for weights on each GPU, such as 37GiB, where a model is spread over several",
    )


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
    _add_generation_arguments(parser)
    add_keep_judged_argument(parser)
    parser.set_defaults(
        scoring="sample", quantization=None, dtype="auto", device=None, batch_tokens=None, seed=0, constrained=None
    )
    parser.set_defaults(engine="hf")
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


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm evaluate`."""
    parser.add_argument(
        "folder", nargs="?", metavar="DIR", help="folder that judgelm judge wrote (or --forward and --reversed)"
    )
    parser.add_argument("--forward", metavar="FILE", help="judgements in forward order, where no folder is given")
    parser.add_argument(
        "--reversed", metavar="FILE", help="judgements with answers 1 and 2 exchanged: gives consistency and bias"
    )
    parser.add_argument(
        "--teacher",
        metavar="FILE",
        help="teacher judgements (question_id, text), or people's labels (question_id, label: 1, 2 or 0 for a tie;"
        " annotators: a list of labels): gives agreement, precision, recall, F1 (default: what the judged rows bring"
        " along)",
    )
    parser.add_argument("--against", metavar="DIR", help="compare with another judge's folder, on the same samples")
    parser.add_argument("--output", metavar="FILE", help="write all numbers with their intervals as JSON")


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm train-data check`."""
    parser.add_argument("file", metavar="FILE", help="training rows: a JSONL file, or a data set of the hub")
    parser.add_argument(
        "--tokenizer", metavar="MODEL", help="count tokens as this model would: hub id, local folder or tiny-base"
    )
    parser.add_argument(
        "--model-max-length", type=at_least(1), default=2048, metavar="N", help="most tokens of an example"
    )
    parser.add_argument("--validation-file", metavar="FILE", help="training rows on which a judge will be measured")
    for name, default, what in (
        ("skipped", 5.0, "rows that cannot be trained on"),
        ("shortened", 20.0, "rows whose answers must be shortened"),
        ("double", 10.0, "rows with a question and answers that stand in the file already"),
        ("overlap", 0.0, "validation questions that stand in the training file too"),
    ):
        parser.add_argument(
            f"--max-{name}", type=_percentage, default=default, metavar="PERCENT", help=f"most {what}, in percent"
        )


def add_merge_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm merge`."""
    parser.add_argument("--adapter", required=True, metavar="MODEL", help="adapter folder or hub id")
    parser.add_argument("--output-dir", required=True, metavar="DIR", help="gets the whole model; must not exist yet")
    parser.add_argument(
        "--dtype",
        default="bfloat16",
        choices=("bfloat16", "float16", "float32"),
        help="of the weights that are written; the sum is taken in float32",
    )


def none_or_text(value: str) -> str | None:
    """The published commands say None where there is no file."""
    return None if value == "None" else value


def at_least(least: int) -> Callable[[str], int]:
    """The type of a flag that is a whole number from `least` on."""

    def parse(value: str) -> int:
        number = int(value)
        if number < least:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} on, found {value}")
        return number

    parse.__name__ = "whole number"
    return parse


def _from_zero(value: str) -> float:
    number = float(value)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number from 0 on, found {value}")
    return number


_from_zero.__name__ = "number"


def _above_zero(value: str) -> float:
    number = float(value)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {value}")
    return number


_above_zero.__name__ = "number"


def _json_object(value: str) -> dict[str, Any]:
    try:
        fields = json.loads(value)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise argparse.ArgumentTypeError(f"expected a JSON object, found {value}")
    return fields


def _percentage(value: str) -> float:
    number = float(value)
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"expected 0 to 100, found {value}")
    return number


_percentage.__name__ = "number"


def check_replicas(args: argparse.Namespace) -> Placement:
    """How many replicas there will be and what each gets.

    Raises InputError where the flags contradict each other or this machine has not what they ask for.
    """
    if args.device == "cpu":
        return _on_cores(args.num_replicas or 1, args.ray_address)
    each: int = args.num_gpus_per_model
    total: int = args.num_gpus_total or each * (args.num_replicas or 1)
    if total % each:
        raise InputError(f"--num-gpus-total {total} is no multiple of --num-gpus-per-model {each}")
    placement = Placement(total // each, each, args.device, args.ray_address)
    if args.num_replicas not in (None, placement.replicas):
        raise InputError(
            f"--num-replicas {args.num_replicas}: --num-gpus-total {total} with --num-gpus-per-model {each} makes"
            f" {placement.replicas}"
        )
    if placement.alone:
        return placement
    if args.device not in (None, "cuda"):
        raise InputError(f"--device {args.device} holds one model: replicas need cuda or cpu")
    return placement if args.ray_address else _place_here(placement, total, args.num_gpus_total is not None)


def _place_here(placement: Placement, total: int, gpus_asked: bool) -> Placement:
    """The replicas on this machine's GPUs, or on its cores where it has no GPU and none was asked for."""
    import torch

    there = torch.cuda.device_count()
    if there >= total:
        return placement
    if there:
        raise InputError(f"{total} GPUs are asked for ({placement.replicas} replicas), this machine has {there}")
    if gpus_asked or placement.gpus_each > 1 or placement.device:
        raise InputError(
            f"{total} GPUs are asked for, this machine has none that can be used; to judge on its CPU leave"
            f" --num-gpus-total out, or say --num-replicas N instead"
        )
    return _on_cores(placement.replicas, None)


def _on_cores(replicas: int, address: str | None) -> Placement:
    cores = os.cpu_count() or 1
    if address is None and replicas > cores:
        raise InputError(f"{replicas} replicas are asked for, this machine has {cores} cores")
    return Placement(replicas, 0, "cpu", address)
