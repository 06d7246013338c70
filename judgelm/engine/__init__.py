"""What runs a judge: a model in this process, by transformers or vLLM, or a server."""

from judgelm.engine.interface import (
    Engine,
    FinishReason,
    Generation,
    LineScores,
    LoadOptions,
    OnText,
    Request,
    Sampling,
)

__all__ = ["Engine", "FinishReason", "Generation", "LineScores", "LoadOptions", "OnText", "Request", "Sampling"]
