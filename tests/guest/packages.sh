#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Installs what is missing of some Debian or Ubuntu packages, given by name or as one of the sets
# below. To be run, or sourced for its function install_packages.
#
# Usage: packages.sh NAME...
set -euo pipefail

# The sets, by what they are for.
packages_in_set() {
    case $1 in
    build)
        echo g++ make cmake ninja-build pkg-config binutils patch liburing-dev libboost-dev \
            librange-v3-dev libgtest-dev libcli11-dev libfmt-dev python3 valgrind
        ;;
    clang) echo clang llvm "$(clang_runtimes)" ;;
    guest)
        # dash and util-linux are on every system, but these are not.
        echo qemu-system-x86 busybox-static cpio kmod xz-utils zstd lz4 gzip
        ;;
    benchmark) echo python3 gnuplot-nox valgrind libc6-dbg ;;  # callgrind names memcpy by the last
    debian) echo debootstrap git util-linux ;;
    ccache) echo ccache ;;
    client) echo fio e2fsprogs fdisk util-linux ;;
    *) return 1 ;;
    esac
}

# The sanitizer and profile runtimes are in a package named after the version that "clang" stands
# for, so ask apt; before its first update it cannot tell.
clang_runtimes() {
    local version
    version=$(apt-cache depends clang 2>/dev/null | sed -n 's/^ *Depends: clang-\([0-9]*\)$/\1/p')
    if [[ -n $version ]]; then echo "libclang-rt-$version-dev"; fi
}

packages_die() {
    printf 'packages.sh: %s\n' "$*" >&2
    return 1
}

is_installed() {
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# The named packages with sets resolved, one a line.
resolve_packages() {
    local name
    for name in "$@"; do packages_in_set "$name" || echo "$name"; done | tr -s ' ' '\n'
}

missing_packages() {
    local name
    while read -r name; do
        [[ -z $name ]] || is_installed "$name" || echo "$name"
    done < <(resolve_packages "$@" | sort -u)
}

# Runs apt-get with its output shown only when it fails. Another one may be at it: apt waits for
# dpkg's lock by itself, but not for that of the package lists and of downloads.
quiet_apt() {
    local log status began=$SECONDS said=''
    log=$(mktemp)
    while :; do
        status=0
        DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 apt-get -qy -o Dpkg::Use-Pty=0 \
            -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 </dev/null || status=$?
        ((status)) && grep -qE 'Could not get lock|Unable to (lock|acquire)' "$log" &&
            ((SECONDS - began < 300)) || break
        [[ -n $said ]] || printf 'packages.sh: waiting for another apt-get, for 5 minutes\n' >&2
        said=yes
        sleep 1
    done
    if ((status)); then cat "$log" >&2; fi
    rm -f "$log"
    return "$status"
}

# Whether apt knows all of these, with a version to install.
apt_knows() {
    local name
    for name in "$@"; do
        apt-cache policy "$name" 2>/dev/null | grep -qE '^ *Candidate: *[^( ]' ||
            return 1
    done
}

install_packages() {
    local -a missing
    command -v apt-get >/dev/null ||
        { packages_die "no apt-get here: install by hand what these stand for: $*"; return 1; }
    mapfile -t missing < <(missing_packages "$@")
    # Nothing known of clang means that apt has no lists yet.
    if ((EUID == 0)) && { ! apt_knows ${missing[@]+"${missing[@]}"} ||
        { [[ " $* " == *' clang '* ]] && [[ -z $(clang_runtimes) ]]; }; }; then
        quiet_apt update || { packages_die "apt-get update failed"; return 1; }
        mapfile -t missing < <(missing_packages "$@")
    fi
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        packages_die "missing packages; as root:" \
            "apt-get install --no-install-recommends ${missing[*]}"
        return 1
    fi
    printf 'packages.sh: installing %s\n' "${missing[*]}"
    # Lists may be old enough to name files the archive has since replaced.
    quiet_apt install --no-install-recommends "${missing[@]}" 2>/dev/null && return 0
    quiet_apt update || { packages_die "apt-get update failed"; return 1; }
    quiet_apt install --no-install-recommends "${missing[@]}" ||
        { packages_die "apt-get install failed"; return 1; }
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    if [[ ${1-} == --help ]]; then
        sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"
        exit 0
    elif (($# == 0)); then
        echo 'Usage: packages.sh NAME... (packages, or the sets build, clang, guest, debian,' \
            'client, ccache, benchmark)' >&2
        exit 2
    fi
    install_packages "$@"
fi
