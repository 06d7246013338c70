#!/usr/bin/env bash
# Fine-tune JudgeLM-33B from Vicuna v1.3 with the settings of the paper, on two machines of eight A100 with 40 GB: the
# 7B script with other defaults. Its variables are this one's too.
set -euo pipefail
export BASE_MODEL_PATH=${BASE_MODEL_PATH:-lmsys/vicuna-33b-v1.3}
export OUTPUT_PATH=${OUTPUT_PATH:-./output/judgelm-33b}
export N_PROC_PER_NODE=${N_PROC_PER_NODE:-8}
export NNODES=${NNODES:-2}
export RUN_NAME=${RUN_NAME:-33B-full-model}
exec bash "$(dirname "$0")/train_7b_vicuna+_4x40g_a100_judgelm_100k_full_model.sh" "$@"
