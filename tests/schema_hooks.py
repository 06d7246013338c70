"""What schemathesis loads in test_fastchat.py: texts are kept short.

A model that was never trained writes as much as it may, for minutes, where a body leaves that open or asks for much.
What is no number of tokens stays as it is, a mistake of the client.
"""

from __future__ import annotations

from typing import Any

import schemathesis

_MOST = 8
_FIELDS = {
    "/v1/judgements": ("max_new_tokens",),
    "/v1/rewards": ("max_new_tokens",),
    "/v1/chat/completions": ("max_tokens", "max_completion_tokens"),
    "/v1/completions": ("max_tokens",),
    "/v1/responses": ("max_output_tokens",),
}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    fields = _FIELDS.get(case.path, ())
    if not fields or not isinstance(case.body, dict):
        return
    if all(case.body.get(field) is None for field in fields):
        case.body[fields[0]] = _MOST
    for field in fields:
        if type(asked := case.body.get(field)) is int and _MOST < asked <= 1_000_000:
            case.body[field] = _MOST
