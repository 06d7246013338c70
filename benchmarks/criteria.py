"""Four aspects against one, over the same rows: what the prompts' common beginning saves.

    python -m benchmarks.criteria --data examples/pairs.jsonl --output benchmarks/criteria.json

One process, the model loaded once; one aspect and all aspects take turns, in another order each round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

from benchmarks.provenance import current_commit, this_machine
from judgelm import Judge
from judgelm.criteria import Criteria, read_criteria
from judgelm.files import write_text
from judgelm.judge.description import versions
from judgelm.samples import read_samples


def main() -> None:
    """Measure, then write raw numbers and the ratio of medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="judge samples")
    parser.add_argument("--criteria", default="examples/criteria/code_review.yaml", help="a file with four aspects")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scoring", default="greedy", choices=("greedy", "expected"))
    parser.add_argument("--output", required=True, help="raw numbers and summary, JSON")
    args = parser.parse_args()
    samples = read_samples(args.data)[: args.rows]
    all_aspects = read_criteria(args.criteria)
    ways = {"one": Criteria(all_aspects.name, all_aspects.aspects[:1]), "all": all_aspects}
    judge = Judge.load(args.model)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    tokens: dict[str, int] = {}
    judge.judge(samples[:2], criteria=all_aspects, scoring=args.scoring, scores_only=True)
    for turn in range(args.rounds):
        for name in list(ways)[:: 1 if turn % 2 == 0 else -1]:
            start = time.perf_counter()
            judge.judge(samples, criteria=ways[name], scoring=args.scoring, scores_only=True)
            seconds[name].append(round(time.perf_counter() - start, 3))
            print(f"{turn + 1}/{args.rounds} {name}: {seconds[name][-1]} s", flush=True)
    for name, criteria in ways.items():
        prompts = [judge.engine.fit(sample, "pair", 64, each) for sample in samples for each in criteria.aspects]
        tokens[name] = sum(len(prompt.input_ids) for prompt in prompts)
    commit = current_commit()
    report = {
        "command": f"python -m benchmarks.criteria {' '.join(sys.argv[1:])}",
        "commit": commit,
        "versions": versions(),
        "machine": this_machine(),
        "engine": dict(judge.description),
        "rows": len(samples),
        "aspects": len(all_aspects.aspects),
        "seconds": seconds,
        "prompt_tokens": tokens,
        "ratio_of_medians": statistics.median(seconds["all"]) / statistics.median(seconds["one"]),
    }
    write_text(args.output, json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
