#!/usr/bin/env bash
# The default comparison of recommendation; finished run folders are not played again.
#   results/regimes/study.sh [SEED...]
set -euo pipefail
for seed in ${@:-1 2 3}; do
  results/play.sh results/runs/regimes/seed_$seed task=recommendation seed=$seed
done
cdc-flower report results/runs/regimes/seed_*
