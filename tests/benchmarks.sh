#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Proves that the benchmarks work where they are seldom run: builds all their programs, and measures
# a guest's own kernel by benchmarks/host.sh, whole and interrupted. Nothing may be left of either.
#
# Usage: benchmarks.sh [KERNEL]    as for guest/run.sh (newest)
#
# Takes some 5 minutes on two cores, most of them to compile.
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
build=$root/build/benchmarks/cmake
kernel=${1:-newest}

"$here/guest/packages.sh" build guest benchmark >&2
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DUBLK_BUILD_BENCHMARKS=ON -DUBLK_BUILD_TESTS=OFF -DUBLK_BUILD_EXAMPLES=OFF >/dev/null
cmake --build "$build" >&2
"$root/benchmarks/user_instructions.sh" --json >/dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/plan" <<'END'
group host 1 64 256K
contender null_blk null_blk
contender loop loop buffered
contender ours ours /opt/target memory/per_cpu/per_wakeup/copy
cell load read 4096 16 1 1000 300 200 1 2 900
end
END

# null_blk is not loaded there, so that it has to be, and has to go.
cat >"$work/session" <<'END'
state() {
    losetup -a
    ls /sys/block /run /tmp/kept
    grep -v cgroup /proc/mounts
    cat /proc/sys/vm/dirty_writeback_centisecs /proc/sys/vm/dirty_ratio
    cut -d ' ' -f 1 /proc/modules | sort
}
expect() { # WHAT STATUS EXPECTED
    echo "$1: status $2"
    [[ $2 == "$3" ]] || { tail -n 20 /tmp/log; exit 1; }
    state >/tmp/after
    diff /tmp/before /tmp/after || { echo "$1 leaves something behind"; exit 1; }
}
mkdir -p /tmp/kept
state >/tmp/before
status=0
bash /benchmarks/host.sh --yes /plan /tmp/kept.lines /usr/bin/load >/tmp/log 2>&1 || status=$?
expect 'a whole run' "$status" 0
[[ $(wc -l </tmp/kept.lines) == 6 ]] || { echo 'not every disk was measured twice'; exit 1; }
for seconds in 1 5; do
    bash /benchmarks/host.sh --yes /plan /tmp/kept.lines /usr/bin/load >/tmp/log 2>&1 &
    sleep "$seconds"
    kill -TERM $!
    status=0
    wait $! || status=$?
    expect "interrupted after $seconds s" "$status" 143
done
status=0
bash /benchmarks/host.sh /plan /tmp/kept.lines /usr/bin/load </dev/null >/tmp/log 2>&1 || status=$?
expect 'without a terminal to ask at' "$status" 2
END

modules=$("$here/guest/kernel.sh" "$kernel")/lib/modules
options=()
for program in bash losetup mountpoint awk modprobe setsid realpath mktemp nproc timeout diff; do
    options+=(--program "$program")
done
"$here/guest/run.sh" --kernel "$kernel" --memory 3G --timeout 300 "${options[@]}" \
    --add "$root/benchmarks/host.sh:/benchmarks/host.sh" \
    --add "$root/benchmarks/guest.sh:/benchmarks/guest.sh" \
    --add "$work/plan:/plan" --add "$work/session:/session" \
    --add "$build/benchmarks/load:/usr/bin/load" \
    --add "$build/benchmarks/target:/opt/target" \
    --add "$modules:/lib/modules" -- bash /session
