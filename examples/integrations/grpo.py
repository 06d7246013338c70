"""GRPO with a judge as the reward (docs/integrations/trl.md).

    python examples/integrations/grpo.py --policy Qwen/Qwen3-0.6B --judge tiny --steps 200

As it stands it needs no network but for the base of `tiny`, which is the policy too, and shows on any machine that all
parts fit: two steps on the questions of examples/pairs.jsonl.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import datasets
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from judgelm.adapters.trl import JudgeReward
from judgelm.jsonl import read_lines
from judgelm.models import find_model

GROUP = 4
EXAMPLES = Path(__file__).resolve().parent.parent


def main() -> None:
    """Train, and print what the judge said at each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="tiny-base", help="hub id or folder of the model that is trained")
    parser.add_argument("--judge", default="tiny", help="hub id, folder, or the address of an API of judgelm serve")
    parser.add_argument("--criteria", help="a YAML file of what is judged by, as in examples/criteria")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--output-dir", default="grpo")
    args = parser.parse_args()

    on_gpu = torch.cuda.is_available()
    policy = find_model(args.policy).path
    tokenizer = AutoTokenizer.from_pretrained(policy)
    questions = [line.record["question_body"] for line in read_lines(EXAMPLES / "pairs.jsonl")]
    chats = [[{"role": "user", "content": question}] for question in questions]
    trainer = GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(policy),
        reward_funcs=JudgeReward(args.judge, group=GROUP, criteria=args.criteria),
        args=GRPOConfig(
            output_dir=args.output_dir,
            num_generations=GROUP,
            per_device_train_batch_size=GROUP,
            max_completion_length=64,
            max_steps=args.steps,
            logging_steps=1,
            learning_rate=1e-6,
            use_cpu=not on_gpu,
            bf16=on_gpu,
            report_to=[],
        ),
        train_dataset=datasets.Dataset.from_dict({"prompt": chats if tokenizer.chat_template else questions}),
        processing_class=tokenizer,
    )
    trainer.train()
    for entry in trainer.state.log_history:
        said = {name: round(value, 3) for name, value in entry.items() if "judge_" in name}
        if said:
            print(entry["step"], said)


if __name__ == "__main__":
    main()
