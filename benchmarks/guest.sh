#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs a plan (see plan.py) where the ublk driver is: in the guest, or where host.sh runs. For each
# measurement one line of JSON goes to $UBLK_RESULT, and one that says how far it is to stdout. At
# the end, however that comes, its devices, mounts and files are gone.
#
# UBLK_NULL_BLK and UBLK_BRD name the devices of these drivers (/dev/nullb0, /dev/ram0).
#
# Usage: guest.sh PLAN counts|clock
#
# A plan has these lines, whose words are separated by blanks:
#
#   group NAME QUEUES DEPTH MAX_IO       what the servers that follow are given
#   contender NAME KIND [ARGUMENT]...    starts a device; KIND as in the functions start_KIND
#   memory                               tells the memory of all servers, before any request
#   cell CLIENT WAY BYTES DEPTH JOBS REQUESTS MS ENTERS FIRST LAST EXPECTED
#                                        each contender once in each of the rounds FIRST to LAST;
#                                        CLIENT is load, single (load, one request a system call)
#                                        or fio; EXPECTED milliseconds are for the host to read
#   profile CLIENT WAY BYTES DEPTH JOBS REQUESTS
#                                        each contender once, with marks for profile_plugin.c, and
#                                        the kernel's symbols at the end
#   end                                  stops the group's devices
set -Eeuo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }
trap 'printf "guest.sh: line %d failed\n" "$LINENO"' ERR

plan=$1 instrument=$2
disk_bytes=$((64 << 20))
work=/run/ublk-benchmark.$$
declare -a names devices pids stoppers
done_so_far=0 group='' queues=1 depth=128 max_io=1M

die() {
    printf 'guest.sh: %s\n' "$*" >&2
    exit 1
}

# What a plan will do is known before it begins.
count_measurements() {
    total=$(awk '$1 == "group" { n = 0 } $1 == "contender" { ++n } $1 == "profile" { all += n }
        $1 == "cell" { all += n * ($11 - $10 + 1) } END { print all + 0 }' "$plan")
    printf 'progress 0 %d\n' "$total"
}

# Writing back what is dirty must not happen within a measurement.
set_up() {
    mkdir -p "$work/tmpfs"
    mount -t tmpfs -o size=60% tmpfs "$work/tmpfs"
    if ! mountpoint -q /sys/kernel/tracing; then
        mount -t tracefs tracefs /sys/kernel/tracing
        mounted_tracing=yes
    fi
    echo 0 >/proc/sys/vm/dirty_writeback_centisecs
    echo 90 >/proc/sys/vm/dirty_ratio
    echo 80 >/proc/sys/vm/dirty_background_ratio
    ulimit -l unlimited
}

# NAME DEVICE STOPPER [PID]. A scheduler would be measured with it; what holds data gets them now.
add_contender() {
    local scheduler=/sys/block/${2#/dev/}/queue/scheduler
    names+=("$1") devices+=("$2") stoppers+=("$3") pids+=("${4-}")
    if [[ -w $scheduler ]]; then echo none >"$scheduler"; fi
    load --way fill --bytes 1048576 --depth 4 --span "$disk_bytes" "$2" >/dev/null ||
        die "$1: cannot be written"
}

make_file() {
    file=$work/tmpfs/${1//\//-}
    dd if=/dev/zero of="$file" bs=1M count=$((disk_bytes >> 20)) 2>/dev/null
}

start_null_blk() { add_contender "$1" "${UBLK_NULL_BLK:-/dev/nullb0}" true; }
start_brd() { add_contender "$1" "${UBLK_BRD:-/dev/ram0}" true; }

start_loop() { # NAME buffered|direct
    local device
    local -a options=()
    make_file "$1"
    if [[ $2 == direct ]]; then options=(--direct-io=on); fi
    device=$(losetup --find --show ${options[@]+"${options[@]}"} "$file")
    [[ $2 == buffered || $(<"/sys/block/${device#/dev/}/loop/dio") == 1 ]] ||
        die "$1: no direct I/O"
    add_contender "$1" "$device" "losetup -d $device"
}

start_kublk() { # NAME null|loop [OPTION]...
    local name=$1 type=$2 id pid
    local -a file_of_loop=()
    shift 2
    if [[ $type == loop ]]; then make_file "$name"; file_of_loop=("$file"); fi
    kublk add -t "$type" -q "$queues" -d "$depth" "$@" ${file_of_loop[@]+"${file_of_loop[@]}"} \
        >"$work/kublk" 2>&1 || die "$name: $(<"$work/kublk")"
    id=$(sed -n 's/^dev id \([0-9]*\):.*/\1/p' "$work/kublk")
    pid=$(sed -n 's/.*daemon pid \([0-9]*\).*/\1/p' "$work/kublk")
    [[ -b /dev/ublkb$id && -d /proc/$pid ]] || die "$name: no device: $(<"$work/kublk")"
    add_contender "$name" "/dev/ublkb$id" "kublk del -n $id" "$pid"
}

start_ours() { # NAME PROGRAM DISK [OPTION]...
    local name=$1 program=$2 disk=$3 device='' tries=0 log=$work/ours.${#names[@]} pid
    shift 3
    if [[ $disk == file/* ]]; then make_file "$name"; set -- "$@" --file "$file"; fi
    : >"$log"
    # In a session of its own, as kublk and services are: the scheduler shares CPUs among sessions.
    setsid "$program" "$disk" --queues "$queues" --depth "$depth" --size "$disk_bytes" \
        --max-io "$max_io" "$@" >"$log" 2>&1 &
    pid=$! starting=$pid
    until [[ -n $device && -b $device ]]; do
        if ! kill -0 "$pid" 2>/dev/null || ((++tries > 600)); then
            die "$name: no device: $(<"$log")"
        fi
        sleep 0.05
        device=$(sed -n '1s/.*"device":"\([^"]*\)".*/\1/p' "$log")
    done
    if [[ $disk == */batch_io/* ]] && ! grep -q '"batch_io":true' "$log"; then
        die "$name: this kernel has no batches"
    fi
    starting=''
    add_contender "$name" "$device" "stop_ours $pid" "$pid"
}

stop_ours() {
    kill -TERM "$1"
    wait "$1" || die "a server ended with status $?"
}

# Prints what load prints, as far as fio knows it.
run_fio() { # DEVICE WAY BYTES DEPTH JOBS REQUESTS MS
    local rw=rand$2 line
    local -a length=(--number_ios=$(($6 / $5)) --io_size=1t)
    if [[ $2 == mixed ]]; then rw=randrw; fi
    if [[ $instrument == clock ]]; then length=(--time_based --runtime="${7}ms"); fi
    line=$(fio --name=cell --filename="$1" --size="$disk_bytes" --direct=1 --rw="$rw" --bs="$3" \
        --iodepth="$4" --numjobs="$5" --group_reporting --thread --ioengine=io_uring --randseed=1 \
        --norandommap --output-format=terse --terse-version=3 "${length[@]}" | grep '^3;') ||
        die "fio failed on $1"
    # Fields: 5 error; reads from 6 and writes from 47 on: KiB, -, -, milliseconds.
    awk -F';' -v bytes="$3" '$5 != 0 { exit 1 } {
        ms = $9 > $50 ? $9 : $50
        printf "{\"requests\":%d,\"ns\":%d}\n", ($6 + $47) * 1024 / bytes, ms * 1000000
    }' <<<"$line" || die "fio met an error on $1: $line"
}

run_load() { # CLIENT DEVICE WAY BYTES DEPTH JOBS REQUESTS MS ENTERS PID [MAPS]
    local client=$1
    shift
    local -a options=(--way "$2" --bytes "$3" --depth "$4" --jobs "$5" --warm $(($4 * $5))
        --span "$disk_bytes")
    if [[ $instrument == counts ]]; then options+=(--requests "$6"); else options+=(--ms "$7"); fi
    if [[ $client == single ]]; then options+=(--batch 1); fi
    if [[ $8 != 0 ]]; then options+=(--enters "$8"); fi
    if [[ -n $9 ]]; then options+=(--server "$9"); fi
    if [[ -n ${10-} ]]; then options+=(--profile "${10}"); fi
    load "${options[@]}" "$1" || die "load failed on $1"
}

say() { # FORMAT [WORD]...
    # shellcheck disable=SC2059  # the format is given
    printf "$@" >&3
}

# Each round begins with another contender, so that none always follows the same one.
run_cell() { # CLIENT WAY BYTES DEPTH JOBS REQUESTS MS ENTERS FIRST LAST EXPECTED
    local round turn i enters measured count=${#names[@]}
    for ((round = $9; round <= ${10}; ++round)); do
        for ((turn = 0; turn < count; ++turn)); do
            i=$(((turn + round) % count)) enters=0
            if ((round == 1)); then enters=$8; fi
            if [[ $1 == fio ]]; then
                measured=$(run_fio "${devices[i]}" "${@:2:6}")
            else
                measured=$(run_load "$1" "${devices[i]}" "${@:2:6}" "$enters" "${pids[i]}")
            fi
            say '{"group":"%s","contender":"%s","instrument":"%s","client":"%s","way":"%s",' \
                "$group" "${names[i]}" "$instrument" "$1" "$2"
            say '"bytes":%s,"depth":%s,"jobs":%s,"round":%s,"measured":%s}\n' \
                "$3" "$4" "$5" "$round" "$measured"
            printf 'progress %d %d\n' $((++done_so_far)) "$total"
        done
    done
}

# Once unmarked, so that the marked run finds nothing to be done for the first time.
run_profile() { # CLIENT WAY BYTES DEPTH JOBS REQUESTS
    local i measured
    for i in "${!names[@]}"; do
        run_load "$1" "${devices[i]}" "${@:2:5}" 0 0 "${pids[i]}" >/dev/null
        measured=$(run_load "$1" "${devices[i]}" "${@:2:5}" 0 0 "${pids[i]}" "$work/maps")
        say 'contender %s %s\n' "${names[i]}" "$measured"
        printf 'progress %d %d\n' $((++done_so_far)) "$total"
        sed 's/^/client /' "$work/maps" >&3
        if [[ -n ${pids[i]} ]]; then sed 's/^/server /' "/proc/${pids[i]}/maps" >&3; fi
    done
    awk '$2 ~ /^[tTwW]$/ { print "symbol", $1, $3, $4 }' /proc/kallsyms >&3
}

tell_memory() {
    local i
    for i in "${!names[@]}"; do
        [[ -n ${pids[i]} ]] || continue
        say '{"group":"%s","contender":"%s","queues":%s,"depth":%s,"memory":{' \
            "$group" "${names[i]}" "$queues" "$depth"
        say '%s' "$(awk '$1 ~ /^(VmRSS|VmHWM|RssAnon|RssFile|RssShmem):$/ {
            printf "%s\"%s\":%d", sep, substr($1, 1, length($1) - 1), $2; sep = "," }' \
            "/proc/${pids[i]}/status")"
        say '}}\n'
    done
}

end_group() {
    local stopper
    for stopper in "${stoppers[@]}"; do $stopper >"$work/stop" 2>&1 || die "$(<"$work/stop")"; done
    stoppers=()
    rm -f "$work"/tmpfs/*
}

# What is left of a run that failed or was interrupted goes as well.
clean_up() {
    local stopper
    trap '' INT TERM HUP
    trap - ERR
    for stopper in "stop_ours ${starting:-}" ${stoppers[@]+"${stoppers[@]}"}; do
        case $stopper in
        'stop_ours ' | true) ;;
        stop_ours*) end_process "${stopper#stop_ours }" ;;
        *) timeout 60 $stopper >/dev/null 2>&1 || true ;;
        esac
    done
    mountpoint -q "$work/tmpfs" && umount "$work/tmpfs"
    if [[ -n ${mounted_tracing-} ]]; then umount /sys/kernel/tracing || true; fi
    rm -rf "$work"
}

end_process() { # PID
    local tries
    kill -TERM "$1" 2>/dev/null || return 0
    for ((tries = 0; tries < 600; ++tries)); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$1" 2>/dev/null || true
}

run_plan() {
    local -a words
    while read -ra words; do
        set -- "${words[@]:1}"
        case ${words[0]-} in
        '' | '#') ;;
        group) group=$1 queues=$2 depth=$3 max_io=$4 names=() devices=() stoppers=() pids=() ;;
        contender) "start_$2" "$1" "${@:3}" ;;
        memory) tell_memory ;;
        cell) run_cell "$@" ;;
        profile) run_profile "$@" ;;
        end) end_group ;;
        *) die "unknown line in the plan: ${words[*]}" ;;
        esac
    done <"$plan"
}

exec 3>"$UBLK_RESULT"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
count_measurements
set_up
run_plan
