#!/usr/bin/env bash
# Judge the answers of four models at once.
# Every path is a variable: MODEL_PATH=tiny OUTPUT_DIR=out bash scripts/grade_multi_answer_on_judgelm_benchmark.sh
set -euo pipefail
cd "$(dirname "$0")/.."
MODEL_PATH=${MODEL_PATH:-BAAI/JudgeLM-7B-v1.0}
MODEL_ID=${MODEL_ID:-7b-full-model}
DATA_DIR=${DATA_DIR:-./judgelm/data/JudgeLM}
OUTPUT_DIR=${OUTPUT_DIR:-./judgements_output/JudgeLM}
ANS1_FILE=${ANS1_FILE:-$DATA_DIR/answers/alpaca_judgelm_val.jsonl}
ANS2_FILE=${ANS2_FILE:-$DATA_DIR/answers/chatglm_judgelm_val.jsonl}
ANS3_FILE=${ANS3_FILE:-$DATA_DIR/answers/dolly_judgelm_val.jsonl}
ANS4_FILE=${ANS4_FILE:-$DATA_DIR/answers/flant5_judgelm_val.jsonl}
REFERENCE_FILE=${REFERENCE_FILE:-$DATA_DIR/judgelm_val_5k_references.jsonl}
PYTHON=${PYTHON:-python}

# the script prints where it wrote the samples
samples=$("$PYTHON" ./judgelm/data/JudgeLM/judgelm_preprocess.py \
  --ans1_file_path "$ANS1_FILE" --ans2_file_path "$ANS2_FILE" --ansmore_file_paths "$ANS3_FILE" "$ANS4_FILE")

"$PYTHON" ./judgelm/llm_judge/gen_model_judgement_multi.py \
  --model-path "$MODEL_PATH" \
  --model-id "$MODEL_ID" \
  --question-file "$samples" \
  --answer-file "$OUTPUT_DIR/$MODEL_ID-multi-ans" \
  --num-gpus-per-model "${NUM_GPUS_PER_MODEL:-1}" \
  --num-gpus-total "${NUM_GPUS_TOTAL:-1}" \
  --temperature "${TEMPERATURE:-0.2}" \
  --reference-file "$REFERENCE_FILE" \
  --if-fast-eval "${IF_FAST_EVAL:-1}" \
  --answer-num 4
