#!/usr/bin/env bash
# The study of thin links on both tasks: runs in results/runs/bandwidth_stress, pages and summaries beside this file.
#
#   results/bandwidth_stress/study.sh DATA [TASK...]     from the root of the repository
#   SEEDS=0 results/bandwidth_stress/study.sh DATA video_qa
#
# DATA holds rec/amazon-grocery and net. A TASK is amazon_grocery, shifting_interests or video_qa; all by default.
# Recordings are those of the part `report`; nothing here was chosen on any recording.
set -euo pipefail

data=${1:?the folder with rec/amazon-grocery and net must be given}
shift
tasks=("${@:-amazon_grocery shifting_interests video_qa}")
seeds=${SEEDS:-0,1,2}
runs=${RUNS:-results/runs/bandwidth_stress}
summaries=${SUMMARIES:-results/bandwidth_stress}

hsdpa="network=hsdpa network.path=$data/net/comyco_hsdpa_fcc.tar.gz"
fcc="network=fcc network.path=$data/net/netllm_fcc.tar.gz"
oboe="network=oboe network.path=$data/net/oboe.tar.gz"
mahimahi="network=mahimahi network.path=$data/net/mahimahi"

# study TASK METRIC ARMS ONE THIN OVERRIDES...
#   ARMS use the links, ONE of them with every protocol and policy, on recordings scaled by THIN.
study() {
  local task=$1 metric=$2 arms=$3 one=$4 thin=$5
  shift 5
  play() {  # play PART OVERRIDES...: each combination is a run folder
    local part=$1
    shift
    cdc-flower -m experiment=bandwidth_stress "${base[@]}" "seed=$seeds" cache=results/cache report=false \
      "out=$runs/$task/$part" "$@"
  }
  local base=("$@") links="$hsdpa conditions.rate_scale=$thin"

  play still network=unlimited 'strategies=[static,fine_tuning]'
  play profile "strategies=[$arms]" network=lora,nb_iot,3g,lte,unlimited
  play hsdpa "strategies=[$arms]" $hsdpa conditions.rate_scale=0.0003,0.001,0.003,0.01,0.03,0.1,1
  play fcc "strategies=[$arms]" $fcc
  play oboe "strategies=[$arms]" $oboe
  play mahimahi "strategies=[$arms]" $mahimahi
  play rough "strategies=[$arms]" $links conditions.loss=0.02 conditions.outage_every_s=60 conditions.outage_s=10 \
    conditions.deadline_s=8
  play codecs "strategies=[$one]" $links \
    'protocol.codecs=[float16],[delta,zstd],[delta,int8,zstd],[delta,top_k,float16,zstd]'
  play random "strategies=[$one]" $links policy=random policy.rate=0.01,0.05,0.1,0.2,0.5
  play uncertainty "strategies=[$one]" $links policy=uncertainty policy.rate=0.01,0.05,0.1,0.2,0.5
  play every "strategies=[$one]" $links policy=every policy.n=2,4,8
  play on_drift "strategies=[$one]" $links policy=on_drift policy.threshold=0.5,1,3,10
  cdc-flower stress "$runs/$task"/*/* --out "$summaries/$task" --metric "$metric"
}

for task in ${tasks[*]}; do
  case $task in
    amazon_grocery)
      study $task auc fedavg,fedavg_head,persona,persona_index,duet persona,persona_index 0.01 \
        data=amazon_grocery "data.path=$data/rec/amazon-grocery" data.cut=events data.min_user_events=20 \
        strategy.fedavg.num_train_devices=20
      ;;
    shifting_interests)
      study $task ndcg@10 fedavg,fedavg_head,persona,persona_index,duet persona,persona_index 0.01 \
        data=shifting_interests fleet.num_devices=500 strategy.fedavg.num_train_devices=20
      ;;
    video_qa)
      study $task accuracy fedavg,cloud_fine_tuning,duet,cdc_mmpg_full_clip,cdc_mmpg cdc_mmpg,cdc_mmpg_full_clip 0.03 \
        task=video_qa
      ;;
    *)
      echo "unknown task $task (known: amazon_grocery, shifting_interests, video_qa)" >&2
      exit 2
      ;;
  esac
done
