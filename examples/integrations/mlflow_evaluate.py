"""mlflow: outputs graded, and compared with expected answers, in an evaluation run with intervals.

pip install 'judgelm[mlflow]'
python examples/integrations/mlflow_evaluate.py --judge tiny
mlflow ui --backend-store-uri sqlite:///mlflow.db
"""

from __future__ import annotations

import argparse

import mlflow

from judgelm.adapters.mlflow import make_scorer

ROWS = [
    ("What is 2 + 2?", "2 + 2 is 4.", "5"),
    ("What is 3 + 3?", "Six.", "3 + 3 is 6."),
    ("The capital of France?", "Paris.", "Rome"),
    ("Name a primary colour.", "Red.", "Blue"),
]


def main() -> None:
    """Evaluate, print what the run shows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--judge", default="tiny", help="a judge's name, or the URL of a served one")
    parser.add_argument("--tracking-uri", default="sqlite:///mlflow.db")
    args = parser.parse_args()
    mlflow.set_tracking_uri(args.tracking_uri)
    mlflow.set_experiment("judgelm")
    data = [
        {"inputs": {"question": question}, "outputs": output, "expectations": {"expected_response": expected}}
        for question, output, expected in ROWS
    ]
    scorers = [make_scorer(args.judge), make_scorer(args.judge, other="expected_response")]
    result = mlflow.genai.evaluate(data=data, scorers=scorers)
    for name, value in sorted(result.metrics.items()):
        print(f"{name} {value:.3f}")
    print(f"run {result.run_id}")


if __name__ == "__main__":
    main()
