// SPDX-License-Identifier: MIT
// expect: ublk: a backend's read_only must be: bool read_only() const noexcept; or: static
//         constexpr bool read_only = ...;

#include "disk.hpp"

struct backend : disk {
#ifdef UBLK_REJECT
    bool read_only() noexcept {
        return true;
    }
#else
    bool read_only() const noexcept {
        return true;
    }
#endif
};

template void serve<backend>();
