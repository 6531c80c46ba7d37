// SPDX-License-Identifier: MIT
// expect: ublk: not trim but: ublk::result discard(const ublk::request&) noexcept;

#include "disk.hpp"

struct backend : disk {
#ifdef UBLK_REJECT
    ublk::result trim(const ublk::request&) noexcept {
        return ublk::ok;
    }
#else
    ublk::result discard(const ublk::request&) noexcept {
        return ublk::ok;
    }
#endif
};

template void serve<backend>();
