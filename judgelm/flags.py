"""The judging commands' flags: ours and the published ones, each said once."""

from __future__ import annotations

import argparse
from typing import Any

from judgelm.console import above_zero, at_least, flags_of, from_zero, json_object, none_or_text
from judgelm.engine.interface import LoadOptions
from judgelm.forms import KNOWN_FORMS, Columns
from judgelm.judge.settings import ORDERS, SCORINGS
from judgelm.models.devices import COMPILE, DTYPES
from judgelm.models.weights import QUANTIZATIONS
from judgelm.prompt import TASKS
from judgelm.prompt_flags import add_prompt_format_argument, add_reasoning_arguments, add_template_arguments

MODEL_NAMES = (
    "hub id, local folder, PEFT adapter folder, or an embedded one: tiny, tiny-base; of a server: its name for the"
    " model"
)
FILE_KINDS = "JSON Lines, a JSON list, CSV, TSV or Parquet, packed with gzip or not, or a hub data set, org/set:split"


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that name the samples, and what is judged of them."""
    tasks = "; ".join(f"{task.name}: {task.help}" for task in TASKS.values())
    parser.add_argument("--task", default="pair", metavar="TASK", help=f"what is judged ({tasks})")
    add_file_arguments(parser)
    parser.add_argument(
        "--answer-num",
        type=at_least(2),
        metavar="N",
        help="task multi: how many answers of each sample (default: all it has)",
    )


def add_criteria_argument(parser: argparse.ArgumentParser) -> None:
    """By what answers are judged."""
    parser.add_argument(
        "--criteria",
        metavar="FILE",
        help="YAML with a name, aspects (each a name and a text, and if you like a weight and anchors) and a scale such"
        " as [1, 5]: answers are judged by one aspect after the other; tasks pair, multi and grade (default: the task's"
        " own question; examples/criteria has six)",
    )


def add_file_arguments(
    parser: argparse.ArgumentParser, references: str = "reference answers shown to the judge"
) -> None:
    """Flags that name questions and references."""
    known = "; or ".join(form.name for form in KNOWN_FORMS)
    parser.add_argument(
        "--question-file",
        required=True,
        metavar="FILE",
        help=f"judge samples (question_id, question_body, answer1_body, answer2_body; or {known}): {FILE_KINDS}",
    )
    add_columns_argument(parser, "question=prompt,answer1=chosen,answer2=rejected,reference=gold,label=winner")
    add_thinking_argument(parser)
    parser.add_argument(
        "--reference-file", type=none_or_text, metavar="FILE", help=f"{references}, joined on question_id"
    )


def add_answers_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that name the answer files of many models, and how they are read."""
    parser.add_argument(
        "--answers",
        required=True,
        nargs="+",
        metavar="FILE",
        help="a file for each model, as judgelm collect writes them: question_id, question_body, text, and maybe model"
        " (default: the file's name); or as AlpacaEval, Arena-Hard and, with --question-file, MT-bench write them;"
        f" {FILE_KINDS}",
    )
    parser.add_argument(
        "--question-file",
        metavar="FILE",
        help="the questions of answer files that have none, such as MT-bench's question.jsonl (question_id, turns); of"
        " several turns the first is judged",
    )
    add_columns_argument(parser, "question=prompt,answer=reply,model=generator")
    add_thinking_argument(parser)


def add_thinking_argument(parser: argparse.ArgumentParser) -> None:
    """Whether the judge sees what models thought."""
    parser.add_argument(
        "--keep-thinking",
        action="store_true",
        help="show the judge an answer's thoughts too: what stands at its beginning in tags such as <think> ..</think>"
        " (default: they are left out of the prompt, and counted)",
    )


def add_columns_argument(parser: argparse.ArgumentParser, example: str) -> None:
    """How a file names its columns."""
    parser.add_argument(
        "--columns",
        type=_columns,
        metavar="OURS=THEIRS,..",
        help=f"names of the file's columns, ours on the left, such as {example}; without question_id rows are numbered",
    )


def _columns(value: str) -> Columns:
    try:
        return Columns.parse(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_keep_judged_argument(parser: argparse.ArgumentParser) -> None:
    """Whether judgements of an earlier question file count."""
    parser.add_argument(
        "--keep-judged",
        action="store_true",
        help="go on though rows of the question or reference file were removed, changed or added: what was judged of"
        " rows whose texts are the same is kept, other judgements are moved to a file of the same name and .left-out",
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that say who judges."""
    parser.add_argument(
        "--model",
        default="tiny",
        help=MODEL_NAMES,
    )
    add_engine_argument(parser)
    parser.add_argument("--model-id", help="name of the judge in the records (default: the model's)")


def add_engine_argument(parser: argparse.ArgumentParser, servers: bool = True) -> None:
    """What runs the model: with `servers` one of other people's too."""
    said = "what runs the model; hf: transformers, in this process; vllm: vLLM, in this process"
    theirs = "; openai: a server with OpenAI's API, such as judgelm serve, vLLM or a vendor" if servers else ""
    choices = ("hf", "vllm", *(["openai"] if servers else []))
    parser.add_argument("--engine", default="hf", choices=choices, help=said + theirs)


def add_run_arguments(
    parser: argparse.ArgumentParser, orders: bool = True, scoring: str | None = "sample", default: str = ""
) -> None:
    """Flags of what judges samples and keeps all judgements; without `orders` both are judged."""
    if orders:
        parser.add_argument(
            "--orders",
            choices=tuple(ORDERS),
            help="as given, answers 1 and 2 exchanged, or one after the other; all: task multi, as many rotations as a"
            " sample has answers, each of which so stands once in each place (default: both for task pair, else"
            " forward)",
        )
    parser.add_argument("--scores-only", action="store_true", help="stop after the score line: no reasons")
    add_judging_arguments(parser, scoring, default)
    add_keep_judged_argument(parser)


def add_judging_arguments(parser: argparse.ArgumentParser, scoring: str | None = "sample", default: str = "") -> None:
    """Flags that say how it judges, and where it runs; `default` tells what `scoring` None means."""
    parser.add_argument(
        "--scoring",
        default=scoring,
        choices=tuple(SCORINGS),
        help="; ".join(f"{name}: {what}" for name, what in SCORINGS.items())
        + ". expected gives the expected scores and"
        " the probability of each outcome, and no reasons come with it; of --engine openai it needs a server that gives"
        " logprobs, which is asked several times for each sample, and --api completions" + default,
    )
    parser.add_argument(
        "--limit", type=at_least(1), metavar="N", help="judge only the first N samples; a later run without it goes on"
    )
    add_generation_arguments(parser)
    add_criteria_argument(parser)
    add_template_arguments(parser)
    add_reasoning_arguments(parser)
    parser.add_argument(
        "--constrained",
        action=argparse.BooleanOptionalAction,
        help="let the model write nothing but a score line first, so that all can be parsed (default: on for tiny and"
        " tiny-base)",
    )
    add_prompt_format_argument(parser)
    add_device_arguments(parser)
    parser.add_argument(
        "--cache",
        nargs="?",
        const="",
        metavar="DIR",
        help="keep judgements in a folder for other runs, and judge nothing again that is there: same judge, settings"
        " and prompt (without DIR: judgements in ~/.cache/judgelm)",
    )
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
    most = "most requests under way at once"
    group.add_argument("--max-concurrency", type=at_least(1), default=16, metavar="N", help=most)
    group.add_argument(
        "--requests-per-minute",
        type=above_zero,
        metavar="N",
        help="most requests a minute, evenly spaced (default: no limit)",
    )
    group.add_argument(
        "--request-timeout",
        type=above_zero,
        default=600,
        metavar="SECONDS",
        help="how long one judgement may take, to its last byte, before it is asked for again",
    )
    group.add_argument(
        "--request-fields",
        type=json_object,
        metavar="JSON",
        help="fields set in each request as they are, null leaving one out: "
        """'{"max_tokens": null, "max_completion_tokens": 4096}'""",
    )
    group.add_argument(
        "--price-per-million-tokens",
        type=from_zero,
        nargs=2,
        metavar=("IN", "OUT"),
        help="prices of prompt tokens and generated tokens: the run's cost is printed and kept in run.json",
    )


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that say how a model is held."""
    parser.add_argument(
        "--dtype",
        default="auto",
        choices=DTYPES,
        help="of the weights; auto: bfloat16 where the hardware computes in it",
    )
    parser.add_argument(
        "--quantization",
        choices=QUANTIZATIONS,
        help="weights of linear layers in 8 bits, half the memory of bfloat16; int8: and no faster (needs torchao);"
        " int8_dynamic: on a CPU their inputs too, which is faster and less exact",
    )
    kernels = "on a CPU, compile parts of the layers, in up to half a minute; auto: where that is earned back"
    parser.add_argument("--compile", default="auto", choices=COMPILE, help=kernels)
    parser.add_argument("--device", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    parser.add_argument(
        "--batch-tokens",
        type=at_least(1),
        metavar="N",
        help="most tokens in one batch; fewer need less memory (default: what the memory holds)",
    )


def add_loading_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of who loads one model for a server or a chat; `loading` reads them."""
    add_engine_argument(parser, servers=False)
    parser.add_argument("--num-gpus", type=int, default=1, metavar="N", help="GPUs over which the model is spread")
    parser.add_argument("--max-gpu-memory", metavar="SIZE", help="most memory of each of them, such as 37GiB")
    add_device_arguments(parser)
    add_prompt_format_argument(parser)


def loading(args: argparse.Namespace) -> dict[str, Any]:
    """How `Judge.load` is to load it."""
    return flags_of(LoadOptions, args) | {"engine": args.engine, "prompt_format": args.prompt_format}


def add_generation_arguments(parser: argparse.ArgumentParser, published: bool = False) -> None:
    """Flags of sampling, and of the GPUs. The published scripts count GPUs in all; `--num-replicas` says the same, so
    our own commands take that flag and do not show it.
    """
    total = (
        "all GPUs: one replica of the model for each --num-gpus-per-model of them (default: those of one model;"
        " with --device cpu both flags say nothing)"
    )
    replicas = "--num-gpus-total / --num-gpus-per-model, on a CPU 1" if published else "1"
    parser.add_argument("--temperature", type=from_zero, default=0.2, metavar="T", help="of the sampling; 0 is greedy")
    parser.add_argument(
        "--max-new-token", type=at_least(1), default=2048, metavar="N", help="most tokens of a judgement"
    )
    parser.add_argument(
        "--num-gpus-per-model", type=at_least(1), default=1, metavar="N", help="GPUs over which one model is spread"
    )
    parser.add_argument(
        "--num-gpus-total", type=at_least(1), metavar="N", help=total if published else argparse.SUPPRESS
    )
    parser.add_argument(
        "--num-replicas",
        type=at_least(1),
        metavar="N",
        help="replicas of the model, which share the work, each on --num-gpus-per-model GPUs; on a CPU each has its"
        f" share of the cores (default: {replicas})",
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


def add_allowed_hosts(parser: argparse.ArgumentParser) -> None:
    """The flag that all servers share."""
    parser.add_argument(
        "--allowed-hosts",
        type=lambda text: [name.strip() for name in text.split(",") if name.strip()],
        default=[],
        metavar="A,B",
        help="further host names by which it may be called, as behind a proxy; *.A is all below A, * is any",
    )


def add_chat_format(parser: argparse.ArgumentParser) -> None:
    """The flag of whoever starts a worker."""
    parser.add_argument(
        "--chat-format",
        choices=("auto", "model", "vicuna"),
        default="auto",
        help="of chat completions: the tokenizer's own template (model), the released judges' (vicuna), or the first"
        " where there is one (auto)",
    )
