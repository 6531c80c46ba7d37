#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Repeats tests while a compiler runs beside them at the same priority, and another leg of run.sh as
# well. What passes on a quiet machine only is a fault of the test.
#
#   tests/repeat.sh kernel VERSION    the kernel tests, in three boots
#   tests/repeat.sh time              the cases about time, twenty times
#   tests/repeat.sh kills VERSION     servers killed under fio, fifty times instead of five
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)
# Cases whose subject is time: deadlines, delays, spinning, latencies.
about_time='device*:stats*:server_stats*:control*:linux_kernel_test.*:runtime_ring.*:offload.*'
about_time+=':file_test.waits*:*waits*:*time*:*deadline*:*late*:world.*:regression.start_and_stop*'

usage() { sed -n '/^#   tests/s/^# *//p' "$0" >&2; exit 2; }

build() { "$here/build.sh" --build "$@" | tee /dev/stderr | tail -n 1; }

load=''
begin_load() {
    # In a group of its own, to end what it is at as well.
    setsid timeout 2600 sh -c "while :; do
        g++ -std=c++20 -O2 -I'$root/include' -c '$root/examples/hello.cpp' -o /dev/null || exit
    done" &
    load=$!
}
end_load() { [ -z "$load" ] || kill -TERM -- "-$load" 2>/dev/null || true; }
trap end_load EXIT
trap 'exit 130' INT TERM

repeat_kernel() {
    local version=$1 build status=0 round passed failed skipped seconds
    build=$(build --only kernel --kernel "$version")
    begin_load
    for round in 1 2 3; do
        echo "round $round:"
        UBLK_COUNTS=$build/counts/repeat-$version "$here/kernel/boot.sh" "$version" \
            "$build/tests/kernel/ublk_kernel_tests" "$build/tests/kernel/$version-$round.log" \
            "$build"/examples/{hello,memory,many,null,file,stripe} || status=1
        read -r passed failed skipped seconds <"$build/counts/repeat-$version"
        echo "totals: $passed passed, $failed failed, $skipped skipped, $seconds s in guests"
    done
    return "$status"
}

repeat_time() {
    local build program status=0 passed failed skipped
    build=$(build --only unit)
    begin_load
    for program in unit sim; do
        GTEST_REPEAT=20 GTEST_FILTER=$about_time "$here/runner/cases.py" \
            --counts "$build/counts/repeat" -- \
            "$build/tests/$program/ublk_${program}_tests" || status=1
        read -r passed failed skipped <"$build/counts/repeat"
        echo "totals: $passed passed, $failed failed, $skipped skipped"
    done
    return "$status"
}

repeat_kills() {
    local version=$1 build status=0 passed failed skipped seconds
    build=$(build --only kernel --kernel "$version")
    GTEST_FILTER='*killed_servers*' UBLK_KILLS=50 UBLK_COUNTS=$build/counts/kills-$version \
        "$here/kernel/boot.sh" "$version" "$build/tests/kernel/ublk_kernel_tests" \
        "$build/tests/kernel/$version-kills.log" || status=1
    read -r passed failed skipped seconds <"$build/counts/kills-$version"
    echo "totals: $passed passed, $failed failed, $skipped skipped, $seconds s in guests"
    return "$status"
}

case ${1-} in
kernel) [ $# = 2 ] || usage; repeat_kernel "$2" ;;
time) [ $# = 1 ] || usage; repeat_time ;;
kills) [ $# = 2 ] || usage; repeat_kills "$2" ;;
*) usage ;;
esac
