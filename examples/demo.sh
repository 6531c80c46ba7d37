#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds the RAM disk and shows it at work on a real kernel: on this one where it has the driver,
# else in a QEMU guest with a stock distribution kernel. Fails if anything differs.
#
#   examples/demo.sh                 as above
#   examples/demo.sh --kernel 6.12   in a guest with that kernel, whatever this machine has
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build/demo
kernel=

usage() { sed -n '3,7s/^# \{0,1\}//p' "$0"; }

while [ $# -gt 0 ]; do
    case $1 in
    --kernel) kernel=${2:?--kernel needs a version, such as 6.12 or newest}; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "demo.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
    esac
done

step() { printf '\n== %s\n' "$*"; }

# The driver counts as present if its control device opens, after trying to load the module.
have_driver() {
    [ "$(id -u)" = 0 ] || return 1
    [ -e /dev/ublk-control ] || modprobe ublk_drv 2>/dev/null || return 1
    [ -c /dev/ublk-control ] || return 1
    local major minor rest
    IFS=.- read -r major minor rest < <(uname -r)
    [ "$major" -gt 6 ] || { [ "$major" = 6 ] && [ "$minor" -ge 8 ]; }
}

build_disk() {
    step "Building the RAM disk (examples/memory.cpp)"
    cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
        -DUBLK_BUILD_TESTS=OFF -DUBLK_BUILD_EXAMPLES=ON >"$build.log" 2>&1 &&
        cmake --build "$build" --target ublk_example_memory >>"$build.log" 2>&1 || {
        cat "$build.log" >&2
        echo "demo.sh: the build failed" >&2
        exit 1
    }
    ls -l "$build/examples/memory"
}

serve_here() {
    step "This kernel ($(uname -r)) has the driver: serving here"
    "$root/examples/demo-session.sh" "$build/examples/memory" "$root"
}

# boot FIGURE [OPTION...]
boot() {
    local figure=$1
    shift
    "$root/tests/guest/run.sh" --kernel "$kernel" --memory 2G --timeout 280 "$@" \
        --program mkfs.ext4 --program e2fsck --program fio \
        --add "$build/examples/memory:/usr/bin/memory" \
        --add "$root/examples/demo-session.sh:/usr/bin/demo-session" \
        -- sh /usr/bin/demo-session /usr/bin/memory /usr "$figure"
}

# QEMU can use this machine's CPUs; else it emulates some.
have_kvm() {
    grep -qwE 'vmx|svm' /proc/cpuinfo && { : <>/dev/kvm; } 2>/dev/null
}

serve_in_guest() {
    step "Serving in a QEMU guest with a stock kernel (${kernel:=newest})"
    if have_kvm; then
        boot clock
        return
    fi
    boot none
    step "The guest's CPUs are emulated, so a clock would time QEMU: a second guest counts"
    boot count --icount
}

mkdir -p "$(dirname "$build")"
step "Installing what is missing"
"$root/tests/guest/packages.sh" build client
if [ -z "$kernel" ] && have_driver; then
    build_disk
    serve_here
else
    "$root/tests/guest/packages.sh" guest
    build_disk
    serve_in_guest
fi
step "Everything that was written was read back, and nothing is left behind."
