"""Ways of computing the same that take turns, so that noise of the machine meets all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def core_milliseconds(ways: Mapping[str, Callable[[], object]], rounds: int, times: int = 1) -> dict[str, float]:
    """Median milliseconds that each way computes, all threads together; each round calls it so many `times`, and one
    round before the others is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            for _ in range(times):
                way()
            if turn:
                seconds[name].append((time.process_time() - start) / times)
    return {name: round(1000 * statistics.median(each), 4) for name, each in seconds.items()}
