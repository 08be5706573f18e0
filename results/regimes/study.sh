#!/usr/bin/env bash
# The default comparison of recommendation on three seeds; finished run folders are not played again.
#   results/regimes/study.sh [SEED...]
set -euo pipefail
seeds=("${@:-0 1 2}")
read -ra seeds <<<"${seeds[*]}"
for seed in "${seeds[@]}"; do
  out=results/runs/regimes/seed_$seed
  if [[ ! -f $out/results.parquet ]]; then
    resume=$([[ -d $out ]] && echo true || echo false)
    cdc-flower task=recommendation seed="$seed" cache=results/cache out="$out" resume="$resume" report=false
  fi
done
cdc-flower report results/runs/regimes/seed_*
