#!/usr/bin/env bash
# MovieLens 1M in time: what a device reads itself, against what it tells the cloud.
#   results/ml_1m/study.sh DATA [SEED...]            DATA holds ml-1m
# 600 devices; the first half of each user's ratings trains the cloud, the second half is the stream.
set -euo pipefail
data=${1:?the folder with ml-1m must be given}
shift
for seed in ${@:-1 2 3}; do
  for window in 2 5 10; do
    results/play.sh results/runs/ml_1m/window_${window}_seed_$seed task=recommendation data=ml_1m data.path="$data/ml-1m" \
      data.cut=events fleet.num_devices=600 seed=$seed model.history_length=$window experiment_name=window_$window \
      'strategies=[static,fine_tuning,fedavg,duet_10,duet_20,duet_50,regimes_20]' \
      '+strategy.duet_10={method: duet, report_length: 10}' \
      '+strategy.duet_20={method: duet, report_length: 20}' \
      '+strategy.duet_50={method: duet, report_length: 50}' \
      '+strategy.regimes_20={method: persona, cluster_on: likelihood, num_prototypes: 16, hedge: 0.25, edits: false, report_length: 20}'
  done
done
cdc-flower report results/runs/ml_1m/window_*
