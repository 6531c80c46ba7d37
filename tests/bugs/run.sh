#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Plants bugs that ublk servers really had into a copy of the headers, one at a time, and sees to it
# that the simulator notices each.
#
# Usage: run.sh [-j N] [--list] [NAME]...
#
# NAME.patch beside this script is a bug; `unpatched` stands for the headers as they are, which must
# pass. Without names: `unpatched` and all bugs. -j: so many at a time, by default as many as there
# are CPUs. Compiles with $CXX or c++, and $CXXFLAGS.
#
# A patch begins with "# what:", a sentence; "# seen in:", what kind of server had it; and
# "# caught by:", an extended regular expression for the tests that must fail, of which at least one
# has to. A static_assert that fails is as good. A test that hangs counts if the simulator says so,
# not if it merely takes longer than its time.
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }
export LC_ALL=C
unset UBLK_SIM_SEED UBLK_SIM_SEEDS

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
readonly here root seconds=300 unpatched=unpatched
read -ra compiler <<<"${CXX:-c++} -std=c++20 -O0 -w ${CXXFLAGS-}"

die() { printf '%s: %s\n' "${0##*/}" "$1" >&2; exit 2; }

all_names() {
    local file
    for file in "$here"/*.patch; do
        basename "$file" .patch
    done
}

field() { sed -n "s/^# $2: *//p" "$here/$1.patch"; } # NAME FIELD

# All that is compiled, as it was when this began.
take_original() {
    mkdir -p "$work/original/include" "$work/original/tests/"{sim,support,bugs}
    cp -r "$root/include/ublk" "$work/original/include/"
    cp "$root/tests/sim/"{regression,fallback,recovery}_test.cpp "$root/tests/sim/specimens.hpp" \
        "$work/original/tests/sim/"
    cp "$root/tests/support/"*.hpp "$work/original/tests/support/"
    cp "$here/catcher.cpp" "$work/original/tests/bugs/"
}

# The headers that no patch touches, parsed once for all bugs: in $UBLK_BUGS_PRECOMPILED where that
# is a directory to keep them in.
precompile() {
    precompiled=${UBLK_BUGS_PRECOMPILED:-$work}/standard.hpp
    [[ ! -e $precompiled.gch ]] || return 0
    mkdir -p "${precompiled%/*}"
    printf '#include <%s>\n' algorithm atomic chrono condition_variable functional map memory \
        mutex span stop_token string thread vector gtest/gtest.h liburing.h \
        boost/hana/tuple.hpp boost/hana/unpack.hpp >"$precompiled"
    "${compiler[@]}" -x c++-header "$precompiled" -o "$precompiled.$$" &&
        mv "$precompiled.$$" "$precompiled.gch"
}

build() { # TREE [OPTION]...
    local tree=$1
    shift
    "${compiler[@]}" "$@" -include "$precompiled" -I "$tree/include" \
        "$tree/tests/bugs/catcher.cpp" -o "$tree/catcher" \
        -lgtest -lgtest_main -luring -lpthread >"$tree/compiler" 2>&1
}

# A part of the tests compiles in a part of the time.
part() { # NAME
    case $(field "$1" "caught by") in
    regression.*) echo -DUBLK_NO_{LAWS,FALLBACK,RECOVERY} ;;
    fallback.*) echo -DUBLK_NO_{LAWS,REGRESSION,RECOVERY} ;;
    recovery.*) echo -DUBLK_NO_{LAWS,REGRESSION,FALLBACK} ;;
    in_batches/*) echo -DUBLK_NO_{REGRESSION,FALLBACK,RECOVERY} -DUBLK_ONLY_BATCHES ;;
    *) echo -DUBLK_NO_{REGRESSION,FALLBACK,RECOVERY,BATCHES} ;;
    esac
}

# The tests of the program in $1 that match $2, as a filter of GoogleTest.
filter() {
    "$1/catcher" --gtest_list_tests |
        awk '/^[^ ]/ { suite = $1 } /^  / { print suite $1 }' |
        { grep -E -e "$2" || true; } | paste -sd :
}

# Runs these tests until one fails. Returns the status of the program.
try() { # TREE FILTER
    timeout --kill-after=5 "$seconds" "$1/catcher" --gtest_color=no --gtest_fail_fast \
        --gtest_filter="$2" >"$1/output" 2>&1
}

# Which test failed, and the first thing that was said of it.
first_failure() { # TREE STATUS
    awk -v status="$2" '
        function say(words) { if (said == "") said = words }
        /^\[ RUN      \]/ && !stop { test = $4 }
        /^\[  FAILED  \]/ { stop = 1 }
        /^ublk sim: (violation|hang): / { sub(/^ublk sim: /, ""); say($0) }
        /^ublk: assertion failed: / { sub(/^ublk: /, ""); sub(/ \(.*/, ""); say($0) }
        /^terminate called/ { say($0) }
        /: Failure$/ { more = text == "" ? 3 : 0; next }
        /^\[/ { more = 0 }
        more > 0 { --more; gsub(/^ +/, ""); text = text (text == "" ? "" : " ") $0 }
        END {
            say(text)
            if (said == "" && status > 128) said = "ended by signal " status - 128
            sub(/^Failed /, "", said)
            printf "%s\t%s", test, said
        }' "$1/output"
}

row() { printf '%-36s %-13s %s\n' "$1" "$2" "${3-}"; } # NAME VERDICT WORDS

try_unpatched() {
    local tree=$1 status=0
    cp -r "$work/original" "$tree"
    if ! build "$tree"; then
        row "$unpatched" "NOT COMPILED" "$(grep -m 1 'error:' "$tree/compiler" || true)"
        return 1
    fi
    try "$tree" '*' || status=$?
    if ((status != 0)); then
        row "$unpatched" "FAILS" "$(first_failure "$tree" "$status" | tr '\t' ' ')"
        return 1
    fi
    row "$unpatched" "passes"
}

try_bug() { # NAME TREE
    local name=$1 tree=$2 status=0 tests said
    local -a options
    cp -r "$work/original" "$tree"
    if ! patch -d "$tree" -p1 -s --no-backup-if-mismatch -i "$here/$name.patch" >"$tree/patch" 2>&1
    then
        row "$name" "NOT PATCHED" "$(head -n 1 "$tree/patch")"
        return 1
    fi
    read -ra options < <(part "$name")
    if ! build "$tree" "${options[@]}"; then
        said=$(grep -m 1 'error:' "$tree/compiler" || true)
        if [[ $said == *static*assert* ]]; then
            row "$name" "caught" "by the compiler: ${said#*error: }"
            return 0
        fi
        row "$name" "NOT COMPILED" "$said"
        return 1
    fi
    tests=$(filter "$tree" "$(field "$name" "caught by")")
    if [[ -z $tests ]]; then
        row "$name" "NO SUCH TEST" "$(field "$name" "caught by")"
        return 1
    fi
    try "$tree" "$tests" || status=$?
    said=$(first_failure "$tree" "$status")
    case $status in
    0)
        row "$name" "NOT CAUGHT" "$(field "$name" what)"
        return 1
        ;;
    124 | 137)
        row "$name" "TIMEOUT" "in ${said%%$'\t'*}"
        return 1
        ;;
    *)
        row "$name" "caught" "by ${said%%$'\t'*}"
        printf '%-36s %-13s %.120s\n' "" "" "${said#*$'\t'}"
        ;;
    esac
}

# In a background job.
work_on() {
    local tree=$work/$1 verdict=0 rows
    if [[ $1 == "$unpatched" ]]; then
        rows=$(try_unpatched "$tree") || verdict=1
    else
        rows=$(try_bug "$1" "$tree") || verdict=1
    fi
    printf '%s\n' "$rows"
    rm -rf "$tree"
    ((verdict == 0)) || touch "$work/$1.bad"
}

jobs=$(nproc)
names=()
while (($# > 0)); do
    case $1 in
    -j) jobs=${2-}; shift ;;
    -j*) jobs=${1#-j} ;;
    --list) all_names; exit ;;
    -*) sed -n '/^# Usage:/s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
    *) names+=("$1") ;;
    esac
    shift
done
[[ $jobs =~ ^[1-9][0-9]*$ ]] || die "-j takes a number"
if ((${#names[@]} == 0)); then
    mapfile -t names < <(printf '%s\n' "$unpatched"; all_names)
fi
for name in "${names[@]}"; do
    [[ $name == "$unpatched" || -f $here/$name.patch ]] || die "there is no bug $name"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
take_original
precompile
for name in "${names[@]}"; do
    while (($(jobs -rp | wc -l) >= jobs)); do
        wait -n || true
    done
    work_on "$name" &
done
wait

shopt -s nullglob
bad=("$work"/*.bad)
printf 'totals: %d passed, %d failed, 0 skipped\n' "$((${#names[@]} - ${#bad[@]}))" "${#bad[@]}"
((${#bad[@]} == 0))
