#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Usage: case.sh LOG SUITE.CASE
#
# Prints what a GoogleTest log says of one case. Exit status: 0 it passed, 77 it was skipped, 1 it
# failed, did not end, or is not in the log.
set -euo pipefail

(($# == 2)) || { sed -n 's/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | tail -n +3 >&2; exit 1; }
log=$1 case=$2
[[ -r $log ]] || { printf 'case.sh: there is no log %s\n' "$log"; exit 1; }

# A marker need not begin its line: the case may have printed half a line before. It ends in the
# case's name, followed by nothing, " (3 ms)" or ", where TypeParam = ...".
awk -v name="$case" '
    function marks(kind, at) {
        at = index($0, "[" kind "] " name)
        return at && substr($0, at + length(kind) + 3 + length(name)) ~ /^($| \(|,)/
    }
    { sub(/\r$/, "") }
    !inside && marks(" RUN      ") { inside = found = 1; status = 1 }
    inside { print }
    inside && marks("       OK ") { status = 0; inside = 0 }
    inside && marks("  SKIPPED ") { status = 77; inside = 0 }
    inside && marks("  FAILED  ") { status = 1; inside = 0; exit }
    END {
        if (!found) { print "case.sh: the log does not mention " name; exit 1 }
        if (inside && status == 1) print "case.sh: no verdict on " name
        exit status
    }' "$log"
