// SPDX-License-Identifier: MIT
// expect: ublk: a backend needs: ublk::result write(const ublk::request&, std::span<const
//         std::byte> in) noexcept;

#include "disk.hpp"

struct backend : disk {
#ifdef UBLK_REJECT
    ublk::result write(const ublk::request&, std::span<std::byte>) noexcept {
        return ublk::ok;
    }
#else
    ublk::result write(const ublk::request&, std::span<const std::byte>) {
        return ublk::ok;
    }
#endif
};

template void serve<backend>();
