"""What FastChat's controllers, workers and clients say to each other, and FastChat's own classes for it.

Importing FastChat's servers replaces sys.stdout, sys.stderr and the log's form, and opens log files in the working
folder; that is undone here, so import them from here alone.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
from types import ModuleType
from typing import Any

OUR_WORKER = "judgelm"
"""a field of /model_details: this worker takes samples and shortens answers itself"""
CONVERSATION = "vicuna_v1.1"
"""FastChat's name for the chat format of the released judges"""


def _import(name: str) -> ModuleType:
    streams, root = (sys.stdout, sys.stderr), logging.getLogger()
    handlers = [(handler, handler.formatter) for handler in root.handlers]
    os.environ.setdefault("LOGDIR", "")
    try:
        return importlib.import_module(name)
    finally:
        sys.stdout, sys.stderr = streams
        root.handlers[:] = [handler for handler, _ in handlers]
        for handler, formatter in handlers:
            handler.setFormatter(formatter)


constants = _import("fastchat.constants")
conversation = _import("fastchat.conversation")
_base_worker = _import("fastchat.serve.base_model_worker")
_controller = _import("fastchat.serve.controller")

ErrorCode = constants.ErrorCode
Conversation = conversation.Conversation
SeparatorStyle = conversation.SeparatorStyle
get_conv_template = conversation.get_conv_template
BaseModelWorker: type[Any] = _base_worker.BaseModelWorker
BaseController: type[Any] = _controller.Controller
DispatchMethod = _controller.DispatchMethod
WorkerInfo = _controller.WorkerInfo
HEART_BEAT_INTERVAL_S: int = constants.WORKER_HEART_BEAT_INTERVAL
HEART_BEAT_EXPIRATION_S: int = constants.CONTROLLER_HEART_BEAT_EXPIRATION
# else the first worker would open a log file of its own
vars(_base_worker)["logger"] = logging.getLogger("judgelm.serve.model_worker")


class WorkerError(Exception):
    """A worker's refusal; `code` is one of FastChat's `ErrorCode`."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


TOO_LARGE = 41300
"""an error code of ours: a body that a worker does not take"""


def error_body(message: str, code: int) -> dict[str, Any]:
    """How a worker says that it could not."""
    return {"text": message, "error_code": int(code)}


def error_chunk(message: str, code: int) -> bytes:
    """The same in a stream."""
    return json.dumps(error_body(message, code)).encode() + b"\0"
