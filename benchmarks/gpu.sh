#!/usr/bin/env bash
# All that is to be measured on one NVIDIA GPU, in under nine minutes, on a bare machine with CUDA's torch 2.11 and no network.
#
#     benchmarks/gpu.sh [OUT] [size=paper] [device=cuda] [parts=mfu,...]
#
# OUT (default: gpu-report) gets report.json, report.md, a trace of three steps and what each part printed. Packages that
# the machine lacks come from the folder WHEELS (default: benchmarks/wheels), which benchmarks/gpu_wheels.sh fills elsewhere;
# without it nothing is installed. PYTHON is the Python that has torch. size=tiny device=cpu tries the script without a GPU.
set -euo pipefail
case "${1:-}" in *=*|"") out=gpu-report ;; *) out=$1; shift ;; esac
out=$(realpath -m "$out")
wheels=$(realpath -m "${WHEELS:-$(dirname "$0")/wheels}")
python=${PYTHON:-python3}
cd "$(dirname "$0")/.."
mkdir -p "$out"

INSTALL_SECONDS=25
site=$out/site
if compgen -G "$wheels/*.whl" > /dev/null; then
    timeout "$INSTALL_SECONDS" "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
        --upgrade --target "$site" "$wheels"/*.whl || echo "the wheels of $wheels could not be installed; going on" >&2
    export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
exec "$python" benchmarks/gpu/run.py "$out" "$@"
