#!/usr/bin/env bash
# Plays a run into a folder: goes on with one that was interrupted, leaves a finished one alone.
#   results/play.sh FOLDER KEY=VALUE...
set -euo pipefail
out=$1
shift
[[ -f $out/results.parquet ]] && exit 0
resume=$([[ -f $out/config.yaml ]] && echo true || echo false)
exec cdc-flower "$@" cache=results/cache out="$out" resume="$resume" report=false
