#!/usr/bin/env bash
# Trains the embedded judge `tiny`: a LoRA adapter of SmolLM2-135M-Instruct on GPT-4's judgements, on a CPU.
#   scripts/train_tiny.sh JUDGED.jsonl [WORK_FOLDER]
# JUDGED.jsonl: training rows with `license` and `source`, as tiny_data.py describes. Interrupted, the same command goes
# on from the last checkpoint.
set -euo pipefail
cd "$(dirname "$0")/.."
JUDGED=${1:?usage: scripts/train_tiny.sh JUDGED.jsonl [WORK_FOLDER]}
WORK=${2:-build/tiny}
PYTHON=${PYTHON:-.venv/bin/python}

"$PYTHON" scripts/tiny_data.py "$JUDGED" "$WORK"
"$PYTHON" judgelm/train/train_lora.py \
    --model_name_or_path tiny-base \
    --data_path "$WORK/train.jsonl" \
    --output_dir "$WORK/adapter" \
    --bf16 True \
    --num_train_epochs 1 \
    --per_device_train_batch_size 4 \
    --train_sampling_strategy sequential \
    --packing True \
    --learning_rate 1.5e-3 \
    --warmup_ratio 0.01 \
    --lr_scheduler_type cosine \
    --lora_r 16 \
    --lora_alpha 32 \
    --lora_first_layer 6 \
    --score_loss_weight 10 \
    --swap_aug_ratio "${SWAP_AUG_RATIO:-0.5}" \
    --model_max_length 2048 \
    --save_steps 100 \
    --save_total_limit 12 \
    --logging_steps 1
