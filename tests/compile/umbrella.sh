#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What the umbrella costs whoever includes it: how much the compiler reads, exactly, and how long a
# whole disk takes to compile, with room for a busy machine.
#
# Usage: umbrella.sh SOURCE_DIR LINES SECONDS COMPILER [FLAG]...
#
#   LINES      of <ublk/ublk.hpp> after the preprocessor, at most
#   SECONDS    of CPU time that examples/hello.cpp takes with -O2, at most: in one of three tries
set -euo pipefail

(($# >= 4)) || { sed -n '/^# Usage:/,/^set /{/^set /!s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
source=$1 lines_max=$2 seconds_max=$3
shift 3
compile=("$@" -std=c++20 -I "$source/include")

# Headers that are large and have no place in the core.
unwanted='/(immintrin\.h|iostream|regex|cmath|random|filesystem|ranges)$'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo '#include <ublk/ublk.hpp>' >"$work/umbrella.cpp"

"${compile[@]}" -E "$work/umbrella.cpp" -o "$work/umbrella.ii"
lines=$(wc -l <"$work/umbrella.ii")
printf 'the umbrella is %d lines, %d allowed\n' "$lines" "$lines_max"
status=0
((lines <= lines_max)) || status=1

"${compile[@]}" -M "$work/umbrella.cpp" | tr -s ' \\' '\n\n' |
    grep -E "$unwanted" >"$work/found" || true
if [[ -s $work/found ]]; then
    printf 'it includes what it should not:\n'
    cat "$work/found"
    status=1
fi

((status == 0)) || exit "$status"

# Prints hundredths of a second.
cpu_time() {
    local TIMEFORMAT='%U %S' said
    said=$({ time "${compile[@]}" -O2 -c "$source/examples/hello.cpp" -o "$work/hello.o"; } 2>&1)
    awk '{ printf "%d\n", ($1 + $2) * 100 }' <<<"$said"
}
# A busy machine gets three tries.
for _ in 1 2 3; do
    took=$(cpu_time)
    ((took > seconds_max * 100)) || break
done
printf 'hello.cpp takes %d.%02d s, %d allowed\n' $((took / 100)) $((took % 100)) "$seconds_max"
((took <= seconds_max * 100)) || status=1
exit "$status"
