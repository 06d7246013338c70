"""Public benchmarks, and verdicts on them."""
