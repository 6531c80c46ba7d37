#!/bin/sh
# SPDX-License-Identifier: MIT
# demo-session.sh PROGRAM TREE [FIGURE]: serves a RAM disk with PROGRAM and copies TREE through a
# file system on it. Runs on the host or in a guest (busybox), as root. demo.sh calls it. FIGURE:
#
#   clock   also measures requests a second (the default)
#   none    does not
#   count   only counts instructions a request, in a guest that run.sh has started with --icount
set -eu
[ "${1-}" != --help ] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }

program=$1
tree=$2
figure=${3:-clock}
work=$(mktemp -d /tmp/ublk-demo.XXXXXX)
disk=
loop=
server=

step() { printf '\n== %s\n' "$*"; }
run() {
    printf '$ %s\n' "$*"
    "$@"
}
die() {
    echo "demo: $*" >&2
    exit 1
}

cleanup() {
    code=$?
    umount "$work/mnt" 2>/dev/null || true
    [ -z "$loop" ] || losetup -d "$loop" 2>/dev/null || true
    [ -z "$server" ] || kill -INT "$server" 2>/dev/null || true
    umount "$work/tmpfs" 2>/dev/null || true
    rm -rf "$work"
    exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

start_server() {
    step "Start the server: a sparse disk of 1 GiB"
    printf '$ %s --size 1G &\n' "$program"
    "$program" --size 1G >"$work/server" 2>&1 &
    server=$!
    tries=0
    until grep -q '^/dev/ublkb' "$work/server"; do
        kill -0 "$server" 2>/dev/null || die "the server ended: $(cat "$work/server")"
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || die "the server did not start within 30 s"
        sleep 0.1
    done
    cat "$work/server"
    disk=$(sed -n 's/^\(\/dev\/ublkb[0-9]*\):.*/\1/p' "$work/server")
    run ls -l "$disk"
    queue=/sys/block/${disk#/dev/}/queue
    for name in logical_block_size physical_block_size discard_max_bytes write_cache; do
        printf '%-22s %s\n' "$name" "$(cat "$queue/$name")"
    done
}

copy_files() {
    step "Make a file system and mount it"
    run mkfs.ext4 -q -F "$disk"
    mkdir "$work/mnt"
    run mount -t ext4 "$disk" "$work/mnt"

    step "Copy a tree of real files and compare what comes back"
    mkdir "$work/mnt/tree"
    # At most 400 files and 64 MiB, so that the demo stays short on any machine.
    (cd "$tree" && find . -xdev -type f -size -16384k | sort | head -n 400 >"$work/all")
    (cd "$tree" && total=0 && while read -r file; do
        total=$((total + $(wc -c <"$file")))
        [ "$total" -le 67108864 ] || break
        printf '%s\n' "$file"
    done <"$work/all") >"$work/list"
    (cd "$tree" && while read -r file; do cp --parents "$file" "$work/mnt/tree"; done <"$work/list")
    (cd "$tree" && tr '\n' '\0' <"$work/list" | xargs -0 sha256sum) >"$work/before"
    sync
    echo 3 >/proc/sys/vm/drop_caches # so that the files are read from the disk
    (cd "$work/mnt/tree" && tr '\n' '\0' <"$work/list" | xargs -0 sha256sum) >"$work/after"
    cmp "$work/before" "$work/after" || die "files differ"
    [ -s "$work/before" ] || die "no file was copied"
    echo "$(wc -l <"$work/before") files, $(du -sh "$work/mnt/tree" | cut -f1): all checksums agree"

    step "Unmount and check"
    run umount "$work/mnt"
    run e2fsck -f -n "$disk"
}

# iops DEVICE LENGTH...: prints those of one short run.
iops() {
    device=$1
    shift
    fio --name=demo --filename="$device" --size=256m --direct=1 --rw=randread --bs=4k \
        --iodepth=64 --ioengine=libaio --randrepeat=1 --output-format=terse --terse-version=3 \
        "$@" | cut -d';' -f8
}

median() { sort -n | sed -n 2p; }

# Fills 256 MiB of the disk, and of a loop device on tmpfs.
make_loop() {
    mkdir "$work/tmpfs"
    mount -t tmpfs -o size=300m tmpfs "$work/tmpfs"
    dd if=/dev/zero of="$work/tmpfs/file" bs=1M count=256 2>/dev/null
    loop=$(losetup -f)
    losetup "$loop" "$work/tmpfs/file"
    dd if=/dev/zero of="$disk" bs=1M count=256 2>/dev/null
    for device in "$disk" "$loop"; do
        echo none >"/sys/block/${device#/dev/}/queue/scheduler"
    done
}

measure() {
    step "A short figure: fio, 4 KiB random reads, depth 64, beside a loop device on tmpfs"
    make_loop
    : >"$work/ublk.iops"
    : >"$work/loop.iops"
    for turn in 1 2 3; do # interleaved, since machines change their speed
        ours=$(iops "$disk" --runtime=2 --time_based)
        theirs=$(iops "$loop" --runtime=2 --time_based)
        echo "turn $turn: ublk $ours IOPS, loop $theirs IOPS"
        echo "$ours" >>"$work/ublk.iops"
        echo "$theirs" >>"$work/loop.iops"
    done
    ours=$(median <"$work/ublk.iops")
    theirs=$(median <"$work/loop.iops")
    [ "${ours:-0}" -gt 0 ] && [ "${theirs:-0}" -gt 0 ] || die "fio gave no figure"
    echo "median: ublk $ours IOPS = $((ours * 100 / theirs)) % of loop"
    losetup -d "$loop"
    loop=
}

# Here an instruction takes one nanosecond, whichever CPU executes it.
instructions() {
    rate=$(iops "$1" --number_ios=40000)
    [ "${rate:-0}" -gt 0 ] || die "fio gave no figure"
    echo "$((1000000000 / rate))"
}

count() {
    step "A counted figure: instructions a 4 KiB random read takes in the whole system, depth 64"
    make_loop
    instructions "$disk" >/dev/null # what happens only once
    ours=$(instructions "$disk")
    theirs=$(instructions "$loop")
    echo "ublk $ours, loop device on tmpfs $theirs: $((ours * 100 / theirs)) % of loop's"
    losetup -d "$loop"
    loop=
}

stop_server() {
    step "Stop the server with SIGINT"
    kill -INT "$server"
    code=0
    wait "$server" || code=$?
    server=
    [ "$code" = 0 ] || die "the server ended with $code: $(cat "$work/server")"
    [ ! -e "$disk" ] || die "$disk is still there"
    [ ! -e "/dev/ublkc${disk#/dev/ublkb}" ] || die "the device is still there"
    echo "exit code 0; $disk is gone"
}

start_server
case $figure in
count) count ;;
none) copy_files ;;
clock)
    copy_files
    measure
    ;;
*) die "no figure is called $figure" ;;
esac
stop_server
