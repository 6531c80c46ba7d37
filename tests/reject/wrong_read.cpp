// SPDX-License-Identifier: MIT
// expect: ublk: a backend's read must be public, and: ublk::result read(const ublk::request&,
//         std::span<std::byte> out)
//         noexcept;

#include "disk.hpp"

struct backend : disk {
#ifdef UBLK_REJECT
    ublk::result read(std::uint64_t, std::span<std::byte>) noexcept {
        return ublk::ok;
    }
#else
    ublk::result read(const ublk::request&, std::span<std::byte>) noexcept {
        return ublk::ok;
    }
#endif
};

template void serve<backend>();
