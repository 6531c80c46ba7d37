// SPDX-License-Identifier: MIT
// expect: ublk: a backend with volatile_cache or fua also needs: ublk::result flush(const
//         ublk::request&) noexcept;

#include "disk.hpp"

struct backend : disk {
    bool fua() const noexcept { return true; }
#ifndef UBLK_REJECT
    ublk::result flush(const ublk::request&) noexcept {
        return ublk::ok;
    }
#endif
};

template void serve<backend>();
