"""What FastChat's controllers, workers and clients say to each other."""

from __future__ import annotations

import json
from typing import Any

from fastchat import constants, conversation

from judgelm.verdict_forms import SCORES

OUR_WORKER = "judgelm"
"""a field of /model_details: this worker takes samples and shortens answers itself"""
CONVERSATION = "vicuna_v1.1"
"""FastChat's name for the chat format of the released judges"""

ErrorCode = constants.ErrorCode
Conversation = conversation.Conversation
SeparatorStyle = conversation.SeparatorStyle
get_conv_template = conversation.get_conv_template
HEART_BEAT_INTERVAL_S: int = constants.WORKER_HEART_BEAT_INTERVAL
HEART_BEAT_EXPIRATION_S: int = constants.CONTROLLER_HEART_BEAT_EXPIRATION
TOO_LARGE = 41300
"""an error code of ours: a body that a worker does not take"""


class WorkerError(Exception):
    """A worker's refusal; `code` is one of FastChat's `ErrorCode`."""

    def __init__(self, message: str, code: int, verdict_format: str = SCORES) -> None:
        super().__init__(message)
        self.code = code
        self.verdict_format = verdict_format
        """in which the verdict would have been said"""


def error_body(message: str, code: int, verdict_format: str = SCORES) -> dict[str, Any]:
    """How a worker says that it could not."""
    return {"text": message, "error_code": int(code), **form_fields(verdict_format)}


def error_chunk(message: str, code: int, verdict_format: str = SCORES) -> bytes:
    """The same in a stream."""
    return json.dumps(error_body(message, code, verdict_format)).encode() + b"\0"


def form_fields(verdict_format: str) -> dict[str, str]:
    """How a worker says in which form a judgement's verdict is asked for, where that is no line of scores."""
    return {} if verdict_format == SCORES else {"verdict_format": verdict_format}
