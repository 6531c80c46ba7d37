#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A program that must not compile, for the reason that its head comment says.
#
# Usage: reject.sh FILE COMPILER [FLAG]...
#
# FILE holds two programs. Plain, it must compile; with UBLK_REJECT defined it must not, and its
# first error must contain the sentence after "// expect:", which may go on in indented comment
# lines. Several such comments are alternatives, for messages that are a compiler's own.
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }
export LC_ALL=C # or the compiler would quote and speak otherwise

(($# >= 2)) || { sed -n '/^# Usage:/s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2; }
file=$1
shift
compile=("$@" -fsyntax-only -fdiagnostics-color=never "$file")

fail() {
    printf '%s: %s\n' "${file##*/}" "$1"
    [[ -z ${2-} ]] || printf '%s\n' "$2"
    exit 1
}

# Prints one expected sentence a line.
expectations() {
    awk '
        function emit() { if (sentence != "") print sentence; sentence = "" }
        sub(/^\/\/ expect: */, "") { emit(); sentence = $0; next }
        sentence != "" && sub(/^\/\/  +/, "") { sentence = sentence " " $0; next }
        { emit() }
        END { emit() }' "$file"
}

mapfile -t sentences < <(expectations)
((${#sentences[@]} > 0)) || fail "has no comment '// expect: ...'"

output=$("${compile[@]}" 2>&1) || fail "its twin, which is right, does not compile:" "$output"
! output=$("${compile[@]}" -DUBLK_REJECT 2>&1) || fail "compiles, although it is wrong"

first=$(grep -m 1 -E '(^|: )(fatal )?error:' <<<"$output") || fail "no error line:" "$output"
for sentence in "${sentences[@]}"; do
    if [[ $first == *"$sentence"* ]]; then
        printf '%s\n' "$first"
        exit 0
    fi
done
fail "the first error is another one than expected:
  expected: $(printf '%s\n            ' "${sentences[@]}")
  is:       $first" "$output"
