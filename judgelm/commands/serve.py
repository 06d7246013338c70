"""`judgelm serve`: a controller, workers, the API and the page."""

from __future__ import annotations

import argparse
from pathlib import Path

from judgelm.console import flags_of
from judgelm.errors import InputError
from judgelm.flags import add_allowed_hosts, add_chat_format, add_device_arguments, add_engine_argument
from judgelm.prompt_flags import (
    add_calibration_argument,
    add_prompt_format_argument,
    add_reasoning_arguments,
    add_template_arguments,
)
from judgelm.serve.settings import API_PORT, PAGE_PORT, ServeSettings
from judgelm.serve_flags import add_api_arguments, add_drain_timeout, add_root_path

HELP = "serve judges: a web page and an API"
DESCRIPTION = (
    "Start a controller, a worker for each model, the API and the web page, each a process with its "
    "own log, and stop them all with Ctrl-C."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `judgelm serve`."""
    parser.add_argument(
        "--model", nargs="+", default=["tiny"], metavar="M", help="hub ids, local folders, PEFT adapters, or tiny"
    )
    parser.add_argument(
        "--served-model-name",
        nargs="+",
        default=[],
        metavar="NAME",
        help="under which clients ask for them, one name for each model, such as org/model (default: the last part of"
        " --model)",
    )
    parser.add_argument("--num-workers", type=int, default=1, metavar="N", help="workers of each model")
    parser.add_argument("--num-gpus-per-worker", type=int, default=1, metavar="N", help="GPUs over which one is spread")
    add_engine_argument(parser, servers=False)
    add_device_arguments(parser)
    add_prompt_format_argument(parser)
    add_template_arguments(parser)
    add_reasoning_arguments(parser)
    add_calibration_argument(parser, "; results of scoring expected have them beside the judge's own")
    parser.add_argument("--host", default="127.0.0.1", help="address on which page and API listen")
    parser.add_argument("--port", type=int, default=PAGE_PORT, help="port of the page")
    parser.add_argument("--api-port", type=int, default=API_PORT, metavar="PORT", help="port of the API")
    parser.add_argument(
        "--controller-host", default="127.0.0.1", metavar="HOST", help="address on which the controller listens"
    )
    parser.add_argument(
        "--controller-port", type=int, default=0, metavar="PORT", help="its port (default: any that is free)"
    )
    parser.add_argument("--worker-host", default="127.0.0.1", metavar="HOST", help="address on which workers listen")
    add_allowed_hosts(parser)
    add_api_arguments(parser)
    add_root_path(parser)
    add_drain_timeout(parser)
    add_chat_format(parser)
    parser.add_argument(
        "--workers-only",
        action="store_true",
        help="workers for the controller of another machine, without page and API",
    )
    parser.add_argument("--controller-address", metavar="URL", help="that controller, for --workers-only")
    parser.add_argument("--share", action="store_true", help="make the page public through gradio's tunnel")
    parser.add_argument(
        "--gradio-auth-path", metavar="FILE", help="visitors of the page must log in; user:password lines"
    )
    parser.add_argument("--log-dir", default="logs", metavar="FOLDER", help="where all logs and votes.jsonl go")


def run(args: argparse.Namespace) -> None:
    """Start everything and wait for Ctrl-C or SIGTERM."""
    from judgelm.serve.launch import serve

    if args.workers_only != (args.controller_address is not None):
        raise InputError("--workers-only and --controller-address URL belong together")
    given = flags_of(ServeSettings, args)
    given |= {"models": tuple(args.model), "allowed_hosts": tuple(args.allowed_hosts), "log_dir": Path(args.log_dir)}
    given |= {"max_reasoning_tokens": args.max_reasoning_token, "drain_s": args.drain_timeout}
    given |= {"served_model_names": tuple(args.served_model_name), "allow_origins": tuple(args.allow_origin)}
    serve(ServeSettings(**given))
