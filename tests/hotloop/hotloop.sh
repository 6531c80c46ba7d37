#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Disassembles the hot loops of a program and fails on what they must not have.
#
# Usage: hotloop.sh PROGRAM BACKEND COUNT
#
#   BACKEND    the loops of server<...> whose first argument ends in this name
#   COUNT      how many there have to be: none found is not none bad
#
# Follows calls and jumps into other functions of the program until one on the list below. Exit
# status: 0, 1, or 77 where nothing can be said (not x86-64).
set -euo pipefail
export LC_ALL=C

# Where the loop may go: the kernel, bulk memory, and a cold end. Clang's terminate is where it ends
# up if liburing, which is C and says nothing of exceptions, were to throw.
allowed='^(io_uring_[a-z_]+|memcpy|memmove|memset|madvise|__errno_location)(@plt)?$'
allowed+='|^ublk::v0::detail::assertion_failed[(]|^__clang_call_terminate$'

# What is not part of the one function that the loop is: what hardly ever happens.
cold='::(make_room|unusual|submit|lose)[(]'

(($# == 3)) || { sed -n '/^# Usage:/,/^set /{/^set /!s/^# \{0,1\}//p}' "$0" >&2; exit 1; }
program=$1 backend=$2 count=$3

if [[ $(uname -m) != x86_64 ]]; then
    printf 'hotloop.sh: skipped: it reads x86-64 only, and this is %s\n' "$(uname -m)"
    exit 77
fi

"${OBJDUMP:-objdump}" -d -C --no-show-raw-insn -w "$program" | awk \
    -v allowed="$allowed" -v backend="$backend" -v expected="$count" -v cold="$cold" '
    # "0000000000001139 <name>:"
    /^[0-9a-f]+ <.*>:$/ {
        name = $0
        sub(/^[0-9a-f]+ </, "", name)
        sub(/>:$/, "", name)
        names[++functions] = name
        first[functions] = instructions + 1
        next
    }
    # "    1139:\tcall   1030 <memset@plt>"
    /^ +[0-9a-f]+:\t/ {
        split($0, part, "\t")
        gsub(/[ :]/, "", part[1])
        text[++instructions] = part[2]
        owner[part[1]] = functions
        last[functions] = instructions
    }

    function complain(from, what, instruction) {
        printf "    %s: %s\n        in %s\n", what, instruction, names[from]
        ++complaints
    }

    # Looks at one function, and puts those that it goes to on the list.
    function read_function(f, i, word, operation, target, to) {
        for (i = first[f]; i <= last[f]; ++i) {
            split(text[i], word, " +")
            operation = word[1] ~ /^(bnd|notrack)$/ ? 2 : 1
            if (word[operation] ~ /^(lock|xacquire|xrelease)$/ ||
                (word[operation] ~ /^xchg/ && text[i] ~ /\(/)) {
                complain(f, "locked instruction", text[i])
            } else if (word[operation] ~ /^(syscall|sysenter|int)$/) {
                complain(f, "system call", text[i])
            } else if (word[operation] ~ /^(call|jmp|j[a-z]+)$/) {
                target = word[operation + 1]
                if (target ~ /^\*/) {
                    complain(f, "indirect " (word[operation] ~ /^c/ ? "call" : "jump"), text[i])
                    continue
                }
                to = owner[target]
                if (to == f) continue
                if (to == "") {
                    complain(f, "goes nowhere known", text[i])
                } else if (names[to] ~ allowed) {
                    continue
                } else if (names[to] ~ forbidden) {
                    complain(f, "forbidden call", names[to])
                } else if (names[to] ~ /@plt$/) {
                    complain(f, "call that is not allowed", names[to])
                } else if (!(to in seen)) {
                    if (names[to] !~ cold) complain(f, "not inlined", names[to])
                    seen[to] = 1
                    todo[++todos] = to
                }
            }
        }
    }

    function read_loop(root, i, called, size) {
        split("", seen)
        todos = 0
        seen[root] = 1
        todo[++todos] = root
        called = complaints = 0
        for (i = 1; i <= todos; ++i) {
            read_function(todo[i])
            size = last[todo[i]] - first[todo[i]] + 1
            if (i > 1) called += size
        }
        # A disassembler that writes otherwise than expected must not pass for a good loop.
        if (last[root] - first[root] < 20) complain(root, "cannot be read", "too short")
        printf "%s\n    %d instructions, and %d in %d functions it calls:\n", names[root],
            last[root] - first[root] + 1, called, todos - 1
        for (i = 2; i <= todos; ++i) {
            printf "    %5d %s\n", last[todo[i]] - first[todo[i]] + 1, names[todo[i]]
        }
        return complaints
    }

    END {
        forbidden = "^(operator (new|delete)|malloc|calloc|realloc|free|__cxa_|_Unwind_|pthread_)"
        for (f = 1; f <= functions; ++f) {
            if (names[f] ~ "^ublk::v0::server<([a-z_0-9]+::)*" backend ",.*>::collect\\(\\)$") {
                ++loops
                bad += read_loop(f)
            }
        }
        if (loops != expected) {
            printf "hotloop.sh: %d loops of %s instead of %d\n", loops, backend, expected
            exit 1
        }
        exit bad > 0
    }'
