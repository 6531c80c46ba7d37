#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Configures one build, makes what the tests of a label need, and runs them with CTest.
# tests/run.sh is what to call; it takes these options, too.
#
#   --only LABEL          unit, kernel, or another of tests/CMakeLists.txt (default: these two)
#   --kernel K[=FILTER]   kernel to test with (repeatable), and which cases; `host`: the running one
#   --compiler clang++    default: g++
#   --sanitize WHAT       address,undefined or thread
#   --optimise            also the tests that take longer to optimise than to run
#   --liburing WHICH      oldest or newest: see tests/guest/liburing.sh; default: the system's
#   --case FILTER         only these cases of GoogleTest programs
#   --test FILE           only the cases of tests/*/NAME_test.cpp: that file, or the header it is of
#   --list                the names of all tests, and of the cases of each program
#   --build               builds, and prints the directory of the build last
#   -- ARGS               for ctest, for example -R hotloop
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
guest=$root/tests/guest
compiler=g++ sanitize='' only='' optimise=OFF liburing='' file='' list='' build_only=''
kernels=() ctest_args=()
jobs=${UBLK_JOBS:-$(nproc)}

usage() { sed -n '3,/^set /{/^set /!s/^# \{0,1\}//p}' "$0"; }
die() {
    echo "build.sh: $*" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    --list) list=1; shift; continue ;;
    --optimise) optimise=ON; shift; continue ;;
    --build) build_only=1; shift; continue ;;
    --) shift; ctest_args=("$@"); break ;;
    -h | --help) usage; exit 0 ;;
    --only | --kernel | --compiler | --sanitize | --liburing | --case | --test) ;;
    *) usage >&2; die "unknown option $1" ;;
    esac
    [ $# -ge 2 ] || die "$1 needs a value"
    case $1 in
    --only) only=$2 ;;
    --kernel) kernels+=("$2") ;;
    --compiler) compiler=$2 ;;
    --sanitize) sanitize=$2 ;;
    --liburing) liburing=$2 ;;
    --case) export GTEST_FILTER=$2 ;;
    --test) file=$2 ;;
    esac
    shift 2
done
case $only in '' | unit | compiler | kernel | headers | marathon) ;;
fuzz | examples) [ -n "$build_only" ] || die "--only $only needs --build" ;;
*) die "--only does not take $only" ;; esac
case $compiler in g++ | clang++) ;; *) die "--compiler takes g++ or clang++" ;; esac
case $sanitize in '' | address,undefined | thread) ;;
*) die "--sanitize takes address,undefined or thread" ;; esac
case $liburing in '' | oldest | newest) ;; *) die "--liburing takes oldest or newest" ;; esac

# The directory and the stem of the test of a header, or of a test file.
if [ -n "$file" ]; then
    stem=$(basename "$file")
    stem=${stem%.*} stem=${stem%_test}
    tests=("$root"/tests/{unit,sim,kernel}/"$stem"_test.cpp)
    case $file in
    *tests/kernel/*) tests=("${tests[2]}") ;;
    *tests/sim/* | *ublk/sim/*) tests=("${tests[1]}") ;;
    esac
    for test in "${tests[@]}"; do [ ! -e "$test" ] || break; done
    [ -e "$test" ] || die "$file has no test of its own: tests/*/${stem}_test.cpp"
    directory=$(basename "$(dirname "$test")")
    only=unit
    [ "$directory" != kernel ] || only=kernel
fi

want_kernel() { [ -z "$only" ] || [ "$only" = kernel ]; }

# Debian has every kernel series from 6.12 on; elsewhere the newest is what there is.
default_kernels() {
    # shellcheck source=/dev/null
    if [ -z "$file" ] && [ "$(. /etc/os-release && echo "${ID:-}")" = debian ]; then
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

name=${compiler%++}
build=$root/build/${name/#g/gcc}${sanitize:+-${sanitize%%,*}}${liburing:+-uring-$liburing}
[ "$optimise" = OFF ] || build+=-optimised

configure() {
    local headers='' prefix='' options=()
    headers=$("$guest/kernel.sh" --headers 2>"$build.headers.log") || headers=
    if [ -n "$liburing" ]; then
        prefix=$("$guest/liburing.sh" "$liburing") || return 1
        options=("-Dliburing_INCLUDE_DIR=$prefix/include"
            "-Dliburing_LIBRARY=$prefix/lib/liburing.so")
    fi
    cmake -S "$root" -B "$build" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" \
        -DCMAKE_BUILD_TYPE=RelWithDebInfo -DUBLK_SANITIZE="$sanitize" \
        -DUBLK_OPTIMISE_TESTS="$optimise" -DUBLK_LINUX_HEADERS="$headers" \
        -DUBLK_KERNELS="$(IFS=';'; echo "${kernels[*]-}")" ${options[@]+"${options[@]}"}
}

# A log of what went well helps nobody; one of what did not is shown whole.
quietly() {
    local log=$1 began=$SECONDS
    shift
    "$@" >"$log" 2>&1 || {
        cat "$log" >&2
        echo "build.sh: failed: $*" >&2
        exit 1
    }
    echo "build.sh: $* ($((SECONDS - began)) s)"
}

# Downloads and the compiler do not wait for each other. What goes wrong here, the boot tells.
fetching=()
fetch_kernels() {
    local kernel
    for kernel in ${kernels[@]+"${kernels[@]%%=*}"}; do
        if [ "$kernel" != host ]; then
            timeout 900 "$guest/kernel.sh" "$kernel" >"$root/build/kernel-$kernel.log" 2>&1 &
            fetching+=($!)
        fi
    done
}
stop_fetching() { [ ${#fetching[@]} = 0 ] || kill "${fetching[@]}" 2>/dev/null || true; }

mkdir -p "$root/build"
if want_kernel && [ ${#kernels[@]} = 0 ]; then
    default_kernels
fi
install_packages
# shellcheck source=runner/ccache.sh
. "$root/tests/runner/ccache.sh"
# Two at once in one directory would spoil it.
exec 8>"$build.lock"
flock -w 2400 8 || die "$build is in use"
quietly "$build.configure.log" configure

trap stop_fetching EXIT
if want_kernel && [ -z "$list" ]; then fetch_kernels; fi
if [ -n "$file" ]; then
    targets=("ublk_alone_${directory}_$stem")
    ! grep -q '"programs.hpp"' "$test" || targets+=(ublk_tests_examples)
elif [ -z "$only" ]; then
    targets=(ublk_tests_unit ublk_tests_kernel)
else
    targets=("ublk_tests_$only")
fi
quietly "$build.build.log" nice cmake --build "$build" -j "$jobs" --target "${targets[@]}"
[ ${#fetching[@]} = 0 ] || wait "${fetching[@]}" || true
fetching=()
if [ -n "$build_only" ]; then
    echo "$build"
    exit 0
fi

if [ -n "$file" ]; then
    program=$build/tests/$directory/${targets[0]}
    if [ "$directory" != kernel ]; then
        exec "$root/tests/runner/cases.py" -- "$program"
    fi
    # shellcheck disable=SC2046  # their names have no spaces
    for kernel in "${kernels[@]}"; do
        "$root/tests/kernel/boot.sh" "$kernel" "$program" "$build/$kernel.log" \
            $(find "$build/examples" -maxdepth 1 -type f -executable ! -name 'test_*')
    done
    exit 0
fi

select=(-L "^$only\$")
[ -n "$only" ] || select=(-L '^(unit|kernel)$')
if [ -n "$list" ]; then
    ctest --test-dir "$build" -N "${select[@]}" "${ctest_args[@]}"
    for program in "$build"/tests/*/ublk_*_tests; do
        "$program" --gtest_list_tests
    done
    exit 0
fi
rm -f "$build"/counts/* "$build/results.xml"
status=0
ctest --test-dir "$build" --output-on-failure --no-tests=error -j"$(nproc)" \
    --output-junit "$build/results.xml" "${select[@]}" "${ctest_args[@]}" || status=$?
"$root/tests/runner/totals.py" "$build/results.xml" "$build/counts" || status=1
exit "$status"
