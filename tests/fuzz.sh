#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Searches with libFuzzer for half an hour a target; see fuzz/search.sh.
#
#   tests/fuzz.sh [--seconds N] TARGET...
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }

here=$(cd "$(dirname "$0")" && pwd)
seconds=(--seconds 1800)
if [ "${1-}" = --seconds ]; then
    seconds=("$1" "${2:?--seconds needs a number}")
    shift 2
fi
build=$("$here/build.sh" --compiler clang++ --only fuzz --build | tail -n 1)
exec "$here/fuzz/search.sh" "${seconds[@]}" "$build" "$@"
