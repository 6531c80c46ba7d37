#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs a command in another release of Debian than the host's, with a copy of this repository at
# /srv/ublk, where the command starts.
#
# Usage: debian.sh SUITE -- COMMAND [ARG]...
#
#   debian.sh trixie -- tests/run.sh --only unit
#
# SUITE is a codename; it comes from the archive that the host uses. Its base system is kept in the
# cache (see guest/archive.sh), and COMMAND runs as root in a copy of it, from which it can install
# packages. It shares the host's kernel, network and devices, and has two hours. What it started
# ends with it, and nothing that it wrote remains.
#
# Needs root, and a Debian with the packages that "guest/packages.sh debian" installs. Exit status:
# COMMAND's, 124 when its time is over, or 125 when it could not be started, as stderr tells.
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Where debootstrap and chroot are; not every user has it.
PATH+=:/usr/sbin:/sbin
# shellcheck source=guest/archive.sh
source "$here/guest/archive.sh"

# Of use where the archive is reached with HTTPS.
authorities=/etc/ssl/certs/ca-certificates.crt

base_seconds=1800
command_seconds=7200

die() {
    printf 'debian.sh: %s\n' "$*" >&2
    exit 125
}

usage() {
    sed -n '/^# Usage:/,/^# SUITE/{/^# SUITE/!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 125
}

check_host() {
    local tool
    [[ $distribution == debian ]] || die "only for Debian, whose archive has $suite"
    ((EUID == 0)) || die "only root can make and enter another system"
    for tool in apt-get debootstrap flock git unshare; do
        command -v "$tool" >/dev/null || die "no $tool: run guest/packages.sh debian"
    done
    unshare --mount --pid --fork true || die "no namespaces of mounts and processes to be had"
}

# A field of the archive that the host uses.
archive_field() { host_archive | sed -n "s/^$1: *//p"; }

# How the host reaches the archive, as settings of apt.
reach_settings() { apt-config dump | grep -E '^Acquire::(https?::|Retries|Check-)' || true; }

# The same for debootstrap, which does not ask apt.
proxy() {
    printf '%s' "${http_proxy-$(reach_settings | sed -n 's/^Acquire::http::Proxy "\(.*\)";/\1/p')}"
}

# Makes the system's own apt read the same archive as the host's.
configure_apt() {
    local root=$1 key
    rm -f "$root/etc/apt/sources.list"
    suite_source "$suite" >"$root/etc/apt/sources.list.d/debian.sources"
    for key in $(archive_field Signed-By); do
        [[ $key != /* || -e $root/$key ]] || install -D -m 644 "$key" "$root/$key"
    done
    if [[ -e $authorities ]]; then install -D -m 644 "$authorities" "$root/$authorities"; fi
    reach_settings >"$root/etc/apt/apt.conf.d/90archive"
    # The system is thrown away in any case.
    echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io"
}

make_base() {
    local root=$1 uri trust script=/usr/share/debootstrap/scripts/$suite
    refresh_lists no "$suite"
    if [[ ! -r $cache/apt/$suite/names ]]; then
        complain_of_failed "$suite"
        rm -rf "$cache/apt/$suite"
        die "no Debian $suite in the archive"
    fi
    read -r uri _ < <(archive_field URIs)
    # apt has just read the suite with the host's keys, if it looks at any.
    trust=--keyring=$(archive_field Signed-By)
    [[ $trust == --keyring=/* ]] || trust=--keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [[ $(archive_field Trusted) != yes ]] || trust=--no-check-gpg
    [[ -e $script ]] || script=/usr/share/debootstrap/scripts/sid
    printf 'debian.sh: making a base system of %s\n' "$suite" >&2
    http_proxy=$(proxy) timeout -k 10 "$base_seconds" debootstrap --variant=minbase "$trust" \
        "$suite" "$root" "$uri" "$script" >"$work/log" 2>&1 ||
        { tail -n 20 "$work/log" >&2; die "debootstrap failed"; }
    configure_apt "$root"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    sync -f "$root"
}

# Made under another name and renamed when complete: what has the name is whole.
provide_base() {
    lock_cache
    [[ ! -d $base ]] || return 0
    make_base "$work/base"
    mv "$work/base" "$base"
}

# Files that are tracked, or could be.
copy_repository() {
    local to=$1 file
    mkdir "$to"
    git -C "$here/.." -c safe.directory='*' ls-files -co --exclude-standard -z |
        while IFS= read -r -d '' file; do
            [[ ! -e $here/../$file && ! -L $here/../$file ]] || printf '%s\0' "$file"
        done | tar -C "$here/.." --null --no-recursion -T - -c | tar -C "$to" --no-same-owner -x
}

prepare() {
    root=$work/root
    (provide_base)
    cp -a "$base" "$root"
    # Not /ublk: a test looks for the name in what is installed, where include/ublk is.
    copy_repository "$root/srv/ublk"
    cp -L /etc/resolv.conf "$root/etc/resolv.conf"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/dev/shm"
    mount --rbind /sys "$root/sys"
}

# The first process of the namespaces, with which they end.
enclosed() {
    suite=$1 work=$2
    shift 2
    open_cache
    base=$cache/debian-$suite
    set -E
    trap 'exit 125' ERR
    prepare
    trap - ERR
    timeout -k 10 "$command_seconds" chroot "$root" /usr/bin/env -u UBLK_CACHE -u TMPDIR \
        HOME=/root LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin \
        /bin/sh -c 'cd /srv/ublk && exec "$@"' sh "$@" || exit $?
}

# Nothing of the namespaces is left when their first process has been waited for.
clean_up() {
    local first=''
    trap - EXIT HUP INT TERM
    if [[ -n ${child-} ]]; then
        read -r first <"/proc/$child/task/$child/children" || true
        kill -KILL "${first:-$child}" || true
        wait "$child" || true
    fi 2>/dev/null
    rm -rf --one-file-system "$work"
}

interrupted() {
    clean_up
    exit $((128 + $1))
}

main() {
    local status=0
    [[ ${1-} =~ ^[a-z]+$ && ${2-} == -- && $# -ge 3 ]] || usage
    suite=$1
    shift 2
    check_host
    open_cache
    work=$(mktemp -d "$cache/debian.new.XXXXXX")
    trap clean_up EXIT
    trap 'interrupted 1' HUP
    trap 'interrupted 2' INT
    trap 'interrupted 15' TERM
    # Mounts are private to it, and all its processes end with the first.
    unshare --mount --pid --fork --kill-child --mount-proc \
        "${BASH_SOURCE[0]}" --enclosed "$suite" "$work" "$@" </dev/null &
    child=$!
    wait "$child" || status=$?
    child=''
    exit "$status"
}

if [[ ${1-} == --enclosed ]]; then
    enclosed "${@:2}"
else
    main "$@"
fi
