// SPDX-License-Identifier: MIT
// expect: ublk: a backend's lend must be: std::span<std::byte> lend(const ublk::request&) noexcept;

#include "disk.hpp"

struct backend : disk {
#ifdef UBLK_REJECT
    std::span<const std::byte> lend(const ublk::request&) noexcept {
        return {};
    }
#else
    std::span<std::byte> lend(const ublk::request&) noexcept {
        return {};
    }
#endif
};

template void serve<backend>();
