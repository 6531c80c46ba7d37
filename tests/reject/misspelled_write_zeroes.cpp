// SPDX-License-Identifier: MIT
// expect: ublk: not write_zeros but: ublk::result write_zeroes(const ublk::request&) noexcept;

#include "disk.hpp"

struct backend : disk {
#ifdef UBLK_REJECT
    ublk::result write_zeros(const ublk::request&) noexcept {
        return ublk::ok;
    }
#else
    ublk::result write_zeroes(const ublk::request&) noexcept {
        return ublk::ok;
    }
#endif
};

template void serve<backend>();
