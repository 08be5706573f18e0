#!/usr/bin/env bash
# The published protocol on MovieLens: all arms with DIN, the main ones with GRU4Rec and SASRec.
#   results/leave_last_out/study.sh DATA [DATASET...]       DATA holds ml-100k and ml-1m
#   SEEDS="1 2 3" results/leave_last_out/study.sh DATA ml_100k
set -euo pipefail
data=${1:?the folder with ml-100k and ml-1m must be given}
shift
main='strategies=[static,fine_tuning,fine_tuning_all,group_fine_tuning,apg,duet,persona_1,persona_5_static]'
for dataset in ${@:-ml_100k ml_1m}; do
  for seed in ${SEEDS:-1 2 3}; do
    for model in din gru4rec sasrec; do
      arms=()
      [[ $model == din ]] || arms=("$main")
      results/play.sh results/runs/leave_last_out/${dataset}_${model}_seed_$seed experiment=leave_last_out \
        task=recommendation data=$dataset data.path="$data/${dataset/_/-}" model=$model seed=$seed \
        experiment_name=${dataset}_$model "${arms[@]}"
    done
  done
done
cdc-flower report results/runs/leave_last_out/*
