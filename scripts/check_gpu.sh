#!/usr/bin/env bash
# Check on a machine with GPUs what could not be run where this project was written: CUDA, flash-attn, several GPUs.
set -uo pipefail
cd "$(dirname "$0")/.."
scripts/setup || exit
python=.venv/bin/python
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
  { echo "check_gpu: PyTorch finds no GPU on this machine (nvidia-smi shows whether there is one)" >&2; exit 2; }
"$python" - <<'EOF'
import importlib.util
import torch
for index in range(torch.cuda.device_count()):
    card = torch.cuda.get_device_properties(index)
    print(f"GPU {index}: {card.name}, {card.total_memory >> 30} GiB")
print("torch", torch.__version__, "| flash-attn", "there" if importlib.util.find_spec("flash_attn") else "missing")
EOF
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=()
try() {
  local name=$1
  shift
  echo "== $name"
  "$@" >"$work/log" 2>&1 || { failed+=("$name"); tail -n 20 "$work/log"; }
}
gpus=$("$python" -c 'import torch; print(torch.cuda.device_count())')
try "engine" "$python" -m pytest -q tests/test_gpu.py
try "judge on every GPU" "$python" judgelm/llm_judge/gen_model_judgement.py --model-path tiny --model-id tiny \
  --question-file examples/pairs.jsonl --answer-file "$work/all.jsonl" --num-gpus-per-model 1 --num-gpus-total "$gpus" \
  --temperature 0 --reference-file None --if-fast-eval 1
"$python" - "$work/rows.jsonl" <<'EOF'
import json, sys
with open(sys.argv[1], "w") as file:
    for k in range(64):
        row = {"question_id": k, "question_body": f"What is {k} + {k}?", "answer1_body": f"{2 * k}", "answer2_body": "?"}
        file.write(json.dumps({**row, "text": "9 2\nAssistant 1 is right.", "score": [9, 2]}) + "\n")
EOF
try "train with FSDP and offload" "$python" -m torch.distributed.run --standalone --nproc_per_node="$gpus" \
  judgelm/train/train_mem.py --model_name_or_path tiny-base --data_path "$work/rows.jsonl" --bf16 True \
  --output_dir "$work/trained" --max_steps 2 --per_device_train_batch_size 1 --gradient_accumulation_steps 2 \
  --evaluation_strategy no --save_strategy no --learning_rate 2e-5 --fsdp "full_shard auto_wrap offload" \
  --fsdp_transformer_layer_cls_to_wrap LlamaDecoderLayer --tf32 True --gradient_checkpointing True --report_to none
try "judge with what was trained" .venv/bin/judgelm judge --model "$work/trained" --question-file examples/pairs.jsonl \
  --output-dir "$work/judged" --scores-only --scoring expected
if ((${#failed[@]})); then
  printf 'check_gpu: failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
echo "check_gpu: all passed; how fast it is: $python -m benchmarks.gpu --output build/gpu.json (10 minutes, 14 GiB of disk)"
