"""What verl would be given as rewards (docs/integrations/verl.md): a look before a training.

    judgelm serve --model tiny
    python examples/integrations/verl_reward.py

JUDGELM_URL names another server. The calls are those of verl's reward managers, with their keywords.
"""

from __future__ import annotations

from judgelm.adapters.verl import compute_score, compute_scores

QUESTION = "A jacket costs 80 euros. The shop takes 25% off, and then another 10% off the reduced price. What do I pay?"
COMPLETIONS = [
    "80 euros less 25% are 60 euros, and these less 10% are 54. You pay 54 euros.",
    "25% and 10% are 35%, so you pay 52 euros.",
    "Jackets are warm.",
]


def main() -> None:
    """Print the rewards of three completions: among themselves, and against the ground truth."""
    extra_info = {"question": QUESTION, "index": 0}
    count = len(COMPLETIONS)
    group = compute_scores(
        data_sources=["shop"] * count,
        solution_strs=COMPLETIONS,
        ground_truths=["54 euros."] * count,
        extra_infos=[extra_info] * count,
    )
    for completion, among in zip(COMPLETIONS, group, strict=True):
        alone = compute_score(
            data_source="shop", solution_str=completion, ground_truth="54 euros.", extra_info=extra_info
        )
        print(f"{among['score']:.3f} {alone['score']:.3f} {completion}")


if __name__ == "__main__":
    main()
