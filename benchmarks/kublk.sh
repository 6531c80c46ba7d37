#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Builds kublk, the ublk server of the kernel's own self tests, as the thing to compare with.
#
# Usage: kublk.sh DIR      leaves the program at DIR/kublk
#
# The source is Debian's newest linux-source package that apt can reach, downloaded with the same
# private lists as kernels are (see tests/guest/kernel.sh); nothing of it is installed.
# UBLK_LINUX_SOURCE names a linux-source tarball to use instead.
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
guest=$here/../tests/guest

die() {
    printf 'kublk.sh: %s\n' "$*" >&2
    exit 1
}

# Prints "VERSION APT_CONFIGURATION" of the newest source on offer. kernel.sh keeps, for each
# suite, the names of its kernel packages beside apt's settings.
newest_source() {
    local cache=${UBLK_CACHE:-$here/../build/guest} names version
    "$guest/kernel.sh" --list >/dev/null || die "cannot read the package lists"
    for names in "$cache"/apt/*/names; do
        [[ -r $names ]] || continue
        version=$(sed -nE 's/^linux-source-([0-9.]+)$/\1/p' "$names" | sort -V | tail -n 1)
        [[ -z $version ]] || printf '%s %s\n' "$version" "$(realpath "${names%/*}")/apt.conf"
    done | sort -V | tail -n 1
}

# Prints the tarball, out of the package without a copy of either.
download_source() {
    local version='' conf=''
    read -r version conf < <(newest_source) || true
    [[ -n $version ]] || die "no linux-source package on offer"
    printf 'kublk.sh: fetching linux-source-%s\n' "$version" >&2
    (cd "$work" && apt-get -c "$conf" -q download "linux-source-$version") >"$work/log" 2>&1 ||
        { cat "$work/log" >&2; die "cannot fetch linux-source-$version"; }
    dpkg --fsys-tarfile "$work"/linux-source-*.deb |
        tar -xO --wildcards './usr/src/linux-source-*.tar.xz'
}

open_source() {
    if [[ -n ${UBLK_LINUX_SOURCE-} ]]; then cat "$UBLK_LINUX_SOURCE"; else download_source; fi
}

# Of the headers only those that must be as new as the program. They are as in the kernel's tree;
# all that installing them would change is words that linux/types.h of this host knows.
unpack() {
    local in='linux-source-*' dir
    open_source | tar -xJ -C "$work" --wildcards --strip-components=1 \
        "$in/tools/testing/selftests/ublk/*.[ch]" "$in/include/uapi/linux/ublk_cmd.h" \
        "$in/include/uapi/linux/io_uring.h" "$in/include/uapi/linux/io_uring/*" \
        "$in/include/uapi/linux/fs.h"
    dir=$work/include/uapi/linux
    [[ -e $dir/ublk_cmd.h ]] || die "the source has no ublk_cmd.h"
    mkdir "$work/uapi"
    mv "$dir" "$work/uapi/linux"
}

# What liburing has since 2.4, for an older one: two functions, and entries that come without what
# their last user left in them.
write_compatibility() {
    cat <<'CODE'
#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <linux/io_uring.h>
#include <liburing.h>

static inline struct io_uring_buf_ring *io_uring_setup_buf_ring(struct io_uring *ring,
        unsigned int entries, int group, unsigned int flags, int *error)
{
    size_t size = entries * sizeof(struct io_uring_buf);
    void *memory = mmap(0, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    struct io_uring_buf_reg reg = { .ring_addr = (uintptr_t)memory, .ring_entries = entries,
        .bgid = group, .flags = flags };
    *error = memory == MAP_FAILED ? -errno : io_uring_register_buf_ring(ring, &reg, 0);
    if (*error == 0)
        return memory;
    if (memory != MAP_FAILED)
        munmap(memory, size);
    return 0;
}

static inline int io_uring_free_buf_ring(struct io_uring *ring, struct io_uring_buf_ring *br,
        unsigned int entries, int group)
{
    int error = io_uring_unregister_buf_ring(ring, group);
    munmap(br, entries * sizeof(struct io_uring_buf));
    return error;
}

static inline struct io_uring_sqe *get_clean_sqe(struct io_uring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    if (sqe) {
        sqe->flags = 0;
        sqe->ioprio = 0;
        sqe->rw_flags = 0;
        sqe->buf_index = 0;
        sqe->personality = 0;
        sqe->file_index = 0;
        sqe->addr3 = 0;
        sqe->__pad2[0] = 0;
    }
    return sqe;
}
#define io_uring_get_sqe get_clean_sqe
CODE
}

compile() {
    local from=$work/tools/testing/selftests/ublk
    local -a flags=(-O3 -D_GNU_SOURCE -isystem "$work/uapi") sources
    # metadata_size.c is a program of its own.
    mapfile -t sources < <(find "$from" -name '*.c' ! -name metadata_size.c | sort)
    if ! grep -q io_uring_setup_buf_ring < <(gcc -E -include liburing.h - </dev/null); then
        write_compatibility >"$work/compatibility.h"
        flags+=(-include "$work/compatibility.h")
    fi
    gcc "${flags[@]}" -o "$work/kublk" "${sources[@]}" -luring -lpthread -lm
}

(($# == 1)) || { sed -n '/^# Usage:/,/^#$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
"$guest/packages.sh" gcc libc6-dev liburing-dev xz-utils kmod
mkdir -p "$1"
work=$(mktemp -d "$1/.new.XXXXXX")
trap 'rm -rf "$work"' EXIT
unpack
compile
mv "$work/kublk" "$1/kublk"
