#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Counts the instructions that a queue thread executes in user mode for a request of 4 KiB, by data
# path and backend: from the events to the queued commits, the backend included, without what
# liburing and the kernel add.
#
# Usage: user_instructions.sh [COMPILER]
#
# Needs valgrind. Exact: the same compiler counts the same number each time.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cases=(null.copy null.copy_batches memory.copy memory.copy_batches memory.lend memory.user_copy
    file.at_once file.copy file.fixed_copy file.zero_copy file.auto_buffer)

# Prints instructions within the loop, and requests.
count() { # CASE WAY TURNS
    local requests total
    requests=$(valgrind --tool=callgrind --callgrind-out-file="$work/out" \
        --toggle-collect='*::collect()' "$work/program" "$@" 2>"$work/err")
    total=$(sed -n 's/^==.*Collected : *//p' "$work/err")
    echo "$total $requests"
}

# Two runs, so that what happens once for all cancels out.
per_request() { # CASE WAY
    local a b
    read -ra a < <(count "$1" "$2" 100)
    read -ra b < <(count "$1" "$2" 300)
    echo $(((b[0] - a[0]) / (b[1] - a[1])))
}

"${1:-c++}" -std=c++20 -O2 -g1 -I "$here/../include" "$here/user_instructions.cpp" \
    -o "$work/program" -luring
printf '| backend.path | read | write |\n|---|---:|---:|\n'
for each in "${cases[@]}"; do
    printf '| %s | %d | %d |\n' "$each" "$(per_request "$each" read)" "$(per_request "$each" write)"
done
