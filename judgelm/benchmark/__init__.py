"""Public benchmarks and labelled pairs: a judge, or verdicts, against labels."""

from judgelm.benchmark.benchmark import (
    BenchmarkData,
    BenchmarkRun,
    check_benchmark,
    read_benchmark,
    run_benchmark,
    score_predictions,
)
from judgelm.benchmark.sets import BENCHMARKS, Benchmark
from judgelm.benchmark.several import run_benchmarks
from judgelm.vocabularies import VOCABULARIES

__all__ = [
    "BENCHMARKS",
    "VOCABULARIES",
    "Benchmark",
    "BenchmarkData",
    "BenchmarkRun",
    "check_benchmark",
    "read_benchmark",
    "run_benchmark",
    "run_benchmarks",
    "score_predictions",
]
