#!/usr/bin/env bash
# gpu_checks.sh [BUILD]: all that only a machine with a GPU can show, in less than five minutes once
# it is built: the kernels against the reference, jobs on the GPU against the CPU with faults on the
# way, and what the kernels reach beside the device's own copy and cuBLAS. BUILD is a build of the
# preset `cuda`, build/cuda by default; what is missing of it is built first. Status 0 only if all of
# it ran and passed.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
readonly build="${1:-build/cuda}"

if [[ ! -e "${build}/build.ninja" ]]; then cmake --preset cuda -B "${build}"; fi
cmake --build "${build}" --target test_kernels_cuda regroup_cli gpu_bench
"${build}/bin/regroup" topology

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
log="$(mktemp)"
trap 'rm -f -- "${log}"' EXIT
ctest --test-dir "${build}" --label-regex '^gpu$' --no-tests=error --output-on-failure | tee "${log}"
if grep -q -e Skipped -e 'Not Run' "${log}"; then
  echo "gpu_checks: tests were skipped: this build finds no GPU here" >&2
  exit 1
fi
"${build}/tests/bench/gpu_bench"
