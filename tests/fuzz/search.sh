#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Searches for inputs that fail, for longer than the tests do, as many targets at a time as there
# are CPUs.
#
#   tests/fuzz/search.sh [--seconds N] BUILD_DIR [TARGET]...
#
# BUILD_DIR was built with clang (target ublk_tests_fuzz). Each TARGET, by default all, searches for
# N seconds (1800) from its corpus on. It says in a line each what was done, and how to replay what
# failed; new inputs, failed ones and logs are in BUILD_DIR/tests/fuzz/found. Leaks are looked for
# at the end: which input it was, the program says of FOUND with -detect_leaks=1 -runs=0.
#
# Exit status: 0 where nothing failed, 1 where something did, 2 for a wrong call.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
seconds=1800

die() {
    echo "search.sh: $*" >&2
    exit 2
}
usage() { sed -n '6,13s/^# \{0,1\}//p' "$0"; }

while [ $# -gt 0 ]; do
    case $1 in
    --seconds) seconds=${2:?--seconds needs a number}; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; die "unknown option $1" ;;
    *) break ;;
    esac
done
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "--seconds takes a number above 0"
[ $# -gt 0 ] || { usage >&2; die "which build directory?"; }
[ -d "$1/tests/fuzz" ] || die "$1 is no build directory"
programs=$(cd "$1/tests/fuzz" && pwd)
shift

targets=("$@")
if [ $# -eq 0 ]; then
    for program in "$programs"/ublk_fuzz_search_*; do
        targets+=("${program##*_search_}")
    done
fi
for target in "${targets[@]}"; do
    [ -x "$programs/ublk_fuzz_search_$target" ] ||
        die "no $programs/ublk_fuzz_search_$target: build ublk_tests_fuzz with clang"
done

stat_of() { sed -n "s/^stat::$1: *//p" "$2" | tail -n 1; }

# search TARGET: what it did, in a line. An input that hangs ends by libFuzzer's -timeout, libFuzzer
# itself by the outer limit.
search() {
    local program=$programs/ublk_fuzz_search_$1 found=$programs/found/$1
    local log=$found.log status=0 failed
    mkdir -p "$found"
    timeout -k 10 $((seconds + 120)) "$program" -max_total_time="$seconds" -max_len=200 \
        -timeout=60 -entropic=0 -detect_leaks=0 -print_final_stats=1 \
        "-artifact_prefix=$found/failed-" "$found" "$here/corpus/$1" \
        </dev/null >"$log" 2>&1 || status=$?
    echo -n "$1: $(stat_of number_of_executed_units "$log") executions," \
        "$(stat_of average_exec_per_sec "$log") a second," \
        "$(stat_of new_units_added "$log") new inputs, "
    [ "$status" -ne 0 ] || { echo "nothing failed"; return 0; }
    failed=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    if [ -n "$failed" ]; then
        echo "FAILED on $failed; replay: $program $failed; log: $log"
    else
        echo "FAILED with status $status; log: $log"
    fi
    return 1
}

failed=0
running=0
for target in "${targets[@]}"; do
    if [ "$running" -ge "$(nproc)" ]; then
        wait -n || failed=$((failed + 1))
        running=$((running - 1))
    fi
    search "$target" &
    running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
    wait -n || failed=$((failed + 1))
    running=$((running - 1))
done
echo "totals: $((${#targets[@]} - failed)) passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
