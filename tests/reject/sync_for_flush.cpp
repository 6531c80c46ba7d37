// SPDX-License-Identifier: MIT
// expect: ublk: not sync but: ublk::result flush(const ublk::request&) noexcept;

#include "disk.hpp"

struct backend : disk {
#ifdef UBLK_REJECT
    ublk::result sync(const ublk::request&) noexcept {
        return ublk::ok;
    }
#else
    ublk::result flush(const ublk::request&) noexcept {
        return ublk::ok;
    }
#endif
};

template void serve<backend>();
