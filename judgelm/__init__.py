"""JudgeLM: train, run, evaluate and serve language models that judge other models' answers."""

from judgelm.judge.judge import Judge
from judgelm.sample import Sample
from judgelm.verdict import Verdict

__version__ = "0.1.0"
__all__ = ["Judge", "Sample", "Verdict", "__version__"]
