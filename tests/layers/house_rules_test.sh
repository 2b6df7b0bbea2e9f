#!/usr/bin/env bash
# Shows that each house rule can fail: plants one breach at a time into a small tree and expects
# check_house_rules.sh to name its file and line, and the tree without it to pass.
set -euo pipefail

check="$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/check_house_rules.sh"
work="$(mktemp -d)"
trap 'rm -rf -- "${work}"' EXIT

# plant EXPECTED FILE TEXT: the text in that file must be reported as EXPECTED.
plant() {
  local expected="$1" file="${work}/tree/$2" output
  rm -rf -- "${work}/tree"
  mkdir -p "$(dirname -- "${file}")"
  printf '// Clean.\nint clean();\n' >"${work}/tree/clean.cpp"
  output="$("${check}" "${work}/tree")" || {
    echo "the clean tree was rejected: ${output}"
    exit 1
  }
  printf '%b' "$3" >"${file}"
  if output="$("${check}" "${work}/tree")"; then
    echo "passed, and should not have: $2: ${expected}"
    exit 1
  fi
  if [[ "${output}" != "$2:${expected}"* ]]; then
    echo "expected '$2:${expected}', got: ${output}"
    exit 1
  fi
}

long_line="$(printf 'x%.0s' {1..101})"
plant '2: a tab' scheduler/a.cpp '// Promise.\n\tint a;\n'
plant '2: white space' scheduler/a.cpp '// Promise.\nint a; \n'
plant '2: white space' cmake/a.cmake '# Promise.\nset(a b) \n'
plant '2: unfinished' docs/a.md "Text\nTO""DO: more\n"
plant '1: unfinished' jobs/a.hpp "// FIX""ME\n"
plant '2: more than 100 columns' kernels/a.cu "// Promise.\n//${long_line}\n"
plant '1: opens without' runtime/protocol/a.hpp '#pragma once\n'
plant '1: opens without' runtime/protocol/a.cpp '#include <vector>\n'
plant '1: opens without' tests/a.sh '#!/bin/sh\ntrue\n'
plant '1: opens without' tests/a.py 'import sys\n'
echo "each rule was seen to fail"
