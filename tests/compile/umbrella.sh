#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What the umbrella costs whoever includes it: how much the compiler reads, and how much it makes of
# a whole disk. The latter is counted in memory, which is the same on a busy machine: the time goes
# along with it.
#
# Usage: umbrella.sh SOURCE_DIR LINES MEGABYTES COMPILER [FLAG]...
#
#   LINES      of <ublk/ublk.hpp> after the preprocessor, at most
#   MEGABYTES  that g++ allocates for examples/hello.cpp with -O2, at most
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }

(($# >= 4)) || { sed -n '/^# Usage:/,/^set /{/^set /!s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
source=$1 lines_max=$2 megabytes_max=$3
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

# The last column of the report's last line: 292M, say.
"${compile[@]}" -O2 -ftime-report -c "$source/examples/hello.cpp" -o "$work/hello.o" \
    2>"$work/report" || { cat "$work/report"; exit 1; }
megabytes=$(awk '$1 == "TOTAL" && $NF ~ /M$/ { print int($NF) }' "$work/report")
[[ -n $megabytes ]] || { echo 'the report of the compiler has another form'; exit 1; }
printf 'hello.cpp takes %d MB, %d allowed\n' "$megabytes" "$megabytes_max"
((megabytes <= megabytes_max))
