#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Fetches a stock distribution kernel and prints the directory that holds it:
#
#   DIR/vmlinuz                    the image as the distribution ships it
#   DIR/vmlinux                    the same, uncompressed (only where it can be booted through PVH)
#   DIR/config                     its configuration, where the packages have it
#   DIR/lib/modules/RELEASE/...    its modules, still compressed, with modules.dep
#
# Usage: kernel.sh [--refresh] VERSION    6.12, 7.3, ... (newest patch level on offer), or "newest"
#        kernel.sh --list                 what is on offer: version, release, suite
#        kernel.sh --headers              prints the include directory of the newest linux-libc-dev
#
# Nothing is installed on the host: apt gets private state in the cache directory, so that suites
# the host does not use can be looked at, and its signature checks stay on. A version once fetched
# is served from the cache, without a look at the network, until --refresh asks for a newer one.
# The cache is ${UBLK_CACHE:-<repo>/build/guest}.
#
# Debian is what this is tested on. The Ubuntu branch uses the suites the host is configured with
# (base and HWE kernels) and has not been tried.
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=archive.sh
source "$here/archive.sh"
# Where depmod is; not every user has it.
PATH+=:/usr/sbin:/sbin

# Debian's suites whose kernels have ublk_drv. Codenames, as "newest" must mean the same to all.
debian_suites=(bookworm-backports trixie trixie-backports forky sid)
debian_newest=trixie-backports

usage() {
    sed -n '/^# Usage:/,/^#$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 1
}

# "RELEASE SUITE" for every kernel on offer in these suites, oldest first.
offers() {
    local suite
    for suite in "$@"; do
        [[ -r $cache/apt/$suite/names ]] || continue
        sed -nE "s/^linux-image-(unsigned-)?([0-9].*-(cloud-amd64|generic))\$/\2 $suite/p" \
            "$cache/apt/$suite/names"
    done | sort -u | sort -V
}

list_offers() {
    refresh_lists no "${suites[@]}"
    complain_of_failed "${suites[@]}"
    # The last of each X.Y is the newest, as they come sorted.
    offers "${suites[@]}" | awk '{
        split($1, part, /[.+-]/); key = part[1] "." part[2]
        if (!(key in line)) order[++n] = key
        line[key] = sprintf("%-6s %-32s %s", key, $1, $2)
    } END { for (i = 1; i <= n; i++) print line[order[i]] }'
}

# The newest offer for a version, as "RELEASE SUITE".
choose() {
    local version=$1 release suite choice=
    shift
    while read -r release suite; do
        case $version:$release in
        newest:* | "$version:$version" | "$version:$version"[.+-]*) choice="$release $suite" ;;
        esac
    done < <(offers "$@")
    printf '%s' "$choice"
}

# Kernels have been packaged in several ways: one package with all of it, image and modules apart,
# and the files both need in a third. So: whatever the archive has of these for the release.
packages_of() {
    local release=$1 suite=$2 names
    names=$(grep -Fx -e "linux-base-$release" -e "linux-binary-$release" \
        -e "linux-image-$release" -e "linux-image-unsigned-$release" \
        -e "linux-modules-$release" -e "linux-modules-extra-$release" \
        "$cache/apt/$suite/names")
    if grep -qFx "linux-image-$release" <<<"$names"; then
        names=$(grep -v '^linux-image-unsigned-' <<<"$names")
    fi
    printf '%s\n' "$names"
}

# The uncompressed image starts a second sooner under emulation, as the guest need not unpack it.
# Going without is no fault.
make_vmlinux() {
    local dir=$1 tool magic offset
    grep -qs '^CONFIG_PVH=y' "$dir/config" || return 0
    for tool in zstd:'\x28\xb5\x2f\xfd' xz:'\xfd7zXZ\x00' lz4:'\x02\x21\x4c\x18' \
        gzip:'\x1f\x8b\x08'; do
        magic=${tool#*:} tool=${tool%%:*}
        command -v "$tool" >/dev/null || continue
        for offset in $(LC_ALL=C grep -aboP "$magic" "$dir/vmlinuz" | head -n 5 | cut -d: -f1); do
            # The tools object to what follows the compressed part; the result tells.
            tail -c "+$((offset + 1))" "$dir/vmlinuz" | "$tool" -dc >"$dir/vmlinux" 2>/dev/null ||
                true
            [[ $(head -c 4 "$dir/vmlinux" | tail -c 3) == ELF ]] && return 0
        done
    done
    rm -f "$dir/vmlinux"
}

first_of() {
    local f
    for f in "$@"; do [[ -e $f ]] && { printf '%s' "$f"; return; }; done
    return 1
}

# Lays the unpacked packages out in their final form.
arrange() {
    local release=$1 x=$2 dir=$3 f
    mkdir -p "$dir/lib/modules/$release"
    # Some tools look for modules under usr/lib.
    ln -s . "$dir/usr"
    for f in "$x/lib/modules/$release" "$x/usr/lib/modules/$release"; do
        [[ -d $f ]] && cp -al "$f/." "$dir/lib/modules/$release/"
    done
    f=$(first_of "$x/boot/vmlinuz-$release" "$dir/lib/modules/$release/vmlinuz") ||
        die "the packages of $release have no vmlinuz"
    cp "$f" "$dir/vmlinuz"
    rm -f "$dir/lib/modules/$release/vmlinuz"
    f=$(first_of "$x/boot/config-$release" "$dir/lib/modules/$release/config") &&
        cp "$f" "$dir/config"
    [[ -n $(find "$dir/lib/modules" -name 'ublk_drv.ko*') ]] || die "$release has no ublk_drv"
    depmod -b "$dir" "$release"
    make_vmlinux "$dir"
}

download() {
    local release=$1 suite=$2 to=$3
    local -a names
    mapfile -t names < <(packages_of "$release" "$suite")
    download_packages "$suite" "$to" "${names[@]}"
}

# Downloads the newest offer for a version into $new and names it in $release; fails when there is
# none, or when it cannot be had.
obtain() {
    local version=$1 force=$2 choice suite
    shift 2
    refresh_lists "$force" "$@"
    choice=$(choose "$version" "$@")
    [[ -n $choice ]] || return 1
    read -r release suite <<<"$choice"
    [[ ! -d $kernels/$release ]] || return 0
    printf 'kernel.sh: fetching %s from %s\n' "$release" "$suite" >&2
    download "$release" "$suite" "$new"
}

give_up() {
    local version=$1
    shift
    [[ ! -e $new/log ]] || cat "$new/log" >&2
    complain_of_failed "$@"
    [[ -z $release ]] || die "cannot fetch $release"
    die "no kernel $version on offer (kernel.sh --list tells what is)"
}

# A kernel is made under another name and renamed when complete: what has a release's name is whole.
fetch_version() {
    local version=$1 deb
    local -a in=("${suites[@]}")
    [[ $version == newest && $distribution == debian ]] && in=("$debian_newest")
    rm -rf "$kernels"/.new.*
    new=$(mktemp -d "$kernels/.new.XXXXXX") release=''
    trap 'rm -rf "$new"' EXIT
    # The archive drops a release when the next one is there, so a failure may mean old lists.
    obtain "$version" no "${in[@]}" || obtain "$version" yes "${in[@]}" ||
        give_up "$version" "${in[@]}"
    if [[ ! -d $kernels/$release ]]; then
        for deb in "$new"/*.deb; do dpkg -x "$deb" "$new/x"; done
        arrange "$release" "$new/x" "$new/done"
        sync -f "$new/done"
        mv "$new/done" "$kernels/$release"
    fi
    ln -sfn "$release" "$new/link"
    mv -T "$new/link" "$kernels/$version"
}

# The kernel's own header of the ABI, of the suite that has the newest kernel.
fetch_headers() {
    local suite=host to=$cache/headers
    [[ $distribution == debian ]] && suite=$debian_newest
    refresh_lists no "$suite"
    rm -rf "$to.new"
    mkdir -p "$to.new"
    download_packages "$suite" "$to.new" linux-libc-dev || {
        cat "$to.new/log" >&2
        complain_of_failed "$suite"
        die "cannot fetch linux-libc-dev"
    }
    dpkg -x "$to.new"/linux-libc-dev_*.deb "$to.new"
    [[ -e $to.new/usr/include/linux/ublk_cmd.h ]] || die "linux-libc-dev has no ublk_cmd.h"
    mv "$to.new" "$to"
}

check_host() {
    local tool
    [[ $(dpkg --print-architecture 2>/dev/null) == amd64 ]] || die "only for amd64 Debian or Ubuntu"
    for tool in apt-get dpkg depmod flock; do
        command -v "$tool" >/dev/null || die "no $tool: run packages.sh guest"
    done
    case $distribution in
    debian) suites=("${debian_suites[@]}") ;;
    ubuntu) suites=(host) ;;
    *) die "no stock kernels known for '$distribution' (only Debian and Ubuntu)" ;;
    esac
}

main() {
    local refresh=no version
    [[ ${1-} == --refresh ]] && { refresh=yes; shift; }
    (($# == 1)) || usage
    version=$1
    open_cache
    mkdir -p "$cache/kernels"
    kernels=$cache/kernels
    if [[ $version == --headers ]]; then
        if [[ ! -d $cache/headers ]]; then
            check_host
            lock_cache
            [[ -d $cache/headers ]] || fetch_headers
        fi
        printf '%s\n' "$cache/headers/usr/include"
        return
    fi
    if [[ $version != --list ]]; then
        [[ $version =~ ^([0-9]+\.[0-9]+[0-9A-Za-z.+~-]*|newest)$ ]] || usage
        if [[ $refresh == no && -e $kernels/$version/vmlinuz ]]; then
            (cd -P "$kernels/$version" && pwd)
            return
        fi
    fi
    check_host
    lock_cache
    if [[ $version == --list ]]; then
        list_offers
        return
    fi
    [[ $refresh == yes ]] && rm -f "$cache"/apt/*/updated
    [[ $refresh == no && -e $kernels/$version/vmlinuz ]] || fetch_version "$version"
    (cd -P "$kernels/$version" && pwd)
}

main "$@"
