#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Fetches the oldest or the newest liburing that the library is tested with and prints the directory
# that holds it:
#
#   DIR/include/liburing.h    its headers, and the kernel's linux/blkdev.h where they include that
#   DIR/lib/liburing.so       the shared library, a link to the file beside it
#
# Usage: liburing.sh oldest|newest
#
# For CMake that is -Dliburing_INCLUDE_DIR=DIR/include -Dliburing_LIBRARY=DIR/lib/liburing.so, and
# programs then find the library again where they were linked with it. There is no static one.
#
# Nothing is installed: the packages are unpacked in the cache (see archive.sh), and served from
# there from then on. Only for Debian. Exit status: 0, or 1 when it cannot be had.
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }

# shellcheck source=archive.sh
source "$(dirname "${BASH_SOURCE[0]}")/archive.sh"

usage() {
    sed -n '/^# Usage:/,/^#$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 1
}

# The first Debian whose compiler suffices has liburing 2.3, which is the oldest of use.
suite_of() {
    case $1 in
    oldest) echo bookworm ;;
    newest) echo forky ;;
    *) return 1 ;;
    esac
}

check_host() {
    local tool
    [[ $distribution == debian && $(dpkg --print-architecture) == amd64 ]] ||
        die "only for amd64 Debian; elsewhere there is the liburing of the distribution"
    for tool in apt-get dpkg flock; do
        command -v "$tool" >/dev/null || die "no $tool"
    done
}

# Lays the unpacked packages out in their final form.
arrange() {
    local from=$1/liburing/usr to=$2
    mkdir -p "$to"
    mv "$from/include" "$to/include"
    mv "$from/lib/x86_64-linux-gnu" "$to/lib"
    rm -rf "$to"/lib/*.a "$to/lib/pkgconfig"
    ln -sfn "$(basename "$(realpath -e "$to/lib/liburing.so.2")")" "$to/lib/liburing.so"
    [[ -e $to/include/liburing.h ]] || die "liburing-dev has no liburing.h"
    # Of the kernel's headers only this one: hosts older than the package lack it.
    if grep -q '<linux/blkdev\.h>' "$to/include/liburing/compat.h"; then
        mkdir "$to/include/linux"
        cp "$1/headers/usr/include/linux/blkdev.h" "$to/include/linux/"
    fi
}

download() {
    download_packages "$1" "$2" liburing-dev liburing2 linux-libc-dev
}

# Made under another name and renamed when complete: what has the name is whole.
fetch() {
    local suite=$1 dir=$2 deb
    refresh_lists no "$suite"
    rm -rf "$cache"/liburing.new.*
    new=$(mktemp -d "$cache/liburing.new.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    printf 'liburing.sh: fetching liburing from %s\n' "$suite" >&2
    # The archive drops a version when the next one is there, so a failure may mean old lists.
    download "$suite" "$new" || { refresh_lists yes "$suite" && download "$suite" "$new"; } ||
        { cat "$new/log" >&2; complain_of_failed "$suite"; die "cannot fetch liburing"; }
    for deb in "$new"/liburing*.deb; do dpkg -x "$deb" "$new/liburing"; done
    dpkg -x "$new"/linux-libc-dev_*.deb "$new/headers"
    arrange "$new" "$new/done"
    sync -f "$new/done"
    mv "$new/done" "$dir"
}

main() {
    local suite dir
    (($# == 1)) || usage
    suite=$(suite_of "$1") || usage
    check_host
    open_cache
    dir=$cache/liburing-$1
    if [[ ! -d $dir ]]; then
        lock_cache
        [[ -d $dir ]] || fetch "$suite" "$dir"
    fi
    printf '%s\n' "$dir"
}

main "$@"
