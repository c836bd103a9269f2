#!/usr/bin/env bash
# The tables of RESULTS.md: subnets against students trained alone, and the speed of an extracted subnet.
#   recipes/lighthubert/measure.sh OUT_DIR [KEY=VALUE ...]
# Ten trainings of the demo's length: five variants of stage 2, five students alone. What is done is not done again.
set -euo pipefail
out=${1:?usage: measure.sh OUT_DIR [KEY=VALUE ...]}
shift
mkdir -p "$out"
here=$(cd "$(dirname "$0")" && pwd)

python "$here/../../benchmarks/once_for_all.py" "$out" \
    variant=demo variant=random variant=sandwich variant=in_place variant=shrink "$@" | tee "$out/subnets.log"
grep '^|' "$out/subnets.log" > "$out/subnets.md"
for space in small base; do
    python "$here/../../benchmarks/subnet_inference.py" "space=$space" | tee "$out/inference_$space.md"
done
