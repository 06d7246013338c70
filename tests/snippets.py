"""The Python that the pages of docs/ show."""

from __future__ import annotations

import re
from typing import Any

from conftest import ROOT

from judgelm.judge.choice import JudgeChoice


def run_snippet(page: str, module: str, judge: JudgeChoice) -> dict[str, Any]:
    """Run the one snippet of a page that imports from `module`, with this judge for `tiny`; the names that it made."""
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text("utf-8"), re.DOTALL)
    (code,) = [snippet for snippet in snippets if f"from {module} import" in snippet]
    tiny = 'ModelChoice("tiny", device="cpu")'
    assert tiny in code
    names: dict[str, Any] = {"planted": judge}
    exec(code.replace(tiny, "planted"), names)
    return names
