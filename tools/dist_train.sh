#!/usr/bin/env bash
# Train in several processes on this machine, one per GPU (or on CPUs if there is none):
#   tools/dist_train.sh CONFIG PROCESSES [flags of tools/train.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT as for torchrun. Or, so that the others wait for a
# machine that stops and continue when it is back: NNODES and RDZV_ENDPOINT (the first machine as HOST:PORT), with --resume.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,5s/^# //p' "$0" >&2
    exit 2
fi
CONFIG=$1
PROCESSES=$2
shift 2
if [ -n "${RDZV_ENDPOINT:-}" ]; then
    # With a store that agents and processes share, torch does not find the new machine after a restart.
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    PLACE=(--rdzv_backend=c10d --rdzv_endpoint="$RDZV_ENDPOINT" --rdzv_id="${RDZV_ID:-distpro}"
           --max_restarts="${MAX_RESTARTS:-3}")
else
    PLACE=(--node_rank="${NODE_RANK:-0}" --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${MASTER_PORT:-29500}")
fi
exec "${PYTHON:-python}" -m torch.distributed.run --nproc_per_node="$PROCESSES" --nnodes="${NNODES:-1}" "${PLACE[@]}" \
    "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "$@"
