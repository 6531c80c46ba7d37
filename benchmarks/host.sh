#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs a plan (see plan.py) by the clock on the kernel and the CPUs that this is run on, on disks of
# its own only: null_blk by configfs, loop on a file in a tmpfs of its own, ublk devices. At the
# end, however that comes, disks, mounts, modules that it loaded and settings are as before.
# run.sh --host calls it.
#
# Usage: host.sh [--yes] PLAN RESULT LOAD [KUBLK]
#
#   --yes          loads what modules are missing without asking
#   LOAD, KUBLK    programs; that of our disks is in the plan
#
# stdout gets the progress. Exit status: 2 where something is missing that it names.
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
nullb=/sys/kernel/config/nullb/ublk-benchmark
settings=(dirty_writeback_centisecs dirty_ratio dirty_background_ratio)
loaded=() saved=() bin='' runner='' mounted_configfs=''

die() {
    printf 'host.sh: %s\n' "$*" >&2
    exit 2
}

check() {
    ((EUID == 0)) || die 'this takes root: it makes block devices'
    [[ ! -e $nullb ]] || die "$nullb is there: another run is at it, or was killed (rmdir $nullb)"
    local program
    for program in "$@"; do [[ -x $program ]] || die "$program: no such program"; done
    for program in losetup mountpoint setsid modprobe awk; do
        command -v "$program" >/dev/null || die "no $program: install util-linux, kmod and mawk"
    done
}

is_there() { # MODULE
    [[ -d /sys/module/$1 ]] || modprobe -n --first-time "$1" 2>&1 | grep -q builtin
}

missing_modules() {
    local module
    for module in ublk_drv null_blk loop; do is_there "$module" || echo "$module"; done
}

# Asks before anything is done.
load_modules() {
    local module answer=''
    local -a missing
    mapfile -t missing < <(missing_modules)
    ((${#missing[@]})) || return 0
    for module in "${missing[@]}"; do
        modprobe -n "$module" 2>/dev/null ||
            die "this kernel has no module $module (Debian: a linux-image without -cloud;" \
                "Ubuntu: linux-modules-extra)"
    done
    if [[ $yes == no ]]; then
        { : >/dev/tty; } 2>/dev/null ||
            die "modules are missing: ${missing[*]}. Load them (modprobe), or say --yes"
        printf 'load the modules %s until the end? [y/N] ' "${missing[*]}" >/dev/tty
        read -r answer </dev/tty || true
        [[ $answer == [yY]* ]] || die 'nothing was loaded, and nothing measured'
    fi
    for module in "${missing[@]}"; do
        local -a parameters=()
        if [[ $module == null_blk ]]; then parameters=(nr_devices=0); fi
        modprobe "$module" ${parameters[@]+"${parameters[@]}"} || die "cannot load $module"
        loaded+=("$module")
    done
}

make_null_blk() {
    if ! mountpoint -q /sys/kernel/config; then
        mount -t configfs configfs /sys/kernel/config
        mounted_configfs=yes
    fi
    mkdir "$nullb" || die 'null_blk takes no devices by configfs here'
    echo 1024 >"$nullb/size"
    echo 1 >"$nullb/memory_backed" 2>/dev/null && echo 0 >"$nullb/memory_backed"
    echo 2 >"$nullb/queue_mode"
    echo 1 >"$nullb/power"
    UBLK_NULL_BLK=/dev/$(null_blk_name)
    export UBLK_NULL_BLK
    local tries
    for ((tries = 0; tries < 100; ++tries)); do
        [[ ! -b $UBLK_NULL_BLK ]] || return 0
        sleep 0.1
    done
    die "$UBLK_NULL_BLK does not come"
}

# Newer kernels name the disk as its folder, older ones by its index.
null_blk_name() {
    if [[ -e /sys/block/ublk-benchmark ]]; then echo ublk-benchmark; else
        echo "nullb$(<"$nullb/index")"
    fi
}

save_settings() {
    local each
    for each in "${settings[@]}"; do saved+=("$(</proc/sys/vm/$each)"); done
}

restore() {
    local each i
    trap '' INT TERM HUP
    if [[ -n $runner ]] && kill -TERM "$runner" 2>/dev/null; then wait "$runner" || true; fi
    for i in "${!saved[@]}"; do
        # Of a ratio and its bytes one is 0; that one cannot be written, and is by the other.
        [[ ${saved[i]} == 0 && ${settings[i]} == *ratio ]] ||
            echo "${saved[i]}" >"/proc/sys/vm/${settings[i]}"
    done
    if [[ -d $nullb ]]; then
        echo 0 >"$nullb/power" || true
        rmdir "$nullb" || printf 'host.sh: %s stays\n' "$nullb" >&2
    fi
    if [[ -n $mounted_configfs ]]; then umount /sys/kernel/config || true; fi
    for each in ${loaded[@]+"${loaded[@]}"}; do
        modprobe -r "$each" || printf 'host.sh: module %s stays\n' "$each" >&2
    done
    if [[ -n $bin ]]; then rm -rf "$bin"; fi
}

place_programs() { # LOAD [KUBLK]
    bin=$(mktemp -d)
    ln -s "$(realpath "$1")" "$bin/load"
    if (($# == 2)); then ln -s "$(realpath "$2")" "$bin/kublk"; fi
}

main() {
    yes=no
    if [[ ${1-} == --yes ]]; then yes=yes; shift; fi
    (($# == 3 || $# == 4)) && [[ $1 != -* ]] || die 'three words or four (--help tells which)'
    local plan=$1 result=$2
    shift 2
    check "$@"
    trap restore EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    load_modules
    save_settings
    place_programs "$@"
    make_null_blk
    printf 'guest: Linux %s, %s CPUs, the machine itself\n' "$(uname -r)" "$(nproc)"
    PATH=$bin:$PATH UBLK_RESULT=$result bash "$here/guest.sh" "$plan" clock &
    runner=$!
    local status=0
    wait "$runner" || status=$?
    runner=''
    return "$status"
}

main "$@"
