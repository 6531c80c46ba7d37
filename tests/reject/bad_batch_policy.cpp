// SPDX-License-Identifier: MIT
// expect: ublk: a batch policy needs: static bool due(unsigned waiting) noexcept;

#include "disk.hpp"

struct sometimes {
#ifdef UBLK_REJECT
    bool due(unsigned waiting) {
        return waiting > 3;
    }
#else
    static bool due(unsigned waiting) noexcept {
        return waiting > 3;
    }
#endif
};

template void serve<disk, ublk::per_cpu, sometimes>();
