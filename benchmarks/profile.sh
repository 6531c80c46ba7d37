#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Counts the instructions of a whole guest by function while a disk is read or written: kernel,
# client and server. With two disks it shows how they differ.
#
# Usage: profile.sh [OPTION]... DISK [DISK]
#
#   DISK                 null_blk, brd, loop, loop-direct, kublk, kublk-u, kublk-b, kublk-auto_zc,
#                        kublk-auto_zc-b, or one of ours, as null/per_cpu/per_wakeup/copy
#   --kernel VERSION     as for tests/guest/run.sh (newest)
#   --kublk FILE         the kernel's own ublk server, instead of building it where it is asked for
#   --cpus N             of the guest (2)
#   --queues N           of the servers (1)
#   --client load|single all that is free a system call, or one request (load)
#   --way read|write|mixed (read)
#   --bytes N            of a request (4096)
#   --depth N            requests in flight, of each job (64)
#   --jobs N             (1)
#   --requests N         that are counted (6000)
#   --top N              functions that are shown (20)
#   --json FILE          all of them
#   --help
#
# stdout gets a Markdown table of instructions per request. The sums repeat to 0.1 %: nothing here
# depends on the clock of the host.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
build=$root/build/benchmarks
# shellcheck source=common.sh
source "$here/common.sh"

parse_options() {
    kernel=newest kublk='' cpus=2 queues=1 client=load way=read bytes=4096 depth=64 jobs=1
    requests=6000 top=20 json='' disks=()
    while (($#)); do
        case $1 in
        --help) usage 0 ;;
        --kernel | --kublk | --cpus | --queues | --client | --way | --bytes | --depth) ;&
        --jobs | --requests | --top | --json)
            (($# >= 2)) || die "$1 needs a value"
            printf -v "${1#--}" '%s' "$2"
            shift 2
            ;;
        -*) die "unknown option $1 (--help tells all)" ;;
        *) disks+=("$1"); shift ;;
        esac
    done
    ((${#disks[@]} == 1 || ${#disks[@]} == 2)) || die "one disk or two (--help tells which)"
    check_options
}

check_options() {
    local name
    for name in cpus queues bytes depth jobs requests top; do
        [[ ${!name} =~ ^[1-9][0-9]{0,8}$ ]] || die "--$name ${!name}: a number from 1 on"
    done
    [[ $client == load || $client == single ]] || die "--client $client: load or single"
    [[ $way == read || $way == write || $way == mixed ]] || die "--way $way: read, write or mixed"
    [[ -z $kublk || -x $kublk ]] || die "--kublk $kublk: no such program"
    [[ -z $json ]] || : >"$json" || die "--json $json: cannot be written"
}

# The same way for the plugins' interface as profile_plugin.c has it.
build_plugin() {
    local version api=1
    version=$(qemu-system-x86_64 --version | sed -n 's/^QEMU emulator version \([0-9.]*\).*/\1/p')
    [[ $(printf '%s\n' "$version" 9.1 | sort -V | head -n 1) != 9.1 ]] || api=3
    gcc -O2 -shared -fPIC -Wall -Wextra -Werror "-DUBLK_QEMU_API=$api" -o "$work/plugin.so" \
        "$here/profile_plugin.c" || die "the plugin does not build"
}

write_plan() {
    "$build/cmake/benchmarks/target" --list >"$work/disks"
    python3 "$here/plan.py" profile counts --disks "$work/disks" --contenders "${disks[@]}" \
        --profile "$queues" "$client $way $bytes $depth $jobs $requests" >"$work/plan.profile" ||
        exit 2
}

parse_options "$@"
"$root/tests/guest/packages.sh" build guest client benchmark >&2
make_work
build_programs "$root" "$build/cmake" ublk_benchmark_target ublk_benchmark_load
write_plan
if grep -q ' kublk ' "$work/plan.profile"; then get_kublk; fi
build_plugin
measurements "$work/plan.profile"
run_guest profile counts --icount --cpus "$cpus" \
    --qemu-plugin "$work/plugin.so,out=$work/counted"
python3 "$here/profile_report.py" "$work/counted" "$work/lines.profile" \
    "$((requests / jobs * jobs))" --top "$top" ${json:+--json "$json"} \
    --elf "target=$build/cmake/benchmarks/target" ${kublk:+--elf "kublk=$kublk"}
