#!/usr/bin/env bash
# Grade one model's answers: the reference answer stands in Assistant 1's place with 10.
# Every path is a variable: MODEL_PATH=tiny OUTPUT_DIR=out bash scripts/grade_single_answer_on_judgelm_benchmark.sh
set -euo pipefail
cd "$(dirname "$0")/.."
MODEL_PATH=${MODEL_PATH:-BAAI/JudgeLM-7B-v1.0}
MODEL_ID=${MODEL_ID:-7b-full-model}
DATA_DIR=${DATA_DIR:-./judgelm/data/JudgeLM}
OUTPUT_DIR=${OUTPUT_DIR:-./judgements_output/JudgeLM}
REFERENCE_ANSWER_FILE=${REFERENCE_ANSWER_FILE:-$DATA_DIR/answers/gt_judgelm_val.jsonl}
ANS_FILE=${ANS_FILE:-$DATA_DIR/answers/llama_judgelm_val.jsonl}
REFERENCE_FILE=${REFERENCE_FILE:-$DATA_DIR/judgelm_val_5k_references.jsonl}
PYTHON=${PYTHON:-python}

# the script prints where it wrote the samples
samples=$("$PYTHON" ./judgelm/data/JudgeLM/judgelm_preprocess.py \
  --ans1_file_path "$REFERENCE_ANSWER_FILE" --ans2_file_path "$ANS_FILE")

"$PYTHON" ./judgelm/llm_judge/gen_model_judgement_single.py \
  --model-path "$MODEL_PATH" \
  --model-id "$MODEL_ID" \
  --question-file "$samples" \
  --answer-file "$OUTPUT_DIR/$MODEL_ID-single-ans" \
  --num-gpus-per-model "${NUM_GPUS_PER_MODEL:-1}" \
  --num-gpus-total "${NUM_GPUS_TOTAL:-1}" \
  --temperature "${TEMPERATURE:-0.2}" \
  --reference-file "$REFERENCE_FILE" \
  --if-fast-eval "${IF_FAST_EVAL:-1}"
