#!/usr/bin/env bash
# The published protocol at the published budget: generators train ten epochs over all rows. One seed.
#   results/published/study.sh DATA [MODEL...]              DATA holds ml-1m
set -euo pipefail
data=${1:?the folder with ml-1m must be given}
shift
for model in ${@:-din gru4rec}; do
  results/play.sh results/runs/published/${model}_seed_1 experiment=leave_last_out task=recommendation data=ml_1m \
    data.path="$data/ml-1m" model=$model seed=1 experiment_name=ml_1m_$model 'strategies=[static,duet,persona_1]' \
    cloud.adaptation.examples_per_epoch=null cloud.adaptation.patience_steps=null \
    strategy.duet.epochs=10 '+strategy.persona_1.epochs=10'
done
cdc-flower report results/runs/published/*
