"""inspect_ai: a model's answers against those of another, and graded by criteria, by a judge of judgelm.

    pip install 'judgelm[inspect]'
    python examples/integrations/inspect_task.py --judge tiny
    python examples/integrations/inspect_task.py --judge http://127.0.0.1:21003 --model openai/gpt-4o-mini

The model is inspect's own mock here, which needs no network; any other that inspect knows will do.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import inspect_ai
from inspect_ai import Task
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessage, ModelOutput, ModelUsage, get_model
from inspect_ai.solver import generate

from judgelm.adapters.inspect import grade_scorer, pairwise_scorer, write_answers

CRITERIA = str(Path(__file__).resolve().parent.parent / "criteria" / "helpful.yaml")
QUESTIONS = [
    # the target is the other answer; `topic` says which questions are not independent
    Sample(id=1, input="What is 2 + 2?", target="5", metadata={"topic": "sums"}),
    Sample(id=2, input="What is 3 + 3?", target="3 + 3 is 6.", metadata={"topic": "sums"}),
    Sample(id=3, input="The capital of France?", target="Rome", metadata={"topic": "towns"}),
    Sample(id=4, input="Name a primary colour.", target="Blue.", metadata={"topic": "art"}),
]
SAID = dict(zip([sample.input for sample in QUESTIONS], ["2 + 2 is 4.", "Six.", "Paris.", "Red."], strict=True))


def mock(messages: list[ChatMessage], *_: Any) -> ModelOutput:
    """The answers above; with a usage, for which inspect would else fetch a tokenizer."""
    output = ModelOutput.from_content("mockllm/model", SAID[messages[-1].text])
    output.usage = ModelUsage()
    return output


def main() -> None:
    """Run the task, print its metrics."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--judge", default="tiny", help="a judge's name, or the URL of a served one")
    parser.add_argument("--model", default="mockllm/model")
    parser.add_argument("--log-dir", default="logs")
    args = parser.parse_args()
    model = get_model(args.model, custom_outputs=mock) if args.model.startswith("mockllm") else args.model
    task = Task(
        dataset=QUESTIONS,
        solver=generate(),
        scorer=[
            pairwise_scorer(args.judge, cluster="topic"),
            grade_scorer(args.judge, CRITERIA),
        ],
    )
    (log,) = inspect_ai.eval(task, model=model, log_dir=args.log_dir, display="none")
    if log.status != "success" or log.results is None:
        raise SystemExit(f"the task ended with {log.status}: {log.error}")
    for scores in log.results.scores:
        for name, number in scores.metrics.items():
            print(f"{scores.name} {name} {number.value:.3f}")
    print(f"{write_answers(log, Path(args.log_dir) / 'answers.jsonl')} answers for judgelm arena")


if __name__ == "__main__":
    main()
