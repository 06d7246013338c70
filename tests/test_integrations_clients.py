"""Other people's clients meet the API as it is: the examples of docs/integrations/openai.md run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, ROOT
from serving import Address

MODEL = "random-llama"
EXAMPLES = ROOT / "examples" / "integrations"
TOOLS = ROOT / ".venv-tools"
ASKED = {"question": "What is the capital of Norway?", "answers": ["Oslo.", "It is Bergen."]}
SEVERAL = "import runpy, sys; [runpy.run_path(path, run_name='__main__') for path in sys.argv[1:]]"
"""importing one of these libraries takes seconds, and what they share is imported once"""


@pytest.fixture(scope="module")
def verdict(api: Address) -> tuple[list[float], str]:
    """Scores and outcome, as the API's own route says them."""
    settings = {"temperature": 0, "constrained": True, "scores_only": True}
    (found,) = api.post("/v1/judgements", {"samples": [ASKED], **settings}).json()["data"]
    return found["scores"], found["outcome"]


def run(command: list[str | Path], api: Address, **env: str) -> dict[str, str]:
    """What a program says, by the first word of each line."""
    said = {"JUDGELM_URL": api.url, "JUDGELM_MODEL": MODEL, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    env = os.environ | said | {"LANGSMITH_TRACING": "false", "NO_PROXY": "127.0.0.1"} | env
    done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in done.stdout.splitlines()}


def tools() -> Path:
    python = TOOLS / "bin" / "python"
    if not python.exists():
        pytest.skip("other people's tools are not here: scripts/setup_tools puts them into .venv-tools")
    return python


def numbers(text: str) -> list[float]:
    return [float(one) for one in re.findall(r"(?:score[12]\"?[=:]\s*)([\d.]+)", text)]


def test_openais_own_client_of_this_environment(api: Address, verdict: tuple[list[float], str]) -> None:
    pytest.importorskip("openai")
    said = run([sys.executable, EXAMPLES / "openai_judge.py"], api)
    word = {"win": "answer 1", "tie": "tie", "lose": "answer 2"}[verdict[1]]
    for name in ("chat", "response"):
        assert numbers(said[name]) == verdict[0]
        assert f"winner='{word}'" in said[name]


def test_litellm_langchain_and_instructor(api: Address, verdict: tuple[list[float], str]) -> None:
    names = ("openai", "litellm", "langchain", "instructor")
    said = run([tools(), "-c", SEVERAL, *(EXAMPLES / f"{name}_judge.py" for name in names)], api)
    assert set(said) == {"chat", "response", "litellm", "langchain", "instructor"}
    word = {"win": "A", "tie": "tie", "lose": "B"}[verdict[1]]
    assert numbers(said["chat"]) == numbers(said["litellm"]) == verdict[0]
    assert f"winner='{word}'" in said["litellm"]
    # the scripts print a line for each way; the last one of each is here
    assert re.fullmatch(r"function_calling accuracy=[1-5] politeness=[1-5]", said["langchain"])
    assert re.match(r"JSON_SCHEMA Verdict\(scores=\[[\d.]+, [\d.]+\], winner='(A|B|tie)', reasons=", said["instructor"])


def test_curl(api: Address, verdict: tuple[list[float], str]) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    page = (ROOT / "docs" / "integrations" / "openai.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"```\n(curl [^`]+)```", page)
    command = command.replace("http://127.0.0.1:21003", api.url).replace('"tiny"', f'"{MODEL}"')
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=PATIENCE_S)
    found = json.loads(json.loads(done.stdout)["choices"][0]["message"]["content"])
    assert set(found) == {"score1", "score2", "winner"}
    assert [found["score1"], found["score2"]] == verdict[0]


def test_openais_client_in_javascript(api: Address, verdict: tuple[list[float], str]) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    if not (TOOLS / "node_modules" / "openai").exists():
        pytest.skip("the npm package openai is not here: scripts/setup_tools puts it into .venv-tools")
    said = run([node, EXAMPLES / "openai_judge.cjs"], api, NODE_PATH=str(TOOLS / "node_modules"))
    assert said["chat"] == said["stream"] == said["response"]
    found = json.loads(said["chat"])
    # whole numbers were asked for; halves go up
    assert [found["score1"], found["score2"]] == [int(score + 0.5) for score in verdict[0]]


LM_EVAL = """
import json, sys
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.evaluator import simple_evaluate
from lm_eval.tasks import TaskManager

folder, url, tasks = sys.argv[1:]
own = HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=4)
ours = LocalCompletionsAPI(
    model="random-llama", base_url=url + "/v1/completions", tokenizer_backend="huggingface", tokenizer=folder,
    batch_size=4, num_concurrent=1, max_length=own.max_length, add_bos_token=True,
)
found = {}
for name, model in (("hf", own), ("local-completions", ours)):
    results = simple_evaluate(
        model=model, tasks=["judgelm_small"], task_manager=TaskManager(include_path=tasks, include_defaults=False),
        log_samples=True, bootstrap_iters=0, verbosity="ERROR",
    )
    rolled = model.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, ("The sky is blue. " * 40,), 0)])
    found[name] = {
        "acc": results["results"]["judgelm_small"]["acc,none"],
        "resps": [[one[0] for one in sample["resps"]] for sample in results["samples"]["judgelm_small"]],
        "rolled": rolled,
    }
print("found", json.dumps(found))
"""
TASK = """
task: judgelm_small
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{gold}}}}"
metric_list: [{{metric: acc}}]
"""
ROWS = [
    {"question": "The sky is", "choices": [" blue", " made of cheese and of nothing else"], "gold": 0},
    {"question": "2 + 2 =", "choices": [" 5", " 4", " 22"], "gold": 1},
    {"question": "Oslo lies in", "choices": [" Norway", " Sweden"], "gold": 0},
    {"question": "A question that is far longer than the others. " * 12, "choices": [" yes", " no"], "gold": 1},
]


def test_lm_evals_local_completions_finds_what_its_own_backend_finds(
    api: Address, model_folder: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    (tmp_path / "judgelm_small.yaml").write_text(TASK.format(rows=rows), encoding="utf-8")
    said = run([tools(), "-c", LM_EVAL, model_folder, api.url, tmp_path], api, HF_HOME=str(tmp_path / "cache"))
    found: dict[str, Any] = json.loads(said["found"])
    own, ours = found["hf"], found["local-completions"]
    assert ours["acc"] == own["acc"]
    assert [len(each) for each in own["resps"]] == [len(row["choices"]) for row in ROWS]  # type: ignore[arg-type]
    for one, other in zip(own["resps"], ours["resps"], strict=True):
        for (log_prob, greedy), (again, greedy_too) in zip(one, other, strict=True):
            assert again == pytest.approx(log_prob, abs=1e-4)
            assert greedy_too == greedy
    assert ours["rolled"] == pytest.approx(own["rolled"], abs=1e-4)
