// SPDX-License-Identifier: MIT
// expect: ublk: not Discard but: ublk::result discard(const ublk::request&) noexcept;

#include "disk.hpp"

struct backend final : disk {
#ifdef UBLK_REJECT
    ublk::result Discard(const ublk::request&) noexcept {
        return ublk::ok;
    }
#else
    ublk::result discard(const ublk::request&) noexcept {
        return ublk::ok;
    }
#endif
};

template void serve<backend>();
