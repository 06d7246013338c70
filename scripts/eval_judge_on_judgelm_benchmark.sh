#!/usr/bin/env bash
# The paper's four runs (with and without reference, forward and reversed) and their metrics.
# Every path is a variable: MODEL_PATH=tiny OUTPUT_DIR=out bash scripts/eval_judge_on_judgelm_benchmark.sh
set -euo pipefail
cd "$(dirname "$0")/.."
MODEL_PATH=${MODEL_PATH:-BAAI/JudgeLM-7B-v1.0}
MODEL_ID=${MODEL_ID:-7b-full-model}
DATA_DIR=${DATA_DIR:-./judgelm/data/JudgeLM}
OUTPUT_DIR=${OUTPUT_DIR:-./judgements_output/JudgeLM}
QUESTION_FILE=${QUESTION_FILE:-$DATA_DIR/judgelm_val_5k.jsonl}
REFERENCE_FILE=${REFERENCE_FILE:-$DATA_DIR/judgelm_val_5k_references.jsonl}
GT_FILE=${GT_FILE:-$DATA_DIR/judgelm_val_5k_gpt4.jsonl}
GT_WITH_REFERENCE_FILE=${GT_WITH_REFERENCE_FILE:-$DATA_DIR/judgelm_val_5k_gpt4_with_reference.jsonl}
PYTHON=${PYTHON:-python}

judge() { # ending of the answer file, reference file, 1 for reversed
  "$PYTHON" ./judgelm/llm_judge/gen_model_judgement.py \
    --model-path "$MODEL_PATH" \
    --model-id "$MODEL_ID" \
    --question-file "$QUESTION_FILE" \
    --answer-file "$OUTPUT_DIR/$MODEL_ID$1" \
    --num-gpus-per-model "${NUM_GPUS_PER_MODEL:-1}" \
    --num-gpus-total "${NUM_GPUS_TOTAL:-1}" \
    --temperature "${TEMPERATURE:-0.2}" \
    --reference-file "$2" \
    --if-reverse "$3" \
    --if-fast-eval "${IF_FAST_EVAL:-1}"
}

evaluate() { # teacher file, ending of the answer files
  "$PYTHON" ./judgelm/llm_judge/eval_model_judgement.py \
    --gt-answer-file-path "$1" \
    --sequential-pred-answer-file-path "$OUTPUT_DIR/$MODEL_ID$2" \
    --reversed-pred-answer-file-path "$OUTPUT_DIR/$MODEL_ID$2-reverse"
}

judge "" None 0
judge -reverse None 1
judge -w-ref "$REFERENCE_FILE" 0
judge -w-ref-reverse "$REFERENCE_FILE" 1

echo "== without reference =="
evaluate "$GT_FILE" ""
echo "== with reference =="
evaluate "$GT_WITH_REFERENCE_FILE" -w-ref
