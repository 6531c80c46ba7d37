#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What compiling examples/hello.cpp takes, as a multiple of what parsing the headers of its
# libraries takes, which is not our doing. Counted in memory that g++ allocates: the CPU's time goes
# along with it, but varies by a third from one run to the next.
#
# Usage: ratio.sh SOURCE_DIR WHOLE SEPARATE COMPILER [FLAG]...
#
#   WHOLE      header-only: the multiple at most, in hundredths
#   SEPARATE   the same with UBLK_SEPARATE_COMPILATION, for the user's file
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }

(($# >= 4)) || { sed -n '/^# Usage:/,/^set /{/^set /!s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
source=$1 whole_max=$2 separate_max=$3
shift 3
compile=("$@" -std=c++20 -O2 -I "$source/include" -c)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What the umbrella includes of others.
"$@" -std=c++20 -I "$source/include" -M "$source/examples/hello.cpp" | tr -s ' \\' '\n\n' |
    grep "^$source/include/ublk/" >"$work/ours"
xargs sed -n 's/^#include <\([^>]*\)>.*/\1/p' <"$work/ours" "$source/examples/hello.cpp" |
    grep -v '^ublk/' | sort -u | sed 's/.*/#include <&>/' >"$work/libraries.cpp"
[[ $(wc -l <"$work/libraries.cpp") -gt 20 ]] || { echo 'no headers of libraries found'; exit 1; }

# kilobytes FILE FLAG...: the last column of the report's last line is 292M, say.
kilobytes() {
    "${compile[@]}" -ftime-report "${@:2}" "$1" -o "$work/out.o" 2>"$work/report" || {
        cat "$work/report" >&2
        exit 1
    }
    awk '$1 == "TOTAL" { unit = substr($NF, length($NF)) }
        $1 == "TOTAL" && unit == "M" { print int($NF * 1024) }
        $1 == "TOTAL" && unit == "k" { print int($NF) }' "$work/report"
}

libraries=$(kilobytes "$work/libraries.cpp")
kilobytes "$source/examples/hello.cpp" >"$work/whole"
kilobytes "$source/examples/hello.cpp" -DUBLK_SEPARATE_COMPILATION >"$work/separate"
((libraries > 0)) || { echo 'the report of the compiler has another form'; exit 1; }

status=0
judge() {
    local took
    took=$(($(<"$work/$1") * 100 / libraries))
    printf 'hello.cpp, %s: %d.%02d times its libraries, %d.%02d allowed\n' \
        "$1" $((took / 100)) $((took % 100)) $(($2 / 100)) $(($2 % 100))
    ((took <= $2)) || status=1
}
judge whole "$whole_max"
judge separate "$separate_max"
exit "$status"
