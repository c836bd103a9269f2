#!/usr/bin/env bash
# The table of RESULTS.md: four thin students of one size, of three seeds, and the phone probe of each.
#   recipes/starhubert/measure.sh OUT_DIR [STEPS]
# What is there already is not trained again; started again, it resumes where it was stopped.
set -euo pipefail
out=${1:?usage: measure.sh OUT_DIR [STEPS]}
steps=${2:-600}
mkdir -p "$out"

for seed in 0 1 2; do
    for recipe in starhubert fithubert maskhubert armhubert; do
        run=$out/$recipe-$seed
        [ -e "$run/summary.json" ] && continue
        if [ -e "$run/checkpoints/last.ckpt" ]; then
            python -m speechdistill.train "resume=$run"
        else
            python -m speechdistill.train "recipe=$recipe" "seed=$seed" "trainer.max_steps=$steps" "out_dir=$run"
        fi
    done
done
for recipe in starhubert fithubert maskhubert armhubert; do
    python -m speechdistill.probe student="$out/$recipe"-{0,1,2} data=demo "out=$out/$recipe.json" | tee "$out/$recipe.md"
done
