#!/usr/bin/env bash
# Real drift by calendar: Amazon Grocery and Instant Video.
#   results/prequential/study.sh DATA [DATASET...]          DATA holds amazon-grocery and amazon-instant-video
#   SEEDS="1 2 3" results/prequential/study.sh DATA amazon_grocery
set -euo pipefail
data=${1:?the folder with amazon-grocery and amazon-instant-video must be given}
shift
for dataset in ${@:-amazon_grocery amazon_instant_video}; do
  for seed in ${SEEDS:-1 2 3}; do
    results/play.sh results/runs/prequential/${dataset}_seed_$seed experiment=prequential task=recommendation \
      data=$dataset data.path="$data/${dataset//_/-}" seed=$seed experiment_name=$dataset
  done
done
cdc-flower report results/runs/prequential/* --baseline static --baseline fine_tuning_16
