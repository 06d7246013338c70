"""Metrics that benchmarks publish."""

from __future__ import annotations

PUBLISHED_KEYS = ("accuracy", "precision", "recall", "f1", "consistency")


PUBLISHED = {
    "without_reference": {
        "JudgeLM-7B": (81.11, 69.67, 78.39, 72.21, 83.57),
        "JudgeLM-13B": (84.33, 73.69, 80.51, 76.17, 85.01),
        "JudgeLM-33B": (89.03, 80.97, 84.76, 82.64, 91.36),
    },
    "with_reference": {
        "JudgeLM-7B": (84.08, 75.92, 82.55, 78.28, 84.46),
        "JudgeLM-13B": (85.47, 77.71, 82.90, 79.77, 87.23),
        "JudgeLM-33B": (89.32, 84.00, 86.21, 84.98, 92.37),
    },
}
"""of the paper, in per cent, by the published rule (arXiv 2310.17631)"""
