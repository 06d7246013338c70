#!/usr/bin/env bash
# Fine-tune JudgeLM-7B from Vicuna v1.3 with the settings of the paper, on four A100 with 40 GB.
# Every setting is a variable. Several machines: give each NNODES, NODE_RANK and MASTER_ADDR. Interrupted, the same
# command goes on from the last checkpoint.
set -euo pipefail
cd "$(dirname "$0")/../.."
BASE_MODEL_PATH=${BASE_MODEL_PATH:-lmsys/vicuna-7b-v1.3}
DATA_PATH=${DATA_PATH:-./judgelm/data/JudgeLM/judgelm_train_100k.jsonl}
OUTPUT_PATH=${OUTPUT_PATH:-./output/judgelm-7b}
N_PROC_PER_NODE=${N_PROC_PER_NODE:-4}
NNODES=${NNODES:-1}
if ((NNODES > 1)); then : "${NODE_RANK:?several machines need NODE_RANK}" "${MASTER_ADDR:?several machines need MASTER_ADDR}"; fi
# processes x batch x accumulation is the paper's global batch of 128
GRADIENT_ACCUMULATION_STEPS=${GRADIENT_ACCUMULATION_STEPS:-$((128 / (N_PROC_PER_NODE * NNODES)))}

${TORCHRUN:-torchrun} --nproc_per_node="$N_PROC_PER_NODE" --nnodes="$NNODES" --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-localhost}" --master_port="${MASTER_PORT:-20001}" judgelm/train/train_mem.py \
  --model_name_or_path="$BASE_MODEL_PATH" \
  --data_path "$DATA_PATH" \
  --bf16 True \
  --output_dir="$OUTPUT_PATH" \
  --num_train_epochs "${NUM_TRAIN_EPOCHS:-3}" \
  --per_device_train_batch_size 1 \
  --per_device_eval_batch_size 1 \
  --gradient_accumulation_steps "$GRADIENT_ACCUMULATION_STEPS" \
  --evaluation_strategy no \
  --save_strategy steps \
  --save_steps "${SAVE_STEPS:-1000}" \
  --save_total_limit 1 \
  --learning_rate "${LEARNING_RATE:-2e-5}" \
  --weight_decay 0. \
  --warmup_ratio 0.03 \
  --lr_scheduler_type cosine \
  --logging_steps 1 \
  --fsdp "full_shard auto_wrap offload" \
  --fsdp_transformer_layer_cls_to_wrap "LlamaDecoderLayer" \
  --tf32 True \
  --model_max_length 2048 \
  --gradient_checkpointing True \
  --run_name "${RUN_NAME:-7B-full-model}" \
  --swap_aug_ratio "${SWAP_AUG_RATIO:-0.5}" \
  --ref_drop_ratio "${REF_DROP_RATIO:-0.5}" \
  "$@"
