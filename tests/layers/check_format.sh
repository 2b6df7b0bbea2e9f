#!/usr/bin/env bash
# Holds every C++ file of the tree in the current folder against .clang-format. Other versions than the
# one below format some constructs differently, so with them this is skipped (status 77).
set -euo pipefail
readonly version_wanted=14

clang_format=""
for candidate in clang-format-${version_wanted} clang-format; do
  if command -v "${candidate}" >/dev/null; then
    clang_format="${candidate}"
    break
  fi
done
if [[ -z "${clang_format}" ]]; then
  echo "skipped: clang-format is not installed"
  exit 77
fi
version="$("${clang_format}" --version | sed -E 's/.*version ([0-9]+).*/\1/')"
if [[ "${version}" != "${version_wanted}" ]]; then
  echo "skipped: clang-format is version ${version}; the tree is formatted with ${version_wanted}"
  exit 77
fi

mapfile -d '' files < <(find runtime scheduler kernels jobs tests -type f \
  \( -name '*.hpp' -o -name '*.cpp' -o -name '*.cuh' -o -name '*.cu' \) -print0)
if ((${#files[@]} == 0)); then
  echo "found no C++ files below ${PWD}" >&2
  exit 1
fi
"${clang_format}" --dry-run -Werror "${files[@]}"
echo "${#files[@]} files are formatted"
