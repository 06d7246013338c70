"""JudgeLM: train, run, evaluate and serve language models that judge other models' answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from judgelm.sample import Sample

if TYPE_CHECKING:
    from judgelm.llm_judge.judge import Judge, Verdict

__version__ = "0.1.0"
__all__ = ["Judge", "Sample", "Verdict", "__version__"]


def __getattr__(name: str) -> Any:
    """`Judge` and `Verdict` bring torch with them, so they are imported when first asked for."""
    if name in ("Judge", "Verdict"):
        from judgelm.llm_judge import judge

        return getattr(judge, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
