#!/usr/bin/env bash
# Judge a multimodal model's answers on MM-Vet.
# Every path is a variable: MODEL_PATH=tiny OUTPUT_DIR=out bash scripts/judge_on_mmvet_benchmark.sh
set -euo pipefail
cd "$(dirname "$0")/.."
MODEL_PATH=${MODEL_PATH:-BAAI/JudgeLM-33B-v1.0}
MODEL_ID=${MODEL_ID:-33b-full-model}
DATA_DIR=${DATA_DIR:-./judgelm/data/MM-Vet}
OUTPUT_DIR=${OUTPUT_DIR:-./judgements_output/MM-Vet}
GT_FILE=${GT_FILE:-$DATA_DIR/mm-vet-gt.json}
PRED_FILE=${PRED_FILE:-$DATA_DIR/mm-vet-emu-prediction.json}
PYTHON=${PYTHON:-python}

# the script prints where it wrote the samples
samples=$("$PYTHON" ./judgelm/data/MM-Vet/mmvet_preprocess.py --gt_file_path "$GT_FILE" --pred_file_path "$PRED_FILE")

"$PYTHON" ./judgelm/llm_judge/gen_model_judgement_mmvet.py \
  --model-path "$MODEL_PATH" \
  --model-id "$MODEL_ID" \
  --question-file "$samples" \
  --answer-file "$OUTPUT_DIR/$MODEL_ID-judgements" \
  --num-gpus-per-model "${NUM_GPUS_PER_MODEL:-1}" \
  --num-gpus-total "${NUM_GPUS_TOTAL:-1}" \
  --temperature "${TEMPERATURE:-0.2}" \
  --if-fast-eval "${IF_FAST_EVAL:-1}"
