#!/usr/bin/env bash
# check_house_rules.sh DIR: holds the sources of the tree in DIR against the rules that a reader would
# notice and a compiler would not. Prints "file:line: rule" for each breach; status 1 if there is one.
# It reads files by kind and place, not from version control, so that an unpacked release passes too.
set -euo pipefail
export LC_ALL=C.UTF-8 # columns are characters, not bytes

cd -- "$1"
readonly columns_max=100
readonly unfinished="TO""DO|FIX""ME" # in halves, so that this file passes its own rule

# files PATTERN...: names those that match one of the patterns, null-separated.
files() {
  local names=() pattern
  for pattern in "$@"; do names+=(-o -name "${pattern}"); done
  find . \( -path ./build -o -path ./.git \) -prune -o -type f \( "${names[@]:1}" \) -print0 | sort -z
}

readonly cpp=('*.hpp' '*.cpp' '*.cuh' '*.cu')
readonly text=("${cpp[@]}" '*.cmake' '*.cmake.in' CMakeLists.txt '*.sh' '*.py' '*.md' '*.sbatch' '*.toml'
  CMakePresets.json .clang-format quickstart run)

# breaches RULE REGEX PATTERN...: lines that match the regular expression break the rule.
breaches() {
  local rule="$1" regex="$2"
  shift 2
  files "$@" | xargs -0 -r grep --with-filename --line-number --perl-regexp -e "${regex}" |
    sed -E "s|^\./([^:]+:[0-9]+):.*|\1: ${rule}|" || true
}

# has_its_promise_elsewhere FILE: a .cpp beside its header, and a unit test, whose source says it.
has_its_promise_elsewhere() {
  [[ "$1" == *.cpp && (-e "${1%.cpp}.hpp" || "$1" == ./tests/*_test.cpp) ]]
}

# without_opening COMMENT PATTERN...: the first line that is not "#!" must start as COMMENT, a regular
# expression, says.
without_opening() {
  local comment="$1" file line
  shift
  while IFS= read -r -d '' file; do
    line="$(sed -n '1{/^#!/d}; /./{p;q}' "${file}")"
    if [[ ! "${line}" =~ ${comment} ]] && ! has_its_promise_elsewhere "${file}"; then
      printf '%s:1: opens without a comment that says what the file promises\n' "${file#./}"
    fi
  done < <(files "$@")
}

found="$(
  breaches 'a tab' '\t' "${text[@]}"
  breaches 'white space at the end of the line' '\s$' "${text[@]}"
  breaches 'unfinished work is an issue, not a comment' "\\b(${unfinished})\\b" "${text[@]}"
  breaches "more than ${columns_max} columns" "^.{$((columns_max + 1)),}" "${cpp[@]}"
  without_opening '^/[/*]' "${cpp[@]}"
  without_opening '^(#|""")' '*.sh' '*.py' '*.sbatch' '*.cmake' '*.cmake.in' quickstart run
)"
if [[ -n "${found}" ]]; then
  printf '%s\n' "${found}"
  exit 1
fi
count="$(files "${text[@]}" | tr -cd '\0' | wc -c)"
if ((count == 0)); then
  echo "found no sources below ${PWD}"
  exit 1
fi
echo "${count} files keep the rules"
