"""JudgeLM: train, run, evaluate and serve language models that judge other models' answers."""

from judgelm.llm_judge.judge import Judge, Verdict
from judgelm.sample import Sample

__version__ = "0.1.0"
__all__ = ["Judge", "Sample", "Verdict", "__version__"]
