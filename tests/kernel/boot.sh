#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Boots a kernel once and runs the whole binary of kernel tests in it.
#
# Usage: boot.sh KERNEL BINARY LOG [EXAMPLE]...
#
#   KERNEL     as for tests/guest/run.sh, or "host": run here, without a guest
#   LOG        gets what the binary prints
#   EXAMPLE    a program that the tests start; they find its directory in $UBLK_EXAMPLES
#
# GTEST_FILTER, GTEST_REPEAT and UBLK_KILLS, if set, are handed on. $UBLK_COUNTS, if set, gets
# "PASSED FAILED SKIPPED SECONDS". Exit status: 0 when the binary came to its end, no case failed,
# and the kernel did not complain; 1 when a case failed, or the binary crashed or was ended by a
# sanitizer; else what run.sh said: 70 the kernel complained, 124 no end in time, 125 no guest.
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
limit=2340 # below CTest's, so that the guest is the first to tell

programs=(fio mkfs.ext4 e2fsck blkid sfdisk mount umount dd cmp sha256sum blockdev blkdiscard)
modules=(ublk_drv loop null_blk brd ext4)

usage() {
    sed -n '/^# Usage:/,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 125
}

# One open of the log for all of it, since the guest's is a port that only one may hold. The exit
# status is the boot's; the binary's is in the log.
# shellcheck disable=SC2016  # a program for another shell
run_binary='exec >"$UBLK_RESULT" 2>&1; "$@"; echo "boot.sh: status $?"'

run_on_host() {
    local examples=''
    if (($#)); then examples=$(dirname "$1"); fi
    UBLK_RESULT=$log UBLK_EXAMPLES=$examples \
        timeout -k 10 "$limit" sh -c "$run_binary" sh "$binary" "${options[@]}"
}

run_in_guest() {
    local there=/opt/ublk name # not below /tmp, which is another one in the guest
    local -a guest=(--kernel "$kernel" --memory 3G --timeout "$limit" --result "$log")
    guest+=(--env "UBLK_EXAMPLES=$there")
    for name in "$binary" "$@"; do guest+=(--add "$name:$there/"); done
    for name in "${programs[@]}"; do guest+=(--program "$name"); done
    for name in "${modules[@]}"; do guest+=(--module "$name"); done
    for name in ASAN_OPTIONS UBSAN_OPTIONS TSAN_OPTIONS GTEST_FILTER GTEST_REPEAT UBLK_KILLS; do
        if [[ -n ${!name-} ]]; then guest+=(--env "$name=${!name}"); fi
    done
    "$here/../guest/run.sh" "${guest[@]}" -- \
        sh -c "$run_binary" sh "$there/${binary##*/}" "${options[@]}"
}

show_log() {
    [[ -s $log ]] || return 0
    printf 'the last case begun: %s\n' "$(grep -a '^\[ RUN      \]' "$log" | tail -n 1)"
    printf 'the end of %s:\n' "$log"
    tail -n 40 "$log" | sed 's/^/    /'
}

# Statuses 0 and 1 are GoogleTest's own, with a summary; 1 says that cases failed. Whatever ended
# the binary otherwise does not belong to any case.
judge() {
    local ended
    ended=$(sed -n '$s/^boot\.sh: status //p' "$log" 2>/dev/null)
    if [[ ! $ended =~ ^[01]$ ]] || ! grep -aqE '^\[==========\] .* ran\.' "$log"; then
        printf 'boot.sh: the binary did not end in the regular way (status %s)\n' "${ended:-none}"
        return 1
    fi
    if [[ $ended == 1 ]] && ! grep -aqE '^\[  FAILED  \] [^ :]+\.[^ :]+' "$log"; then
        printf 'boot.sh: the binary failed, but none of its cases did\n'
        return 1
    fi
}

# Names the cases that failed or were skipped. Fails where one failed, or none was run.
report() {
    local counts=${UBLK_COUNTS:-$log.counts} status=0
    "$here/../runner/cases.py" --counts "$counts" --log "$log" || status=1
    sed -i "s/$/ $SECONDS/" "$counts"
    [[ $(<"$counts") != '0 0 0 '* ]] || { printf 'boot.sh: no case was run\n'; status=1; }
    return "$status"
}

(($# >= 3)) || usage
kernel=$1 binary=$2 log=$3
shift 3
options=(--gtest_color=no --gtest_print_time=1)
status=0
rm -f "$log"
if [[ $kernel == host ]]; then
    run_on_host "$@" || status=$?
else
    run_in_guest "$@" || status=$?
fi
if ((status == 0)); then judge || status=$?; fi
if [[ -s $log ]]; then report || status=$((status ? status : 1)); fi
if ((status != 0)); then show_log; fi
exit "$status"
