"""Put a trained adapter into the package as the embedded judge `tiny`, with its card.

python -m scripts.pack_tiny ADAPTER_FOLDER RESULTS.json [FOLDER_OF_THE_TRAINING_BEFORE ..]

The weights are written in bfloat16. RESULTS.json, of benchmarks/tiny.py, gives the card its numbers. Where an adapter
was trained further, the card holds what is known of its trainings before too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.tiny import table
from judgelm.files import write_text
from judgelm.jsonl import read_json
from judgelm.models.tiny import ADAPTER

MOST_BYTES = 12_000_000
KEPT = ("base_model_name_or_path", "lora_alpha", "peft_type", "r", "target_modules", "task_type")
DATA = """## Data and licences

Rows judged by GPT-4, solutions that are known to be right or wrong, and short tasks, split by question
(`scripts/tiny_data.py`, `scripts/tiny_short.py`), from public repositories:

| repository | licence |
|---|---|
| artidoro/qlora | MIT |
| lm-sys/vicuna-blog-eval | Apache-2.0 |
| h2oai/h2o-LLM-eval | Apache-2.0 |
| openai/grade-school-math, with solutions that are right or wrong | MIT |
| yizhongw/self-instruct, its seed tasks with people's answers | Apache-2.0 |

A fifth of the rows of the first two trainings are constructed from these: an answer against a refusal, against its own
beginning, or against the answer to another question. Most of them come first and teach the comparison itself. Of
GPT-4's reasons one sentence was kept, so this judge gives one or two. The third training has references and shows both
orders of a row in one step; the fourth does so too, and begins at step 320 of the third. Its short answers are the
base's own and people's; which is better is what this judge said of them, in both orders, after the second training.

The base is SmolLM2-135M-Instruct (Apache-2.0). Rows of other licences had no part in these weights. The adapter is
Apache-2.0, as this package is.
"""


def main(adapter: Path, results: Path, before: Sequence[Path]) -> None:
    """Write adapter_model.safetensors, adapter_config.json and README.md into the package."""
    card = _card(adapter)
    ADAPTER.mkdir(parents=True, exist_ok=True)
    weights = load_file(adapter / "adapter_model.safetensors")
    packed = ADAPTER / "adapter_model.safetensors"
    save_file({name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}, packed, metadata={"format": "pt"})
    packed.chmod(0o644)
    config = read_json(adapter / "adapter_config.json")
    kept = {name: config[name] for name in KEPT} | {"inference_mode": True}
    kept["target_modules"] = sorted(kept["target_modules"])
    write_text(ADAPTER / "adapter_config.json", json.dumps(kept, indent=1) + "\n")
    card = card.replace("library_name: peft\n", "license: apache-2.0\n")
    card = card.replace("A judge fine-tuned with JudgeLM", "tiny, the embedded judge of JudgeLM")
    card = card.replace("--model FOLDER", "--model tiny")
    parts = [card.rstrip("\n")]
    for folder in before:
        settings = _card(folder).split("# A judge fine-tuned with JudgeLM", 1)[1].split("\n\n", 2)[2]
        parts += ["## The training before", settings.replace("## Training", "### Training").rstrip("\n")]
    parts += [DATA.rstrip("\n"), "## Results", "On questions it was not trained on, in per cent:"]
    parts.append(table(read_json(results)["sets"]))
    write_text(ADAPTER / "README.md", "\n\n".join(parts) + "\n")
    size = packed.stat().st_size
    print(f"{packed}: {size / 1e6:.1f} MB")
    if size > MOST_BYTES:
        sys.exit(f"expected at most {MOST_BYTES / 1e6:.0f} MB")


def _card(folder: Path) -> str:
    card = (folder / "README.md").read_text(encoding="utf-8")
    if "# A judge fine-tuned with JudgeLM" not in card:
        sys.exit(f"{folder}: expected the final folder of a training, whose card says what it was trained on")
    return card


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(folder) for folder in sys.argv[3:]])
