#!/usr/bin/env bash
# Rules and generating strategies against hostile devices: 0, 5, 10, 20 and 30 % of them.
#   results/robustness/study.sh [SEED...]
# Some 3 hours of CPU: 29 runs a seed of averaging with half a minute each, 17 of generation with two and a half.
# Settings were chosen with seed 0, which is not reported. SHARES, RUNS and MORE (further keys) make a small one:
#   SHARES=.2 RUNS=results/runs/small MORE='fleet.num_devices=20 num_segments=3 cloud.epochs=2' results/robustness/study.sh 0
set -euo pipefail
seeds=(${@:-2 3 4})
read -ra shares <<<"${SHARES:-.05 .1 .2 .3}"
read -ra more <<<"${MORE:-}"
runs=${RUNS:-results/runs/robustness}

# Averaging: all devices move, in segment 2, to one direction of taste that no historical event follows.
averaging() { # FOLDER SEED KEY=VALUE...
  results/play.sh "$runs/averaging/$1_seed_$2" task=recommendation data=cohorts data.num_unseen=1 \
    fleet.num_devices=100 seed="$2" controls=false 'references=[]' strategy.fedavg.rate=0.03 \
    'strategies=[static,fedavg,clipped,median,trimmed_mean,multi_krum,bulyan,geometric_median,centered_clipping]' \
    '+strategy.clipped={method: fedavg, clip_norm: median}' \
    '+strategy.median={method: fedavg, rule: median}' \
    '+strategy.trimmed_mean={method: fedavg, rule: trimmed_mean, trim_share: 0.3}' \
    '+strategy.multi_krum={method: fedavg, rule: multi_krum}' \
    '+strategy.bulyan={method: fedavg, rule: bulyan}' \
    '+strategy.geometric_median={method: fedavg, rule: geometric_median}' \
    '+strategy.centered_clipping={method: fedavg, rule: centered_clipping}' "${@:3}" "${more[@]}"
}

# Generation: to three such directions; prototypes move to what devices reported.
regimes="method: persona, cluster_on: likelihood, num_prototypes: 8, edits: false"
generation() { # FOLDER SEED KEY=VALUE...
  results/play.sh "$runs/generation/$1_seed_$2" task=recommendation data=cohorts fleet.num_devices=250 \
    seed="$2" controls=false 'references=[]' \
    'strategies=[static,duet,bytes,bytes_median,fixed,refined,refined_clipped,refined_trimmed,refined_median]' \
    '+strategy.bytes={method: persona, refinement: bytes}' \
    '+strategy.bytes_median={method: persona, refinement: bytes, refinement_mean: median}' \
    "+strategy.fixed={$regimes}" \
    "+strategy.refined={$regimes, refinement: reports}" \
    "+strategy.refined_clipped={$regimes, refinement: reports, refinement_mean: clipped}" \
    "+strategy.refined_trimmed={$regimes, refinement: reports, refinement_mean: trimmed}" \
    "+strategy.refined_median={$regimes, refinement: reports, refinement_mean: median}" "${@:3}" "${more[@]}"
}

on_updates=('sign_flip attack.scale=10' 'scaling attack.scale=10' noise 'alie attack.z=1.5' 'ipm attack.epsilon=10'
  label_flip stale_replay)
on_reports=('report_poisoning attack.kind=random' 'report_poisoning attack.kind=other_context'
  'report_poisoning attack.kind=least_popular' stale_replay)
for seed in "${seeds[@]}"; do
  averaging none "$seed" attack=none
  for share in "${shares[@]}"; do
    for attack in "${on_updates[@]}"; do
      read -ra keys <<<"$attack"
      averaging "${keys[0]}_$share" "$seed" attack="${keys[0]}" attack.share="$share" "${keys[@]:1}"
    done
  done
  generation none "$seed" attack=none
  for share in "${shares[@]}"; do
    for attack in "${on_reports[@]}"; do
      read -ra keys <<<"$attack"
      name=${keys[1]:-$attack}
      generation "${name#attack.kind=}_$share" "$seed" attack="${keys[0]}" attack.share="$share" "${keys[@]:1}"
    done
  done
done
for part in averaging generation; do
  cdc-flower report "$runs/$part"/*_seed_* --baseline static --segments 3:8
done
python results/robustness/tables.py "$runs"
if [[ $runs == results/runs/robustness ]]; then
  for part in averaging generation; do
    mkdir -p "results/robustness/$part"
    cp "$runs/$part"/{summary,segments_3_8}.csv "results/robustness/$part/"
  done
  cp "$runs"/{averaging,generation}.md results/robustness/
fi
