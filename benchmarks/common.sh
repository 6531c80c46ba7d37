# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What run.sh and compare.sh share; sourced by them. They set `here`, `root`, `build`, and `work`.
# shellcheck disable=SC2154

export PYTHONDONTWRITEBYTECODE=1  # nothing is left among the sources

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 2
}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

usage() { # STATUS
    sed -n '/^# Usage:/,/^set /{/^set /!s/^# \{0,1\}//p}' "$0"
    exit "$1"
}

# A guest that runs is ended in its own way, and takes its machine with it.
clean_up() {
    if [[ -n ${guest-} ]]; then
        kill -TERM "$guest" 2>/dev/null || true
        wait "$guest" 2>/dev/null || true
    fi
    rm -rf "$work"
}

# Makes $work, which goes at the end however that comes.
make_work() {
    work=$(mktemp -d)
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# "0123abc", with "+changes" where the tree has some.
commit_of() { # TREE
    local name
    name=$(git -C "$1" rev-parse --short=12 HEAD 2>/dev/null) || name=unknown
    git -C "$1" diff --quiet HEAD -- 2>/dev/null || name+=+changes
    echo "$name"
}

build_programs() { # TREE DIRECTORY TARGET...
    local tree=$1 directory=$2
    shift 2
    say "building the programs of $tree"
    mkdir -p "$directory"
    {
        cmake -S "$tree" -B "$directory" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
            -DUBLK_BUILD_BENCHMARKS=ON -DUBLK_BUILD_TESTS=OFF -DUBLK_BUILD_EXAMPLES=OFF &&
            timeout 1800 cmake --build "$directory" --target "$@"
    } >"$directory/log" 2>&1 || {
        tail -n 40 "$directory/log" >&2
        die "the programs do not build"
    }
}

get_kublk() {
    [[ -z $kublk ]] || return 0
    kublk=$build/kublk
    [[ -x $kublk ]] || { say 'building kublk'; timeout 1800 "$here/kublk.sh" "$build" >&2; }
}

# Prints how many measurements these plans have in all.
count_measurements() { # PLAN...
    awk '$1 == "group" { n = 0 } $1 == "contender" { ++n } $1 == "profile" { all += n }
        $1 == "cell" { all += n * ($11 - $10 + 1) } END { print all + 0 }' "$@"
}

# Prints, for each measurement of a plan in turn, how many milliseconds it and all before it are
# expected to take, boot and starts of devices among them.
expected_times() { # PLAN
    awk 'BEGIN { all = 15000 }
        $1 == "group" { n = 0 }
        $1 == "contender" { ++n; all += 700 }
        $1 == "cell" { for (i = n * ($11 - $10 + 1); i > 0; --i) print all += $12 }
        $1 == "profile" { for (i = n; i > 0; --i) print all += 8000 }' "$1"
}

# From here on the time left can be told.
measurements() { # PLAN...
    local plan
    planned=0 measured=0 began=$SECONDS last_shown=-100
    for plan in "$@"; do
        planned=$((planned + $(expected_times "$plan" | tail -n 1)))
    done
}

# On a terminal a bar that moves; elsewhere a line now and then. The time is that of the plan, by
# how fast it went so far; at the start there is none to go by.
show_progress() { # MILLISECONDS_NOW WHAT
    local done=$((measured + $1)) left='' percent filled bar
    ((planned > 0)) || return 0
    percent=$((100 * done / planned)) filled=$((30 * done / planned))
    if ((done > 15000)); then
        left=$(((SECONDS - began) * (planned - done) / done))
        left=$(printf ', %d:%02d left' $((left / 60)) $((left % 60)))
    fi
    printf -v bar '%*s' "$filled" ''
    if [[ -t 2 ]]; then
        printf '\r[%-30s] %3d %% %s%s\e[K' "${bar// /#}" "$percent" "$2" "$left" >&2
        if ((done >= planned)); then printf '\n' >&2; fi
    elif ((percent >= last_shown + 10)); then
        say "$percent % ($2)$left"
        last_shown=$percent
    fi
}

# Runs $work/plan.NAME in a guest; $work/lines.NAME gets the results, $work/guest.NAME what the
# guest says it is.
run_guest() { # NAME INSTRUMENT [OPTION of tests/guest/run.sh]...
    local name=$1 instrument=$2 limit program module status=0
    local -a options=(--kernel "$kernel" --memory 3G --result "$work/lines.$name")
    shift 2
    for program in bash fio losetup mount mountpoint awk dd; do
        options+=(--program "$program")
    done
    for module in ublk_drv loop "null_blk gb=1" "brd rd_nr=1 rd_size=65536"; do
        options+=(--module "$module")
    done
    if [[ -n $kublk ]]; then options+=(--add "$kublk:/usr/bin/kublk"); fi
    options+=(--add "$here/guest.sh:/usr/bin/guest.sh")
    options+=(--add "${load:-$build/cmake/benchmarks/load}:/usr/bin/load")
    options+=(--add "$work/plan.$name:/plan" ${servers[@]+"${servers[@]}"})
    [[ -n ${servers[*]-} ]] ||
        options+=(--add "$build/cmake/benchmarks/target:/opt/benchmark/target")
    # A measurement takes some two seconds; the rest is for a machine that is busy.
    limit=$((300 + 15 * $(count_measurements "$work/plan.$name")))
    "$root/tests/guest/run.sh" "${options[@]}" --timeout "$limit" "$@" \
        -- bash /usr/bin/guest.sh /plan "$instrument" >"$work/log.$name" 2>&1 &
    guest=$!
    follow "$work/log.$name" "$guest" "$name"
    wait "$guest" || status=$?
    guest=''
    if ((status)); then
        grep -v '^progress ' "$work/log.$name" | tail -n 60 >&2
        die "the guest for $name failed with status $status"
    fi
    sed -n 's/^guest: //p' "$work/log.$name" | head -n 1 >"$work/guest.$name"
    measured=$((measured + $(expected_times "$work/plan.$name" | tail -n 1)))
}

# Shows the progress that a guest tells of, as long as it runs.
follow() { # LOG PROCESS WHAT
    local now
    local -a times
    mapfile -t times < <(expected_times "$work/plan.$3")
    while kill -0 "$2" 2>/dev/null; do
        now=$(grep '^progress ' "$1" 2>/dev/null | tail -n 1 | cut -d ' ' -f 2) || now=0
        show_progress "$((${now:-0} ? times[now - 1] : 0))" "$3"
        sleep 1
    done
}
