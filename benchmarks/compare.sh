#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Compares two commits of this repository on the real driver: the same disks of both at once, their
# measurements side by side, as instructions and by the clock.
#
# Usage: compare.sh [OPTION]... A B
#
#   A, B                 commits, or . for the working tree
#   --kernel VERSION     as for tests/guest/run.sh (newest)
#   --rounds N           pairs by the clock (9)
#   --counts             instructions only
#   --json FILE          all figures
#   --help
#
# stdout gets a Markdown table: above 1.00 says that B is the faster one. Both commits must have
# benchmarks/target.cpp.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
build=$root/build/benchmarks
# shellcheck source=common.sh
source "$here/common.sh"

parse_options() {
    kernel=newest rounds=9 instruments=(counts clock) json='' commits=() kublk=''
    while (($#)); do
        case $1 in
        --help) usage 0 ;;
        --counts) instruments=(counts); shift; continue ;;
        --kernel | --rounds | --json) (($# >= 2)) || die "$1 needs a value" ;;
        -*) die "unknown option $1 (--help tells all)" ;;
        *) commits+=("$1"); shift; continue ;;
        esac
        case $1 in
        --kernel) kernel=$2 ;;
        --rounds) rounds=$2 ;;
        --json) json=$2 ;;
        esac
        shift 2
    done
    ((${#commits[@]} == 2)) || die "two commits are needed (--help tells all)"
    [[ $rounds =~ ^[1-9][0-9]{0,2}$ ]] || die "--rounds $rounds: a number from 1 to 999"
}

# A tree of each commit, with a build that is kept for the next time.
build_commit() { # A|B COMMIT
    local tree=$root directory=$build/cmake hash
    if [[ $2 != . ]]; then
        hash=$(git -C "$root" rev-parse --verify --quiet "$2^{commit}") || die "$2: no such commit"
        git -C "$root" cat-file -e "$hash:benchmarks/target.cpp" 2>/dev/null ||
            die "$2 has no benchmarks/target.cpp"
        tree=$build/commits/$hash directory=$build/commits/$hash.build
        if [[ ! -e $tree/CMakeLists.txt ]]; then
            mkdir -p "$tree"
            git -C "$root" archive "$hash" | tar -x -C "$tree"
        fi
    fi
    build_programs "$tree" "$directory" ublk_benchmark_target ublk_benchmark_load
    servers+=(--add "$directory/benchmarks/target:/opt/benchmark/$1")
    load=$directory/benchmarks/load
}

parse_options "$@"
"$root/tests/guest/packages.sh" build guest client benchmark >&2
make_work
servers=() load=''
build_commit A "${commits[0]}"
build_commit B "${commits[1]}"
for instrument in "${instruments[@]}"; do
    python3 "$here/plan.py" compare "$instrument" --rounds "$rounds" \
        --programs A=/opt/benchmark/A B=/opt/benchmark/B >"$work/plan.$instrument"
done
measurements "$work"/plan.*
for instrument in "${instruments[@]}"; do
    options=()
    if [[ $instrument == counts ]]; then options=(--icount); fi
    run_guest "$instrument" "$instrument" ${options[@]+"${options[@]}"}
done
python3 "$here/report.py" collect --scope compare --command "compare.sh $*" \
    --commit "${commits[*]}" --compiler "$(c++ --version | head -n 1)" --lines "$work" \
    >"$work/results"
if [[ -n $json ]]; then cp "$work/results" "$json"; fi
python3 "$here/report.py" compare "$work/results"
