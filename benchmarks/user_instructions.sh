#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Counts the instructions that a queue thread executes in user mode for a request of 4 KiB, by data
# path and backend: from the events to the queued commands, in the rings that are shared with the
# kernel, the backend included. What a turn of the loop costs beyond that is not in it: the system
# call, and some dozens in liburing's function that makes it.
#
# Usage: user_instructions.sh [--json] [COMPILER]
#        user_instructions.sh --most N PROGRAM BACKEND.PATH read|write
#
# The first prints a table, or JSON for the report: the program's own instructions, and what memcpy
# and other functions of libraries add. The second takes a program that is built, and fails where
# its own are more than N.
#
# Needs valgrind; exits with 77 without it. Exact: the same compiler counts the same number each
# time; libraries choose by the machine how they copy.
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cases=(null.copy null.copy_batches memory.copy memory.copy_batches memory.get_data memory.user_copy
    file.at_once file.copy file.fixed_copy file.zero_copy file.auto_buffer)

if ! command -v valgrind >"$work/valgrind"; then
    echo 'user_instructions.sh: skipped: there is no valgrind'
    exit 77
fi

# Prints requests, instructions of the program itself, and of libraries within the loop.
count() { # PROGRAM CASE WAY TURNS
    local requests
    requests=$(valgrind --tool=callgrind --callgrind-out-file="$work/out" \
        --toggle-collect='*::collect()' "$@" 2>"$work/err") || {
        cat "$work/err" >&2
        return 1
    }
    # Each line of costs belongs to the object named last; the one after "calls=" counts what was
    # called once more.
    awk -v requests="$requests" -v program="$(realpath "$1")" '
        /^c?ob=/ {
            match($0, /\([0-9]+\)/)
            number = substr($0, RSTART, RLENGTH)
            if (RSTART + RLENGTH <= length($0)) name[number] = substr($0, RSTART + RLENGTH + 1)
            if (/^ob=/) object = number
        }
        /^calls=/ { called = 1; next }
        /^[-+*0-9]/ { if (!called) sum[name[object] == program] += $2; called = 0 }
        END { print requests, sum[1] + 0, sum[0] + 0 }' "$work/out"
}

# Two runs, so that what happens once for all cancels out.
per_request() { # PROGRAM CASE WAY
    local a b
    a=$(count "$@" 100)
    b=$(count "$@" 300)
    awk -v a="$a" -v b="$b" 'BEGIN {
        split(a, x, " ")
        split(b, y, " ")
        if (y[1] <= x[1]) exit 1
        printf "%.1f %.1f\n", (y[2] - x[2]) / (y[1] - x[1]), (y[3] - x[3]) / (y[1] - x[1])
    }'
}

if [[ ${1-} == --most ]]; then
    counted=$(per_request "$3" "$4" "$5")
    awk -v most="$2" -v counted="$counted" -v what="$4 $5" 'BEGIN {
        over = counted + 0 > most + 0
        printf "%s: %.1f instructions for a request, %d allowed%s\n", what, counted, most,
            over ? ": too many" : ""
        exit over
    }'
    exit
fi

json=''
if [[ ${1-} == --json ]]; then json=yes && shift; fi

table() {
    printf '| backend.path | read | libraries | write | libraries |\n|---|---:|---:|---:|---:|\n'
    awk '{ print "| " $1 " | " $2 " | " $3 " | " $4 " | " $5 " |" }'
}

# An array of objects.
objects() {
    awk 'BEGIN { between = "[" }
        {
            printf "%s{\"case\":\"%s\",\"read\":%s,\"read_libraries\":%s,", between, $1, $2, $3
            printf "\"write\":%s,\"write_libraries\":%s}", $4, $5
            between = ",\n"
        }
        END { print "]" }'
}

"${1:-c++}" -std=c++20 -O2 -g1 -I "$here/../include" "$here/user_instructions.cpp" \
    -o "$work/program" -luring -pthread
for each in "${cases[@]}"; do
    read=$(per_request "$work/program" "$each" read)
    write=$(per_request "$work/program" "$each" write)
    echo "$each $read $write"
done >"$work/counted"
if [[ $json ]]; then objects <"$work/counted"; else table <"$work/counted"; fi
