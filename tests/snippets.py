"""The Python that the pages of docs/ show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from conftest import ROOT


def run_snippet(page: str, module: str, model: Path) -> dict[str, Any]:
    """Run the one snippet of a page that imports from `module`, with this model for `tiny`; the names that it made."""
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text("utf-8"), re.DOTALL)
    (code,) = [snippet for snippet in snippets if f"from {module} import" in snippet]
    names: dict[str, Any] = {}
    exec(code.replace('"tiny"', repr(str(model))), names)
    return names
