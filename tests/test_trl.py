"""TRL's own trainers with our judge as the reward, on CPU, with policies of two layers."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, build_model, train_byte_tokenizer
from forked import run_forked
from rewarded import judging_api, planted, prefer_short

from judgelm.adapters.trl import AsyncJudgeReward, JudgeReward

pytestmark = [
    pytest.mark.skipif(find_spec("trl") is None, reason="needs the extra rl"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning"),
]
PROMPTS = ["What is 2 + 2?", "Where is Oslo?", "Name a colour.", "How long is a day?"]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("policy") / "policy", train_byte_tokenizer(pad=True))


SETTINGS: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": [],
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
    "gradient_checkpointing": False,
}


def make(trainer: Any, args: Any, policy: Path, rewards: Any) -> Any:
    """A trainer, ready."""
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return trainer(
        AutoModelForCausalLM.from_pretrained(policy),
        reward_funcs=rewards,
        args=args,
        train_dataset=datasets.Dataset.from_dict({"prompt": PROMPTS * 4}),
        processing_class=AutoTokenizer.from_pretrained(policy),
    )


def train(policy: Path, output: Path, rewards: Any, steps: int, **settings: Any) -> list[dict[str, float]]:
    """What GRPO logs at each step."""
    from trl import GRPOConfig, GRPOTrainer

    given = {**SETTINGS, "num_generations": 4, "max_completion_length": 16, "max_steps": steps, **settings}
    trainer = make(GRPOTrainer, GRPOConfig(output_dir=str(output), **given), policy, rewards)
    trainer.train()
    return [entry for entry in trainer.state.log_history if "reward" in entry]


def test_grpo_is_rewarded_by_tiny(policy: Path, tmp_path: Path) -> None:
    logged = train(policy, tmp_path, JudgeReward("tiny", group=4), 1)
    (entry,) = logged
    # wins and losses of a group are as many
    assert entry["rewards/judge_tiny/mean"] == entry["reward"] == pytest.approx(0.5, abs=1e-4)
    assert entry["judge_tiny/unread"] == 0
    assert 1 <= entry["judge_tiny/score"] <= 10
    assert entry["reward_std"] > 0


def test_a_preference_raises_the_reward_of_a_policy(policy: Path, tmp_path: Path) -> None:
    """Shorter is better: by scores their mean rises; by wins, whose mean cannot, the completions grow shorter."""
    choice, _ = planted(prefer_short)
    learnt = {"learning_rate": 1e-2, "beta": 0.0, "per_device_train_batch_size": 32, "num_generations": 8}
    logged = train(policy, tmp_path / "score", JudgeReward(choice, 8, reward="score"), 20, **learnt)
    before, after = (
        sum(entry["rewards/judge_planted/mean"] for entry in part) / 5 for part in (logged[:5], logged[-5:])
    )
    assert before < 3
    assert after > before + 1
    with judging_api() as (url, bodies):
        logged = train(policy, tmp_path / "win", AsyncJudgeReward(url, 8), 20, **learnt)
    assert all(entry["rewards/judge_served/mean"] == pytest.approx(0.5, abs=1e-4) for entry in logged)
    before, after = (sum(entry["judge_served/score"] for entry in part) / 5 for part in (logged[:5], logged[-5:]))
    assert after > before + 1
    assert len(bodies) >= 20


def test_trainers_beside_grpo_take_the_reward(policy: Path, tmp_path: Path) -> None:
    from trl import RLOOConfig, RLOOTrainer
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    choice, engine = planted(prefer_short)
    settings = {**SETTINGS, "max_steps": 1, "output_dir": str(tmp_path)}
    rloo = RLOOConfig(**settings, num_generations=4, max_completion_length=16)
    trainer = make(RLOOTrainer, rloo, policy, JudgeReward(choice, 4))
    trainer.train()
    (logged,) = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert logged["reward"] == pytest.approx(0.5, abs=1e-4)
    # 2 prompts with 6 pairs each, in both orders
    assert 0 < len(engine.judged) <= 24

    engine.judged.clear()
    trainer = make(
        OnlineDPOTrainer, OnlineDPOConfig(**settings, max_new_tokens=16, max_length=64), policy, JudgeReward(choice, 2)
    )
    trainer.train()
    (logged,) = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert logged["loss"] > 0
    # 8 prompts with a pair each
    assert 0 < len(engine.judged) <= 16


SPLIT = """
import asyncio, json, sys
from pathlib import Path
from accelerate.state import PartialState
from judgelm.adapters.trl import AsyncJudgeReward, JudgeReward
from judgelm.errors import InputError

rank = PartialState(cpu=True).process_index
prompts = ["p"] * 4 + ["q"] * 4
completions = ["x" * size for size in (4, 20, 12, 40, 8, 4, 16, 4)]
# each process has half a group
mine = slice(rank * 2, rank * 2 + 2)
found = JudgeReward(sys.argv[1], 4)(prompts[mine], completions[mine], completion_ids=[])
Path(sys.argv[2], f"{rank}.json").write_text(json.dumps(found))
try:
    asyncio.run(AsyncJudgeReward(sys.argv[1], 4)(prompts[mine], completions[mine], completion_ids=[]))
except InputError as error:
    Path(sys.argv[2], f"{rank}.txt").write_text(str(error))
"""


def test_a_group_that_is_spread_over_processes_is_judged_as_a_whole_and_once(tmp_path: Path) -> None:
    (tmp_path / "split.py").write_text(SPLIT)
    with judging_api() as (url, bodies):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        result = run_forked((tmp_path / "split.py", url, tmp_path), environment, 4)
    assert result.returncode == 0, result.stderr
    rewards = [value for rank in range(4) for value in json.loads((tmp_path / f"{rank}.json").read_text())]
    # of "q" two completions are equal
    assert rewards == pytest.approx([1, 1 / 3, 2 / 3, 0, 1 / 3, 2.5 / 3, 0, 2.5 / 3])
    assert sum(len(body["samples"]) for body in bodies) == 6 + 3
    # one that is awaited cannot share them, and says so in each process, before it asks
    for rank in range(4):
        told = (tmp_path / f"{rank}.txt").read_text()
        assert told.startswith("AsyncJudgeReward needs whole groups in each process, found 2 completions, group 4: ")


def test_the_example_runs_as_it_stands(policy: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""}
    with judging_api() as (url, _):
        script, output = ROOT / "examples/integrations/grpo.py", tmp_path / "out"
        result = run_forked((script, "--policy", policy, "--judge", url, "--output-dir", output), environment)
    assert result.returncode == 0, result.stderr
    printed = [line for line in result.stdout.splitlines() if line.startswith(("1 {", "2 {"))]
    assert len(printed) == 2
    assert all("'judge_served/unread': 0.0" in line and "'rewards/judge_served/mean': 0.5" in line for line in printed)
