#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Measures the library beside the kernel's own devices, on the real driver of a stock kernel in
# QEMU, and writes a report. README.md tells how to read it.
#
# Usage: run.sh [OPTION]...
#
#   --quick              the goals only, within 5 minutes on 2 cores once the programs are built
#   --ram-disk           our RAM disk beside loop on tmpfs only; the table also goes to stdout
#   --host               by the clock, on the kernel and the CPUs of this machine, not a guest's:
#                        on disks of its own; asks before it loads modules; kublk only by --kublk
#   --yes                loads modules for --host without asking
#   --kernel VERSION     as for tests/guest/run.sh (newest)
#   --kublk FILE         the kernel's own ublk server, instead of building it
#   --out DIR            where results.json, report.md and report.html go
#                        (build/benchmarks/report)
#   --rounds N           of each measurement by the clock (3); --ram-disk has at least 9
#   --no-user            without the instructions of the library alone (needs valgrind)
#   --help
#
# A second run with the same --out replaces the report. stderr gets the progress.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
build=$root/build/benchmarks
# shellcheck source=common.sh
source "$here/common.sh"

parse_options() {
    scope=full kernel=newest kublk='' out=$build/report rounds=3 user=yes command=run.sh host=no
    answer=()
    while (($#)); do
        case $1 in
        --help) usage 0 ;;
        --quick) scope=quick command+=" $1"; shift; continue ;;
        --ram-disk) scope=ram-disk command+=" $1"; shift; continue ;;
        --host) host=yes command+=" $1"; shift; continue ;;
        --yes) answer=(--yes); shift; continue ;;
        --no-user) user=no command+=" $1"; shift; continue ;;
        --kernel | --kublk | --out | --rounds) (($# >= 2)) || die "$1 needs a value" ;;
        *) die "unknown option $1 (--help tells all)" ;;
        esac
        case $1 in
        --kernel) kernel=$2 command+=" $1 $2" ;;
        --kublk) kublk=$2 ;;
        --out) out=$2 ;;
        --rounds) rounds=$2 command+=" $1 $2" ;;
        esac
        shift 2
    done
    [[ $rounds =~ ^[1-9][0-9]{0,2}$ ]] || die "--rounds $rounds: a number from 1 to 999"
    [[ $kernel == newest || $kernel =~ ^[0-9]+\.[0-9]+$ ]] ||
        die "--kernel $kernel: newest, or as 7.3"
    [[ -z $kublk || -x $kublk ]] || die "--kublk $kublk: no such program"
    mkdir -p "$out" || die "--out $out: cannot be made"
}

# The plans come first, so that the time left is known from the start.
make_plans() {
    local instrument
    local -a instruments=(counts clock)
    if [[ $host == yes ]]; then instruments=(clock); fi
    "$build/cmake/benchmarks/target" --list >"$work/disks"
    for instrument in "${instruments[@]}"; do
        python3 "$here/plan.py" "$scope" "$instrument" --rounds "$rounds" \
            --disks "$work/disks" >"$work/plan.$instrument"
    done
    if [[ $host == yes ]]; then
        fit_plan_to_host
    elif [[ $scope != ram-disk ]]; then
        python3 "$here/plan.py" four-cpus counts >"$work/plan.four-cpus"
    fi
    measurements "$work"/plan.*
}

# Without what this machine has not, or is not ours: brd makes no disk for us alone.
fit_plan_to_host() {
    local without=' brd$'
    if [[ -z $kublk ]]; then without+='| kublk '; fi
    grep -vE "^contender [^ ]*($without|$without.*)" "$work/plan.clock" |
        sed "s,/opt/benchmark/target,$build/cmake/benchmarks/target," >"$work/fit"
    mv "$work/fit" "$work/plan.clock"
}

# On the machine itself; as run_guest in a guest.
run_host() {
    "$here/host.sh" ${answer[@]+"${answer[@]}"} "$work/plan.clock" "$work/lines.clock" \
        "$build/cmake/benchmarks/load" ${kublk:+"$kublk"} >"$work/log.clock" 2>&1 &
    guest=$!
    follow "$work/log.clock" "$guest" clock
    local status=0
    wait "$guest" || status=$?
    guest=''
    if ((status)); then
        grep -v '^progress ' "$work/log.clock" | tail -n 20 >&2
        die "measuring this machine failed with status $status"
    fi
    sed -n 's/^guest: //p' "$work/log.clock" | head -n 1 >"$work/guest.clock"
}

# The goals need but a few of them.
wants_every_loop() { [[ $user == yes && $scope == full ]]; }

count_user_instructions() {
    [[ $user == yes && $scope != ram-disk ]] || return 0
    say 'counting the instructions of the library alone'
    "$here/user_instructions.sh" --json >"$work/own"
    wants_every_loop || return 0
    python3 "$here/loop.py" "$build/cmake/benchmarks/loop" >"$work/user"
}

# Whoever reads the goals alone is to know what they were not measured with.
say_what_is_left_out() {
    [[ $scope == quick ]] || return 0
    say "--quick leaves out: requests larger than 4 KiB, depths but 1 and 64, mixed requests, the" \
        "other kinds of kublk, zero copy and user_copy, fio, the matrix of all policies and" \
        "paths, and nanoseconds of the loop alone"
}

parse_options "$@"
say_what_is_left_out
"$root/tests/guest/packages.sh" build guest client benchmark >&2
make_work
programs=(ublk_benchmark_target ublk_benchmark_load)
if wants_every_loop; then programs+=(ublk_benchmark_loop); fi
build_programs "$root" "$build/cmake" "${programs[@]}"
if [[ $host == no ]]; then get_kublk; fi
make_plans
count_user_instructions
if [[ $host == yes ]]; then
    run_host
else
    if [[ $scope != ram-disk ]]; then run_guest four-cpus counts --icount --cpus 4; fi
    run_guest counts counts --icount
    run_guest clock clock
fi
python3 "$here/report.py" collect --scope "$scope" --command "$command" \
    --commit "$(commit_of "$root")" --compiler "$(c++ --version | head -n 1)" \
    --lines "$work" >"$out/results.json"
python3 "$here/report.py" render "$out/results.json" "$out" >&2
if [[ $scope == ram-disk ]]; then python3 "$here/report.py" ram-disk "$out/results.json"; fi
say "report: $out/report.html, report.md, results.json"
