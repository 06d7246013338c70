"""Texts that are held to a JSON schema."""

from __future__ import annotations

from typing import Any

import pytest

from judgelm.engine.schema_text import count_levels


def leads_to(*names: str) -> dict[str, Any]:
    return {"anyOf": [{"$ref": name} for name in names]}


@pytest.mark.parametrize(
    ("schema", "levels"),
    [
        ({"type": "integer"}, 1),
        ({"type": "array", "items": {"type": "integer"}}, 2),
        # to itself, which counts once however often it is named
        ({"type": "array", "items": leads_to("#", "#")}, 4 + 4),
        # 2 for {"d": {..}}, of which d's own have 2 and 1
        ({"d": {"a": {"items": {"$ref": "#/d/b"}}, "b": {}}, "$ref": "#/d/a"}, 4 + 2 + 1),
        # by a name of its own, and to what is not there: it may be all of it
        ({"d": {"$anchor": "a"}, **leads_to("#a", "#/none")}, 3 + 3 + 3),
    ],
)
def test_the_levels_of_a_schema_count_all_that_its_references_lead_to(schema: dict[str, Any], levels: int) -> None:
    assert count_levels(schema) == levels
