#!/usr/bin/env bash
# The phantom study with one process per core:
#   all_cores.sh PHANTOM_STUDY OUT SECONDS [flags of `phantom_study run`]
# PHANTOM_STUDY is the built example. Started again, it goes on; the tables are in OUT/summary.md.
set -euo pipefail
study=$1 out=$2 seconds=$3
shift 3
# Freed memory is kept for the next step: see docs/TRAINING.md.
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296
mkdir -p "$out/logs"
"$study" prepare --out "$out" "$@" 2>"$out/logs/prepare"
# The time limit counts from here; what runs then is saved or, if it is a short trial, finished.
for core in $(seq "${PROCESSES:-$(nproc)}"); do
    RAYON_NUM_THREADS=1 "$study" run --out "$out" --until "$seconds" "$@" 2>"$out/logs/$core" &
done
wait
grep -h 'ERROR' "$out"/logs/* || true
"$study" summary --out "$out" | tee "$out/summary.md"
