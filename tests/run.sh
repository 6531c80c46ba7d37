#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs what is missing, configures, builds and runs the tests with CTest.
#
#   tests/run.sh                      everything, kernel tests on Linux 6.12 and the newest
#   tests/run.sh --list               the names of all tests
#   tests/run.sh --only unit          without a kernel: needs no root, no driver, no QEMU
#   tests/run.sh --only kernel        on the real driver
#   tests/run.sh --kernel 6.12        on this kernel instead (repeatable); `host` is the running one
#   tests/run.sh --compiler clang++   default: g++
#   tests/run.sh --sanitize WHAT      address,undefined or thread
#   tests/run.sh -- ARGS              passes ARGS to ctest, for example -R Ext4
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
guest=$root/tests/guest
compiler=g++
sanitize=
only=
list=
kernels=()
ctest_args=()

usage() { sed -n '3,12s/^# \{0,1\}//p' "$0"; }
die() {
    echo "run.sh: $*" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    --list) list=1; shift ;;
    --only) only=${2:?--only needs unit or kernel}; shift 2 ;;
    --kernel) kernels+=("${2:?--kernel needs a version}"); shift 2 ;;
    --compiler) compiler=${2:?--compiler needs g++ or clang++}; shift 2 ;;
    --sanitize) sanitize=${2:?--sanitize needs address,undefined or thread}; shift 2 ;;
    --) shift; ctest_args=("$@"); break ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; die "unknown option $1" ;;
    esac
done
case $only in '' | unit | kernel) ;; *) die "--only takes unit or kernel" ;; esac
case $compiler in g++ | clang++) ;; *) die "--compiler takes g++ or clang++" ;; esac
case $sanitize in '' | address,undefined | thread) ;;
*) die "--sanitize takes address,undefined or thread" ;;
esac

want_kernel() { [ "$only" != unit ]; }

# Debian has every kernel series from 6.12 on; elsewhere the newest is what there is.
default_kernels() {
    # shellcheck source=/dev/null
    if [ "$(. /etc/os-release && echo "${ID:-}")" = debian ]; then
        kernels=(6.12 newest)
    else
        kernels=(newest)
    fi
}

install_packages() {
    local sets=(build)
    [ "$compiler" = g++ ] || sets+=(clang)
    ! want_kernel || sets+=(client guest)
    "$guest/packages.sh" "${sets[@]}"
}

build=$root/build/${compiler%++}${sanitize:+-${sanitize%%,*}}

configure() {
    local headers=
    headers=$("$guest/kernel.sh" --headers 2>"$build.headers.log") || headers=
    cmake -S "$root" -B "$build" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" \
        -DCMAKE_BUILD_TYPE=RelWithDebInfo -DUBLK_SANITIZE="$sanitize" \
        -DUBLK_LINUX_HEADERS="$headers" -DUBLK_KERNELS="$(IFS=';'; echo "${kernels[*]-}")"
}

# A log of what went well helps nobody; one of what did not is shown whole.
quietly() {
    local log=$1
    shift
    echo "run.sh: $*"
    "$@" >"$log" 2>&1 || {
        cat "$log" >&2
        echo "run.sh: failed: $*" >&2
        exit 1
    }
}

# Only what will run, since building takes longer than running.
targets=()
[ "$only" = kernel ] || targets+=(ublk_tests_unit)
[ "$only" = unit ] || targets+=(ublk_tests_kernel)

mkdir -p "$root/build"
if want_kernel && [ ${#kernels[@]} = 0 ]; then
    default_kernels
fi
install_packages
quietly "$build.configure.log" configure

# Downloads and the compiler do not wait for each other. What goes wrong here, the boot tells.
fetching=()
fetch_kernels() {
    local kernel
    for kernel in ${kernels[@]+"${kernels[@]}"}; do
        if [ "$kernel" != host ]; then
            timeout 900 "$guest/kernel.sh" "$kernel" >"$root/build/kernel-$kernel.log" 2>&1 &
            fetching+=($!)
        fi
    done
}
stop_fetching() { [ ${#fetching[@]} = 0 ] || kill "${fetching[@]}" 2>/dev/null || true; }

trap stop_fetching EXIT
if want_kernel && [ -z "$list" ]; then fetch_kernels; fi
quietly "$build.build.log" cmake --build "$build" --target "${targets[@]}"
[ ${#fetching[@]} = 0 ] || wait "${fetching[@]}" || true
fetching=()

# Runs each group of tests as asked; ctest prints the summary.
select=()
[ -z "$only" ] || select=(-L "^$only\$")
if [ -n "$list" ]; then
    exec ctest --test-dir "$build" -N "${select[@]}" "${ctest_args[@]}"
fi
exec ctest --test-dir "$build" --output-on-failure --no-tests=error -j"$(nproc)" \
    "${select[@]}" "${ctest_args[@]}"
