#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What file.sh runs in the guest: measures every cell and writes one line of it to $UBLK_RESULT:
#
#   ROUND BACKING MODE RW BYTES DEPTH CONTENDER MILLISECONDS REQUESTS
#
# Usage: file-guest.sh COUNTING ROUNDS SIZES [COMMAND]...
#
#   COUNTING   yes: each cell is a number of requests; no: it is a second
#   SIZES      of the requests, in bytes
#   COMMAND    a program to compare, as for file.sh --ours
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }

counting=$1 rounds=$2 sizes=$3
shift 3
ours=("$@")
file_bytes=$((64 << 20))

work=/run/benchmark
declare -a names devices stoppers

die() {
    printf 'file-guest.sh: %s\n' "$*" >&2
    exit 1
}

# Both file systems are in memory, so that it is the path to the file that is measured. Writing
# back what is dirty must not happen within a measurement.
set_up() {
    mkdir -p "$work"/{tmpfs,ext4}
    mount -t tmpfs -o size=70% tmpfs "$work/tmpfs"
    mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 /dev/ram0
    mount -t ext4 -o noatime /dev/ram0 "$work/ext4"
    echo 0 >/proc/sys/vm/dirty_writeback_centisecs
    echo 80 >/proc/sys/vm/dirty_ratio
    echo 70 >/proc/sys/vm/dirty_background_ratio
    # A program of ours locks the file that it serves, so each has one of its own.
    local backing number
    for backing in tmpfs ext4; do
        for number in '' "${!ours[@]}"; do
            dd if=/dev/urandom of="$work/$backing/file$number" bs=1M \
                count=$((file_bytes >> 20)) 2>/dev/null
        done
    done
}

# Direct I/O to a file with pages in the cache pays for throwing them out; buffered I/O is what it
# is for only with all of them there.
prepare_cache() {
    local file=$1 mode=$2
    sync
    echo 3 >/proc/sys/vm/drop_caches
    if [[ $mode == buffered ]]; then cat "$file"* >/dev/null; fi
}

add_contender() {
    names+=("$1") devices+=("$2") stoppers+=("$3")
    echo none >"/sys/block/${2#/dev/}/queue/scheduler"
}

start_loop() {
    local file=$1 mode=$2 device
    local -a options=()
    if [[ $mode == direct ]]; then options=(--direct-io=on); fi
    device=$(losetup --find --show ${options[@]+"${options[@]}"} "$file")
    # The kernel goes without direct I/O silently where it cannot have it.
    [[ $mode == buffered || $(<"/sys/block/${device#/dev/}/loop/dio") == 1 ]] ||
        die "loop has no direct I/O on $file"
    add_contender loop "$device" "losetup -d $device"
}

start_kublk() {
    local file=$1 name=$2 id
    shift 2
    kublk add -t loop -q 1 -d 64 "$@" "$file" >"$work/kublk" 2>&1 ||
        die "$name: $(<"$work/kublk")"
    id=$(sed -n 's/^dev id \([0-9]*\):.*/\1/p' "$work/kublk")
    [[ -b /dev/ublkb$id ]] || die "$name: no device: $(<"$work/kublk")"
    add_contender "$name" "/dev/ublkb$id" "kublk del -n $id"
}

# The words FILE and [WORD] of a command are for us, the rest is for it.
start_ours() {
    local file=$1 mode=$2 number=$3 word device='' tries=0 log=$work/ours.$3
    local -a words command=()
    read -ra words <<<"${ours[number]}"
    for word in "${words[@]}"; do
        case $word in
        FILE) command+=("$file$number") ;;
        \[*\]) if [[ $mode == direct ]]; then command+=("${word:1:-1}"); fi ;;
        *) command+=("$word") ;;
        esac
    done
    "${command[@]}" >"$log" 2>&1 &
    until [[ -n $device && -b $device ]]; do
        if ! kill -0 $! 2>/dev/null || ((++tries > 300)); then
            die "${command[*]}: no device: $(<"$log")"
        fi
        sleep 0.1
        device=$(sed -n '1s/.*\(\/dev\/ublkb[0-9]*\).*/\1/p' "$log")
    done
    add_contender "ours$((number + 1))" "$device" "stop_ours $!"
}

stop_ours() {
    kill -TERM "$1"
    wait "$1" || die "a server ended with status $?"
}

# kublk opens its file with O_DIRECT whatever it is told, so it has no buffered mode.
start_contenders() {
    local file=$1 mode=$2 number
    names=() devices=() stoppers=()
    start_loop "$file" "$mode"
    if [[ $mode == direct ]]; then
        start_kublk "$file" kublk
        start_kublk "$file" kublk-auto-zc --auto_zc
        start_kublk "$file" kublk-batch -b
        start_kublk "$file" kublk-auto-zc-batch --auto_zc -b
        start_kublk "$file" kublk-user-copy -u
    fi
    for number in "${!ours[@]}"; do start_ours "$file" "$mode" "$number"; done
}

# Prints "MILLISECONDS REQUESTS". The seed is the same for all. Without an --io_size fio would stop
# when it has transferred as much as the file holds.
run_fio() {
    local device=$1 rw=$2 bytes=$3 depth=$4 line
    shift 4
    line=$(fio --name=cell --filename="$device" --size="$file_bytes" --direct=1 --rw="$rw" \
        --bs="$bytes" --iodepth="$depth" --ioengine=io_uring --randseed=1 --norandommap --thread \
        --io_size=1t --output-format=terse --terse-version=3 "$@" | grep '^3;') ||
        die "fio failed on $device"
    # Fields: 5 error, 6 and 9 KiB and milliseconds of the reads, 47 and 50 of the writes.
    awk -F';' -v rw="$rw" -v bytes="$bytes" '$5 != 0 { exit 1 }
        { at = rw == "randread" ? 6 : 47; print $(at + 3), $at * 1024 / bytes }' <<<"$line" ||
        die "fio met an error on $device: $line"
}

# So many requests that rounding the time to 1 ms is well below 0.5 %.
cell_length() {
    local bytes=$1 depth=$2 requests=24000
    if [[ $counting == no ]]; then
        echo --time_based --runtime=1
        return
    fi
    if ((depth == 1)); then requests=10000; fi
    if ((bytes > 16384)); then requests=4000; fi
    echo --number_ios="$requests"
}

measure_phase() {
    local round=$1 backing=$2 mode=$3 bytes depth rw i figures
    for bytes in $sizes; do
        for depth in 1 64; do
            for rw in randread randwrite; do
                for i in "${!devices[@]}"; do
                    # shellcheck disable=SC2046  # two words
                    figures=$(run_fio "${devices[i]}" "$rw" "$bytes" "$depth" \
                        $(cell_length "$bytes" "$depth"))
                    echo "$round $backing $mode $rw $bytes $depth ${names[i]} $figures" >&3
                done
            done
        done
    done
}

# Pages of buffers that no request has touched yet would count for the first cell.
warm_up() {
    local device rw
    for device in "${devices[@]}"; do
        for rw in randread randwrite; do
            run_fio "$device" "$rw" 131072 64 --number_ios=300 >/dev/null
        done
    done
}

# All contenders are up at once, so that a cell's measurements follow each other.
run_phase() {
    local backing=$1 mode=$2 file=$work/$1/file round stopper
    prepare_cache "$file" "$mode"
    start_contenders "$file" "$mode"
    warm_up
    for ((round = 1; round <= rounds; round++)); do
        measure_phase "$round" "$backing" "$mode"
        printf '%s, %s: round %d of %d\n' "$backing" "$mode" "$round" "$rounds"
    done
    for stopper in "${stoppers[@]}"; do $stopper >"$work/stop" 2>&1 || die "$(<"$work/stop")"; done
}

exec 3>"$UBLK_RESULT"
set_up
for backing in tmpfs ext4; do
    for mode in buffered direct; do run_phase "$backing" "$mode"; done
done
