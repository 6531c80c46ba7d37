// SPDX-License-Identifier: MIT
// expect: ublk: a backend needs: ublk::result write(const ublk::request&, ublk::user_copy in)
//         noexcept; or: static constexpr bool read_only = true;

#include "disk.hpp"

struct backend : disk {
    using disk::read, disk::write;
    ublk::result read(const ublk::request&, ublk::user_copy) noexcept { return ublk::ok; }
#ifndef UBLK_REJECT
    ublk::result write(const ublk::request&, ublk::user_copy) noexcept {
        return ublk::ok;
    }
#endif
};

template void serve<backend>();
