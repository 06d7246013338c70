"""JSON schemas in the body of a request, from anybody."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator

from judgelm.errors import InputError, encodable
from judgelm.json_text import check_depth
from judgelm.serve.worker_requests import MOST_SCHEMA


def check_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Raises InputError for one that is too long or too deep to be read and said again, or is no JSON."""
    check_depth(schema, "the schema")
    try:
        written = json.dumps(schema, allow_nan=False)
    except ValueError:
        raise InputError("the schema has a number that is not finite") from None
    if len(written) > MOST_SCHEMA:
        raise InputError(f"the schema has {len(written):,} characters, expected {MOST_SCHEMA:,} at most")
    if not encodable(json.dumps(schema, ensure_ascii=False)):
        raise InputError("the schema has half a surrogate pair, which is no text")
    return schema


SchemaField = Annotated[dict[str, Any], AfterValidator(check_schema)]
"""a field of a body"""
