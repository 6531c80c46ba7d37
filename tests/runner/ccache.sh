# SPDX-License-Identifier: MIT
#
# To be sourced: has CMake compile through ccache where that is installed. All clones share one
# cache of bounded size, so nothing that is hashed may name a place. The user's own is left alone.
CCACHE_DIR=${UBLK_CCACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/ublk-ccache}
if command -v ccache >/dev/null && mkdir -p "$CCACHE_DIR" 2>/dev/null && [ -w "$CCACHE_DIR" ]; then
    export CMAKE_CXX_COMPILER_LAUNCHER=ccache CCACHE_DIR
    export CCACHE_MAXSIZE=2G CCACHE_COMPRESS=1 CCACHE_NOHASHDIR=1
    CCACHE_BASEDIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
    export CCACHE_BASEDIR
else  # as in a system within, which has the variables but no ccache
    unset CCACHE_DIR CMAKE_CXX_COMPILER_LAUNCHER
fi
