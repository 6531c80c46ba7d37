#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Consumes the library the way a stranger does.
#
# Usage: consumer.sh WAY SOURCE BUILD WORK
#
#   WAY       subdirectory   add_subdirectory(SOURCE)
#             package        installed from BUILD into a prefix of its own, then find_package
#             refused        the same, demanding versions that it is not compatible with
#             compiled       the same as package, by ublk::compiled
#             pkgconfig      installed, and a compiler command with what pkg-config says
#             vendored       SOURCE/include/ublk copied, and a compiler command
#   WORK      directory for all that comes into being; emptied first
#
# CMAKE, GENERATOR and CXX name the tools.
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }
export LC_ALL=C

(($# == 4)) || { sed -n '/^# Usage:/,/^set /{/^set /!s/^# \{0,1\}//p}' "$0" >&2; exit 1; }
way=$1 source=$2 build=$3 work=$4
project=$source/tests/consumer/project
: "${CMAKE:=cmake}" "${GENERATOR:=Ninja}" "${CXX:=c++}"

fail() {
    printf 'consumer.sh: %s\n' "$1" >&2
    exit 1
}

version_part() {
    sed -n "s/^#define UBLK_VERSION_$1 //p" "$source/include/ublk/config.hpp"
}
major=$(version_part MAJOR) minor=$(version_part MINOR) patch=$(version_part PATCH)

configure() {
    "$CMAKE" -S "$project" -B "$work/build" -G "$GENERATOR" -DCMAKE_CXX_COMPILER="$CXX" "$@"
}

install_package() {
    "$CMAKE" --install "$build" --prefix "$work/prefix" >"$work/install.log" ||
        { cat "$work/install.log"; fail "the installation failed"; }
}

expect_run() {
    local said
    said=$("$1") || fail "the program failed"
    [[ $said == "ublk $major.$minor.$patch" ]] || fail "the program says $said"
}

# Warnings and sanitizers are the stranger's choice, and our tests none of his business.
expect_nothing_unasked() {
    local commands=$work/build/compile_commands.json
    ! grep -E -- '"command": .* -(W|fsanitize)' "$commands" || fail "flags that nobody asked for"
    [[ $(grep -c '"file":' "$commands") == 1 ]] || fail "more than the stranger's file is compiled"
}

expect_refusal() {
    if configure -DUBLK_DEMANDED="$1" -DCMAKE_PREFIX_PATH="$work/prefix" >"$work/log" 2>&1; then
        fail "version $1 was demanded, and $major.$minor.$patch accepted"
    fi
    if ! grep -q 'considered but not accepted' "$work/log" ||
        ! grep -q "version: $major\.$minor\.$patch" "$work/log"; then
        cat "$work/log"
        fail "version $1 was refused for another reason"
    fi
    printf '%s refused\n' "$1"
}

rm -rf "$work"
mkdir -p "$work"
case $way in
subdirectory)
    configure -DWAY=subdirectory -DUBLK_SOURCE="$source"
    "$CMAKE" --build "$work/build"
    expect_run "$work/build/stranger"
    expect_nothing_unasked
    [[ ! -e $work/build/ublk/tests && ! -e $work/build/ublk/examples ]] ||
        fail "tests or examples are there unasked"
    ;;
package)
    install_package
    diff -r -x README.md "$source/include/ublk" "$work/prefix/include/ublk" ||
        fail "headers are amiss"
    configure -DUBLK_DEMANDED="$major.$minor" -DCMAKE_PREFIX_PATH="$work/prefix"
    "$CMAKE" --build "$work/build"
    expect_run "$work/build/stranger"
    expect_nothing_unasked
    if grep -rF -e "$source" -e "$build" "$work/prefix"; then
        fail "the package refers to where it was built"
    fi
    ;;
compiled)
    install_package
    configure -DUBLK_DEMANDED="$major.$minor" -DCMAKE_PREFIX_PATH="$work/prefix" \
        -DUBLK_TARGET=ublk::compiled
    "$CMAKE" --build "$work/build"
    expect_run "$work/build/stranger"
    object=$(find "$work/build" -name main.cpp.o)
    undefined=$(nm -C --undefined-only "$object")
    [[ $undefined == *'device_core<ublk::v0::detail::linux_kernel>::stop()'* ]] ||
        fail "the control plane is compiled with the stranger's file"
    ;;
pkgconfig)
    install_package
    read -ra flags < <(PKG_CONFIG_PATH=$work/prefix/share/pkgconfig \
        pkg-config --cflags --libs "ublk = $major.$minor.$patch")
    "$CXX" -std=c++20 "$project/main.cpp" -o "$work/stranger" "${flags[@]}"
    expect_run "$work/stranger"
    ;;
refused)
    install_package
    expect_refusal "$major.$((minor + 1))"
    expect_refusal "$major.$minor.$((patch + 1))"
    expect_refusal "$((major + 1)).0"
    if ((minor > 0)); then expect_refusal "$major.$((minor - 1))"; fi
    ;;
vendored)
    mkdir -p "$work/third_party"
    cp -r "$source/include/ublk" "$work/third_party/"
    "$CXX" -std=c++20 -I "$work/third_party" "$project/main.cpp" -o "$work/stranger" -luring
    expect_run "$work/stranger"
    ;;
*) fail "no way $way" ;;
esac
