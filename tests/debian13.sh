#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The unit tests, each header alone, and the examples in Debian 13: with its compilers, standard
# library and liburing.
#
#   tests/debian13.sh g++|clang++
set -euo pipefail
[[ ${1-} != --help ]] || { sed -n '/^set /q; 1,2d; s/^# \{0,1\}//p' "$0"; exit 0; }

here=$(cd "$(dirname "$0")" && pwd)
compiler=${1:?g++ or clang++}
# shellcheck disable=SC2016  # a program for another shell
exec "$here/debian.sh" trixie -- bash -c 'set -e
    tests/build.sh --compiler "$1" --only unit
    tests/build.sh --compiler "$1" --only headers
    tests/build.sh --compiler "$1" --only examples --build' bash "$compiler"
