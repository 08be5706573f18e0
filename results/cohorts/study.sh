#!/usr/bin/env bash
# All methods on 250 devices that move, in segment 2, to contexts that history never showed.
#   results/cohorts/study.sh [SEED...]
# Settings were chosen with seeds 0 and 1, which are not reported.
set -euo pipefail
regimes="method: persona, cluster_on: likelihood, num_prototypes: 8, edits: false"
for seed in ${@:-2 3 4}; do
  results/play.sh results/runs/cohorts/seed_$seed task=recommendation data=cohorts fleet.num_devices=250 seed=$seed \
    'strategies=[static,fine_tuning,fine_tuning_20,fedavg,group_fine_tuning,apg,duet,persona,shrunk,fixed,refined]' \
    '+strategy.fine_tuning_20={method: fine_tuning, steps: 20}' \
    '+strategy.shrunk={method: persona, refinement: shrink}' \
    "+strategy.fixed={$regimes}" \
    "+strategy.refined={$regimes, refinement: reports}"
done
cdc-flower report results/runs/cohorts/seed_* --baseline static --baseline fixed --baseline fine_tuning \
  --segments 0:2 --segments 2:3 --segments 3:8
cp results/runs/cohorts/{report.html,*.csv} results/cohorts/
for folder in results/runs/cohorts/seed_*; do # intervals over devices, given these models
  cdc-flower report "$folder" --baseline fixed --baseline fine_tuning --segments 2:3 --segments 3:8
  for part in 2_3 3_8; do
    cp "$folder/segments_$part.csv" "results/cohorts/$(basename "$folder")_refined_against_fixed_$part.csv"
  done
done
