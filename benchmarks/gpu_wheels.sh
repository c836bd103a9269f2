#!/usr/bin/env bash
# Fills a folder with the wheels that benchmarks/gpu.sh needs on a machine without network.
#
#     benchmarks/gpu_wheels.sh [WHEELS] [HAS]
#
# WHEELS (default: benchmarks/wheels) is the folder to carry there. HAS is a file that names what the machine has already, one
# package a line, as `pip freeze` or a plain list writes it; torch, torchaudio and what they bring are never fetched.
# PYTHON_VERSION (default: 3.12) is the machine's Python, EXTRAS (default: superb) what is taken along, s3prl with it;
# EXTRAS= leaves it out. The folder also gets this repository's own wheel. Needs uv and pip (PYTHON) here, and the network.
set -euo pipefail
wheels=$(realpath -m "${1:-$(dirname "$0")/wheels}")
has=$(realpath -m "${2:-/dev/null}")
version=${PYTHON_VERSION:-3.12}
extras=${EXTRAS-superb}
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
mkdir -p "$wheels"

# Python alone, and no wheel on the registry: built here.
sources=(antlr4-python3-runtime dcase-util s3prl sed-eval sox)
# torch's own, and what only runs on other machines.
skip='^(torch|torchaudio|triton|nvidia-.*|cuda-.*|setuptools|pip|wheel|sympy|mpmath|networkx|jinja2|markupsafe|filelock|fsspec|typing-extensions)=='

normal() { tr '[:upper:]_.' '[:lower:]--'; }
names=$(sed -E 's/[[:space:]]*(==|@|>|<|~|!|;|\[|#).*//' "$has" | normal | sort -u)
options=(--quiet --no-annotate --no-header --python-version "$version" --python-platform x86_64-manylinux_2_28)
uv=$(command -v uv || echo "$(dirname "$python")/uv")
resolved=$(echo 'pytest>=8' | "$uv" pip compile "${options[@]}" ${extras:+--extra "$extras"} pyproject.toml -)
grep '==' <<< "$resolved" | while read -r pin; do
    name=$(echo "${pin%%==*}" | normal)
    if echo "$name==" | grep -qE "$skip" || grep -qxF "$name" <<< "$names"; then continue; fi
    if [[ " ${sources[*]} " == *" $name "* ]]; then
        "$python" -m pip wheel --quiet --no-deps --wheel-dir "$wheels" "${pin%%;*}"
    else
        platforms=()
        for glibc in 2_28 2_27 2_24 2_17 2_12 2_5; do platforms+=(--platform "manylinux_${glibc}_x86_64"); done
        "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version "$version" --implementation cp \
            "${platforms[@]}" --platform manylinux2014_x86_64 --platform manylinux1_x86_64 -d "$wheels" "${pin%%;*}"
    fi
    echo "$pin"
done
rm -f "$wheels"/speechdistill-*.whl
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$wheels" .
du -sh "$wheels"
