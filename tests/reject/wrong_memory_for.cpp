// SPDX-License-Identifier: MIT
// expect: ublk: a backend's memory_for must be: std::span<std::byte> memory_for(const
//         ublk::request&) noexcept;

#include "disk.hpp"

struct backend : disk {
#ifdef UBLK_REJECT
    std::span<const std::byte> memory_for(const ublk::request&) noexcept {
        return {};
    }
#else
    std::span<std::byte> memory_for(const ublk::request&) noexcept {
        return {};
    }
#endif
};

template void serve<backend>();
