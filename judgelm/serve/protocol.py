"""What FastChat's controllers, workers and clients say to each other."""

from __future__ import annotations

import json
from typing import Any

from fastchat import constants, conversation

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

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def error_body(message: str, code: int) -> dict[str, Any]:
    """How a worker says that it could not."""
    return {"text": message, "error_code": int(code)}


def error_chunk(message: str, code: int) -> bytes:
    """The same in a stream."""
    return json.dumps(error_body(message, code)).encode() + b"\0"
