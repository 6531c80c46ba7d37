#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Compares block devices that keep their data in a file: the kernel's loop, the kernel's own ublk
# server kublk, and ours. README.md tells how to read what comes out.
#
# Usage: file.sh [OPTION]...
#
#   --ours "COMMAND"    a program of ours, any number of times: it prints its device on the first
#                       line and serves until SIGTERM. The word FILE stands for the file; a word in
#                       brackets, as [--direct], is left out where the file is to be buffered.
#   --icount            count instructions instead of taking the time
#   --rounds N          7 of them, or 1 with --icount
#   --quick             4 KiB requests only
#   --kernel VERSION    as for tests/guest/run.sh (newest)
#   --kublk FILE        instead of building it
#   --json FILE         where the figures go (build/benchmarks/file.json)
#
# stdout gets a Markdown table, stderr the progress.
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/..
out=$root/build/benchmarks

die() {
    printf 'file.sh: %s\n' "$*" >&2
    exit 1
}

usage() {
    sed -n '/^# Usage:/,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 2
}

parse_options() {
    counting=no rounds='' sizes='4096 131072' kernel=newest kublk='' json=$out/file.json ours=()
    while (($#)); do
        case $1 in
        --icount) counting=yes; shift; continue ;;
        --quick) sizes=4096; shift; continue ;;
        --ours | --rounds | --kernel | --kublk | --json) (($# >= 2)) || die "$1 needs a value" ;;
        *) usage ;;
        esac
        case $1 in
        --ours) ours+=("$2") ;;
        --rounds) rounds=$2 ;;
        --kernel) kernel=$2 ;;
        --kublk) kublk=$2 ;;
        --json) json=$2 ;;
        esac
        shift 2
    done
    if [[ -z $rounds ]]; then rounds=7; [[ $counting == no ]] || rounds=1; fi
    [[ $rounds =~ ^[1-9][0-9]*$ ]] || die "--rounds: a number"
}

get_kublk() {
    [[ -z $kublk ]] || return 0
    kublk=$out/kublk
    [[ -x $kublk ]] || "$here/kublk.sh" "$out" >&2
}

# Each program gets a directory of its own in the guest, as two may have the same name.
add_ours() {
    local i program there
    for i in "${!ours[@]}"; do
        program=${ours[i]%% *} there=/opt/ours/$((i + 1))
        [[ -x $program ]] || die "--ours: no program $program"
        guest+=(--add "$program:$there/")
        commands+=("$there/${program##*/}${ours[i]#"$program"}")
    done
}

run_guest() {
    local name module limit
    local -a guest commands=()
    # A cell takes some two seconds, its start included.
    limit=$((600 + rounds * (112 + 32 * ${#ours[@]}) * 6))
    guest=(--kernel "$kernel" --memory 3G --timeout "$limit" --result "$work/lines")
    if [[ $counting == yes ]]; then guest+=(--icount); fi
    for name in bash fio losetup mkfs.ext4 mount awk; do guest+=(--program "$name"); done
    for module in ublk_drv loop ext4 "brd rd_nr=1 rd_size=$((1 << 20))"; do
        guest+=(--module "$module")
    done
    guest+=(--add "$kublk:/usr/bin/kublk" --add "$here/file-guest.sh:/usr/bin/file-guest.sh")
    add_ours
    "$root/tests/guest/run.sh" "${guest[@]}" -- bash /usr/bin/file-guest.sh \
        "$counting" "$rounds" "$sizes" ${commands[@]+"${commands[@]}"} >&2
}

parse_options "$@"
"$root/tests/guest/packages.sh" guest client python3 >&2
get_kublk
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run_guest
mkdir -p "$(dirname "$json")"
python3 "$here/table.py" "$counting" "$work/lines" "$json" ${ours[@]+"${ours[@]}"}
