#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Disassembles the hot loops of a program and fails on what they must not have.
#
# Usage: hotloop.sh PROGRAM BACKEND COUNT [waits|parts]
#
#   BACKEND    the loops of queue_loop<...> whose first argument ends in this name
#   COUNT      how many there have to be: none found is not none bad
#   waits      of an asynchronous backend: coroutines are resumed and ended through their frames,
#              which is the only indirect call, and their bodies are read as well. All of it need
#              not be one function.
#   parts      all of it need not be one function, but nothing else is allowed either
#
# Follows calls and jumps into other functions of the program until one on the list below. Exit
# status: 0, 1, or 77 where nothing can be said (not x86-64).
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }
export LC_ALL=C

# Where the loop may go: the kernel, bulk memory, and a cold end. Clang's terminate is where it ends
# up if liburing, which is C and says nothing of exceptions, were to throw. note_failures tells what
# a request met with that has failed, which may be an exception.
allowed='^(io_uring_[a-z_]+|memcpy|memmove|memset|madvise|sched_getcpu|__errno_location)(@plt)?$'
allowed+='|^ublk::v0::detail::(assertion_failed|note_failures)[(]|^__clang_call_terminate$'

# Of the data path whose backends copy by themselves, and where a thread copies for tags without
# buffers, only: that is how.
copying='^(pread|pwrite)(64)?(@plt)?$'

# Of loops that measure, only.
clock='^std::chrono::_V2::steady_clock::now[(][)](@plt)?$'

# What is not part of the one function that the loop is: what hardly ever happens. It may use atomic
# instructions, and read the eventfd that woke the thread.
cold='::(make_room|unusual|submit|lose|resume_completed|abandon|end_all_work)[(]'
cold+='|::(unusual|fetch_ended|settle|renew)<|::fetch_tags[(]|::thread_affinity::moved[(]'
cold+='|::(answer_unusual|note_end|note_answer|add)[(]|::user_copy::[gp][eu]t_rest[(]'
cold+='|::memory::(read_tracked|read_runs|write_tracked|place_tracked|forget)[(]'
cold_allowed='^(eventfd_read|sched_yield|sched_[gs]etaffinity|__io_uring_sqring_wait)(@plt)?$'
cold_allowed+='|^std::chrono::_V2::steady_clock::now[(][)](@plt)?$'

if [[ $# != 3 && ($# != 4 || ! ${4-} =~ ^(waits|parts)$) ]]; then
    sed -n '/^# Usage:/,/^set /{/^set /!s/^# \{0,1\}//p}' "$0" >&2
    exit 1
fi
program=$1 backend=$2 count=$3 waits='' parts=''
case ${4-} in
waits) waits=yes parts=yes ;;
parts) parts=yes ;;
esac

if [[ $(uname -m) != x86_64 ]]; then
    printf 'hotloop.sh: skipped: it reads x86-64 only, and this is %s\n' "$(uname -m)"
    exit 77
fi

"${OBJDUMP:-objdump}" -d -C --no-show-raw-insn -w "$program" | awk \
    -v allowed="$allowed" -v backend="$backend" -v expected="$count" -v cold="$cold" \
    -v copying="$copying" -v clock="$clock" -v cold_allowed="$cold_allowed" -v waits="$waits" \
    -v parts="$parts" '
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

    # The last one before i that writes to that register, in the same stretch of code; 0 if unclear.
    function writer(i, f, register, word) {
        for (--i; i >= first[f] && text[i] !~ /^(call|ret|jmp)/; --i) {
            split(text[i], word, " +")
            if (word[1] !~ /^(cmp|test|push|j)/ && text[i] ~ "[ ,]" register "$") return i
        }
        return 0
    }

    # Whether both registers hold the same at i: the one was copied to the other.
    function same(i, f, one, other, at) {
        if (one == other) return 1
        at = writer(i, f, other)
        if (at && text[at] == "mov    " one "," other) return !(writer(i, f, one) > at)
        at = writer(i, f, one)
        return at && text[at] == "mov    " other "," one && !(writer(i, f, other) > at)
    }

    # Whether the instruction calls what a coroutine frame begins with, its function to resume or
    # the next, to end it: with that frame as the argument. A call through a table of virtual
    # functions reads the table from the object first, and a std::function is longer.
    function through_frame(i, f, target, base) {
        if (target ~ /^\*%/) {
            base = substr(target, 2)
            i = writer(i, f, base)
            if (!i || text[i] !~ "^mov +(0x8)?[(]%[a-z0-9]+[)]," base "$") return 0
            target = text[i]
            sub(/,.*/, "", target)
        }
        if (target !~ /^(mov +|\*)(0x8)?[(]%[a-z0-9]+[)]$/) return 0
        base = target
        sub(/.*[(]/, "", base)
        sub(/[)]/, "", base)
        return base == "%rdi" || same(i, f, base, "%rdi") || argument_follows(i, f, base)
    }

    # Between the load of the function and its call.
    function argument_follows(i, f, base) {
        for (++i; i <= last[f] && text[i] !~ /^(call|jmp|ret)/; ++i) {
            if (text[i] == "mov    " base ",%rdi") return 1
        }
        return 0
    }

    # Looks at one function, and puts those that it goes to on the list.
    function read_function(f, i, word, operation, target, to, seldom, by_thread) {
        seldom = f in is_cold
        by_thread = names[f] ~ /::(answer_unusual|user_copy::[gp][eu]t_rest)[(]/
        for (i = first[f]; i <= last[f]; ++i) {
            split(text[i], word, " +")
            operation = word[1] ~ /^(bnd|notrack)$/ ? 2 : 1
            if (word[operation] ~ /^(lock|xacquire|xrelease)$/ ||
                (word[operation] ~ /^xchg/ && text[i] ~ /\(/)) {
                if (!seldom) complain(f, "locked instruction", text[i])
            } else if (word[operation] ~ /^(syscall|sysenter|int)$/) {
                complain(f, "system call", text[i])
            } else if (word[operation] ~ /^(call|jmp|j[a-z]+)$/) {
                target = word[operation + 1]
                if (target ~ /^\*/) {
                    if (waits && through_frame(i, f, target)) continue
                    complain(f, "indirect " (word[operation] ~ /^c/ ? "call" : "jump"), text[i])
                    continue
                }
                to = owner[target]
                if (to == f) continue
                if (to == "") {
                    complain(f, "goes nowhere known", text[i])
                } else if (names[to] ~ allowed || (seldom && names[to] ~ cold_allowed) ||
                           ((copies || by_thread) && names[to] ~ copying) ||
                           (measures && names[to] ~ clock)) {
                    continue
                } else if (names[to] ~ forbidden) {
                    complain(f, "forbidden call", names[to])
                } else if (names[to] ~ /@plt$/) {
                    complain(f, "call that is not allowed", names[to])
                } else if (!(to in seen) || (to in is_cold && !seldom && names[to] !~ cold)) {
                    if (!seldom && !parts && names[to] !~ cold) {
                        complain(f, "not inlined", names[to])
                    }
                    delete is_cold[to]
                    if (seldom || names[to] ~ cold) is_cold[to] = 1
                    seen[to] = 1
                    todo[++todos] = to
                }
            }
        }
    }

    function read_loop(root, i, called, size) {
        split("", seen)
        split("", is_cold)
        copies = names[root] ~ /paths::user_copy[,>]/
        measures = names[root] ~ /, ublk::v0::stats>::/
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
        loop = "^ublk::v0::detail::queue_loop<([a-z_0-9]+::)*" backend ",.*>::collect\\(\\)$"
        body = "^([a-z_0-9]+::)*" backend "::.*[[]clone .(actor|resume)[]]$"
        for (f = 1; f <= functions; ++f) {
            if (names[f] ~ loop) {
                ++loops
                bad += read_loop(f)
            } else if (waits && names[f] ~ body) {
                ++bodies
                bad += read_loop(f)
            }
        }
        if (waits && !bodies) {
            printf "hotloop.sh: no coroutine of %s\n", backend
            exit 1
        }
        if (loops != expected) {
            printf "hotloop.sh: %d loops of %s instead of %d\n", loops, backend, expected
            exit 1
        }
        exit bad > 0
    }'
