#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs what is missing, builds and runs the tests, and ends with a table.
#
#   tests/run.sh                      what must pass before anything lands
#   tests/run.sh --all                everything there is; takes hours
#   tests/run.sh --leg NAME           one part of it (repeatable)
#   tests/run.sh --list-legs          their names, and what they are
#
#   tests/run.sh --test FILE          the tests of one file, or of the header that FILE is
#   tests/run.sh --only unit          without a kernel: needs no root, no driver, no QEMU
#   tests/run.sh --only kernel        on the real driver
#   tests/run.sh --kernel 6.12        on this kernel (repeatable); `host` is the running one
#   tests/run.sh --compiler clang++   default: g++
#   tests/run.sh --sanitize WHAT      address,undefined or thread
#   tests/run.sh --list               the names of all tests
#
# tests/README.md tells which leg has what. tests/build.sh has further options for one build, which
# this takes as well.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)
logs=$root/build/legs
leg_seconds=2700

usage() { sed -n '3,/^set /{/^set /!s/^# \{0,1\}//p}' "$0"; }
die() {
    echo "run.sh: $*" >&2
    exit 2
}

# leg NAME ci|all WHAT COMMAND...; the command is one below tests/.
declare -A leg_set leg_text leg_command
leg_names=()
leg() {
    leg_names+=("$1")
    leg_set[$1]=$2 leg_text[$1]=$3 leg_command[$1]=${*:4}
}

# Debian has every kernel series from 6.12 on, and every liburing; elsewhere there is what there is.
# shellcheck source=/dev/null
debian=$(. /etc/os-release && echo "${ID:-}")
if [ "$debian" = debian ]; then
    kernels=(--kernel 6.12 --kernel newest)
    newest_liburing=(--liburing newest)
else
    kernels=(--kernel newest)
    newest_liburing=()
fi
clang=(--compiler clang++)
sanitize=(--sanitize 'address,undefined')

# As two run at a time, those that take long come first.
leg gcc ci "g++: all tests, on every kernel" \
    build.sh "${kernels[@]}"
leg address ci "clang's AddressSanitizer and UBSan, newest liburing, newest kernel: all tests" \
    build.sh "${clang[@]}" "${sanitize[@]}" "${newest_liburing[@]}" --kernel newest
leg clang ci "clang: coroutines optimised, the hot loop, refused programs, fuzzers" \
    build.sh "${clang[@]}" --only compiler
leg thread ci "clang's ThreadSanitizer: unit tests that start threads" \
    build.sh "${clang[@]}" --sanitize thread --only unit
leg demo ci "the README's demo" ../examples/demo.sh

leg gcc-optimised all "g++ -O2: all tests, on every kernel" build.sh --optimise
leg clang-optimised all "clang -O2: all tests, on every kernel" build.sh "${clang[@]}" --optimise
leg gcc-address all "g++'s AddressSanitizer and UBSan: all tests, on every kernel" \
    build.sh "${sanitize[@]}"
leg gcc-thread all "g++'s ThreadSanitizer: unit tests that start threads" \
    build.sh --sanitize thread --only unit
leg benchmarks all "all benchmarks build; they measure a machine and leave nothing there" \
    benchmarks.sh
leg bugs all "every planted bug is noticed" bugs/run.sh
leg headers all "each header and each test file alone, g++" build.sh --only headers
leg headers-clang all "the same, clang" build.sh "${clang[@]}" --only headers
leg marathon all "ten million requests on the simulator" build.sh --only marathon
leg fuzz-1 all "libFuzzer, 30 minutes each: requests, control" fuzz.sh requests control
leg fuzz-2 all "libFuzzer, 30 minutes each: settings, command_line" fuzz.sh settings command_line
if [ "$debian" = debian ]; then
    leg address-6.12 all "clang's AddressSanitizer and UBSan, newest liburing, on 6.12" \
        build.sh "${clang[@]}" "${sanitize[@]}" "${newest_liburing[@]}" --only kernel --kernel 6.12
    leg liburing-oldest all "liburing 2.3: unit tests" build.sh --liburing oldest --only unit
    leg liburing-newest all "the newest liburing: unit tests" build.sh --liburing newest --only unit
    leg debian13-gcc all "Debian 13, g++: unit tests, headers, examples" debian13.sh g++
    leg debian13-clang all "the same, clang" debian13.sh clang++
    leg repeat-6.12 all "kernel tests thrice on a busy machine" repeat.sh kernel 6.12
    leg repeat-newest all "the same, newest kernel" repeat.sh kernel newest
    leg kills-6.12 all "servers killed fifty times under fio, by kind and path" \
        repeat.sh kills 6.12
    leg kills-newest all "the same, newest kernel" repeat.sh kills newest
    leg repeat-time all "the tests about time twenty times on a busy machine" repeat.sh time
fi

names() { # PATTERN of sets
    local name
    for name in "${leg_names[@]}"; do
        # shellcheck disable=SC2053  # a pattern
        if [[ ${leg_set[$name]} == $1 ]]; then echo "$name"; fi
    done
}

install_packages() {
    local sets=(build client guest) name
    for name in "${chosen[@]}"; do
        case ${leg_command[$name]} in *clang++* | fuzz*) sets+=(clang) ;; esac
        case $name in debian13*) sets+=(debian) ;; esac
    done
    # Not needed to test, but it spares most of a second time.
    if [ "$(id -u)" = 0 ]; then sets+=(ccache); fi
    "$here/guest/packages.sh" "${sets[@]}"
}

# In a process group of its own, so that nothing of it is left when its time is over.
run_leg() {
    local name=$1 began=$SECONDS status=0 child
    local -a command
    read -ra command <<<"${leg_command[$name]}"
    mkdir -p "$logs/$name"
    export CCACHE_STATSLOG=$logs/$name/ccache
    timeout -k 30 "$leg_seconds" "$here/${command[0]}" "${command[@]:1}" \
        >"$logs/$name/output" 2>&1 &
    child=$!
    trap 'kill "$child" 2>/dev/null; wait "$child"; exit 130' TERM
    wait "$child" || status=$?
    echo "$status $((SECONDS - began))" >"$logs/$name/status"
}

show_leg() {
    local name=$1 status seconds
    read -r status seconds <"$logs/$name/status"
    printf '\n######## %s: %s\n' "$name" "${leg_command[$name]}"
    cat "$logs/$name/output"
    case $status in
    0) printf '######## %s: passed in %d s\n' "$name" "$seconds" ;;
    124 | 137) printf '######## %s: FAILED: no end within %d s\n' "$name" "$leg_seconds" ;;
    *) printf '######## %s: FAILED (%d) in %d s\n' "$name" "$status" "$seconds" ;;
    esac
}

# Two at a time: while one waits for a guest, which is one thread where it is emulated, another one
# compiles.
run_legs() {
    local at_once=2 name running=()
    (($(nproc) > 1)) || at_once=1
    export UBLK_JOBS=$((($(nproc) + at_once - 1) / at_once))
    trap 'kill "${running[@]}" 2>/dev/null; wait; exit 130' INT TERM
    for name in "${chosen[@]}"; do
        while (($(jobs -rp | wc -l) >= at_once)); do wait -n || true; show_ended; done
        printf '######## %s begins\n' "$name"
        run_leg "$name" &
        running+=($!)
    done
    while (($(jobs -rp | wc -l) > 0)); do wait -n || true; show_ended; done
    show_ended
}
shown=' '
show_ended() {
    local name
    for name in "${chosen[@]}"; do
        if [ -e "$logs/$name/status" ] && [[ $shown != *" $name "* ]]; then
            shown+="$name "
            show_leg "$name"
        fi
    done
}

case ${1-} in
'' | --all | --leg | --list-legs) ;;
-h | --help) usage; exit 0 ;;
*) exec "$here/build.sh" "$@" ;;
esac
chosen=()
while [ $# -gt 0 ]; do
    case $1 in
    --all) mapfile -t chosen < <(names '*'); shift ;;
    --leg)
        [ -n "${leg_set[${2:-none}]-}" ] || die "there is no leg ${2-}: see --list-legs"
        chosen+=("$2"); shift 2 ;;
    --list-legs)
        for name in "${leg_names[@]}"; do
            printf '%-16s %-4s %s\n' "$name" "${leg_set[$name]}" "${leg_text[$name]}"
        done
        exit 0 ;;
    *) usage >&2; die "unknown option $1" ;;
    esac
done
[ ${#chosen[@]} -gt 0 ] || mapfile -t chosen < <(names ci)

mkdir -p "$logs"
for name in "${chosen[@]}"; do rm -rf "${logs:?}/$name"; done
install_packages
# shellcheck source=runner/ccache.sh
. "$here/runner/ccache.sh"
run_legs
exec "$here/runner/table.py" --seconds "$SECONDS" "$logs" "${chosen[@]}"
