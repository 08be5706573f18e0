#!/usr/bin/env bash
# CDC-MMPG at places that history never showed; finished run folders are not played again.
#   results/video/unseen/study.sh [SEED...]
# The law was chosen on seed 0, which is not reported. Tables before, at and after the jump, pooled and by seed.
set -euo pipefail
STRATEGIES=static,cdc_mmpg python results/video/unseen.py ${@:-1 2 3}
parts=(--segments 0:4 --segments 4:5 --segments 5:8)
cdc-flower report results/runs/video_unseen/seed_* "${parts[@]}"
cp results/runs/video_unseen/{report.html,*.csv} results/video/unseen/
for folder in results/runs/video_unseen/seed_*; do # intervals over devices, given these models
  cdc-flower report "$folder" "${parts[@]}"
  for part in 0_4 4_5 5_8; do
    cp "$folder/segments_$part.csv" "results/video/unseen/$(basename "$folder")_segments_$part.csv"
  done
done
