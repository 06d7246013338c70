#!/usr/bin/env bash
# Trains the embedded judge `tiny`: a LoRA adapter of SmolLM2-135M-Instruct on GPT-4's judgements, on a CPU, in five
# trainings: a curriculum, the real pairs that it left, references and both orders at once, short answers, then all of it.
#   scripts/train_tiny.sh JUDGED.jsonl OBJECTIVE.jsonl SEEDS.jsonl [WORK_FOLDER]
# With and without swap augmentation, the first 300 steps of the curriculum in each case:
#   scripts/train_tiny.sh --ablation JUDGED.jsonl OBJECTIVE.jsonl [WORK_FOLDER]
# JUDGED.jsonl: training rows with `license` and `source`; OBJECTIVE.jsonl: questions with a solution and answers that
# are right or wrong, as tiny_data.py describes; SEEDS.jsonl: short tasks, as tiny_short.py describes. Interrupted, the
# same command goes on from the last checkpoint. MEASURED, if set, is a file of questions that are measured with.
set -euo pipefail
cd "$(dirname "$0")/.."
ABLATION=
if [ "${1:-}" = --ablation ]; then ABLATION=yes; shift; fi
USAGE="usage: scripts/train_tiny.sh [--ablation] JUDGED.jsonl OBJECTIVE.jsonl [SEEDS.jsonl] [WORK_FOLDER]"
JUDGED=${1:?$USAGE}
OBJECTIVE=${2:?$USAGE}
if [ -z "$ABLATION" ]; then SEEDS=${3:?$USAGE}; shift; fi
WORK=${3:-build/tiny}
PYTHON=${PYTHON:-.venv/bin/python}

train() { # MODEL ROWS OUTPUT FLAG..
    "$PYTHON" judgelm/train/train_lora.py \
        --model_name_or_path "$1" \
        --data_path "$2" \
        --output_dir "$3" \
        --bf16 True \
        --num_train_epochs 1 \
        --per_device_train_batch_size 4 \
        --train_sampling_strategy sequential \
        --packing True \
        --lr_scheduler_type cosine \
        --score_loss_weight 10 \
        --model_max_length 2048 \
        --save_steps 100 \
        --save_total_limit 12 \
        --logging_steps 1 \
        "${@:4}"
}
FIRST=(--learning_rate 1.5e-3 --warmup_ratio 0.01 --lora_r 16 --lora_alpha 32 --lora_first_layer 6)
trained() { [ -f "$1/adapter_model.safetensors" ]; }

"$PYTHON" scripts/tiny_data.py "$JUDGED" "$OBJECTIVE" "$WORK"
if [ -n "$ABLATION" ]; then
    # a thread for each, side by side
    OMP_NUM_THREADS=1 train tiny-base "$WORK/train.jsonl" "$WORK/swap" "${FIRST[@]}" --max_steps 300 \
        --swap_aug_ratio 0.5 >"$WORK/swap.log" 2>&1 &
    OMP_NUM_THREADS=1 train tiny-base "$WORK/train.jsonl" "$WORK/no-swap" "${FIRST[@]}" --max_steps 300 \
        --swap_aug_ratio -1 >"$WORK/no-swap.log" 2>&1 &
    wait -n && wait -n
    "$PYTHON" -m benchmarks.tiny --models "$WORK/swap" "$WORK/no-swap" --teacher "$WORK/dev.jsonl" \
        --work "$WORK/judged" --output "$WORK/ablation.json"
    exit
fi
trained "$WORK/first" ||
    train tiny-base "$WORK/train.jsonl" "$WORK/first" "${FIRST[@]}" --swap_aug_ratio 0.5
trained "$WORK/adapter" ||
    train "$WORK/first" "$WORK/further.jsonl" "$WORK/adapter" \
        --learning_rate 8e-4 --warmup_ratio 0.03 --swap_aug_ratio 0.5
# the reference is learnt at step 320 of 460, and what follows is learnt better from there
trained "$WORK/third" ||
    train "$WORK/adapter" "$WORK/references.jsonl" "$WORK/third" --per_device_train_batch_size 3 \
        --learning_rate 6e-4 --warmup_ratio 0.03 --swap_consistency 10 --reference_prob 0.9 --save_steps 40
"$PYTHON" -m scripts.tiny_short questions "$SEEDS" "$JUDGED" "$WORK" ${MEASURED:+"$MEASURED"}
"$PYTHON" -m judgelm collect --questions "$WORK/questions.jsonl" --models scripts/tiny_models.yaml \
    --output-dir "$WORK/collected"
"$PYTHON" -m judgelm teach --answers "$WORK/people.jsonl" "$WORK"/collected/answers/*.jsonl --teacher "$WORK/adapter" \
    --model-id tiny --scoring expected --validation 0.02 --output-dir "$WORK/taught"
"$PYTHON" -m scripts.tiny_short rows "$JUDGED" "$WORK/references.jsonl" "$WORK/taught" "$WORK/fourth.jsonl"
trained "$WORK/fourth" ||
    train "$WORK/third/checkpoint-320" "$WORK/fourth.jsonl" "$WORK/fourth" --per_device_train_batch_size 3 \
        --learning_rate 6e-4 --warmup_ratio 0.03 --swap_consistency 10 --reference_prob 1
"$PYTHON" -m scripts.tiny_short last "$JUDGED" "$WORK/fourth.jsonl" "$WORK/fifth.jsonl"
trained "$WORK/fifth" ||
    train "$WORK/fourth" "$WORK/fifth.jsonl" "$WORK/fifth" --per_device_train_batch_size 3 \
        --learning_rate 3e-4 --warmup_ratio 0.03 --swap_consistency 20 --reference_prob 1
"$PYTHON" -m benchmarks.tiny --models "$WORK/adapter" "$WORK/fifth" --scorings expected \
    --teacher "$WORK/dev.jsonl" "$WORK/dev_objective.jsonl" --work "$WORK/judged" --output "$WORK/results.json"
"$PYTHON" -m scripts.pack_tiny "$WORK/fifth" "$WORK/results.json" \
    "$WORK/fourth" "$WORK/third" "$WORK/adapter" "$WORK/first"
