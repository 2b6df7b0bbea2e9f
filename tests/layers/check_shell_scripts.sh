#!/usr/bin/env bash
# Runs shellcheck on every shell script of the tree in the current folder, found by its first line.
# Skipped (status 77) where shellcheck is not installed.
set -euo pipefail

if ! command -v shellcheck >/dev/null; then
  echo "skipped: shellcheck is not installed"
  exit 77
fi
mapfile -d '' candidates < <(find . \( -path ./build -o -path ./.git \) -prune -o -type f -size -256k -print0)
scripts=()
for file in "${candidates[@]}"; do
  first_line=""
  IFS= read -r -n 64 first_line < <(tr -d '\0' <"${file}") || true
  if [[ "${first_line}" =~ ^\#!.*[/\ ](bash|sh)( |$) ]]; then scripts+=("${file}"); fi
done
if ((${#scripts[@]} == 0)); then
  echo "found no shell scripts below ${PWD}" >&2
  exit 1
fi
shellcheck --external-sources "${scripts[@]}"
echo "${#scripts[@]} scripts are clean"
