// SPDX-License-Identifier: MIT
// expect: ublk: a backend needs: ublk::result read(const ublk::request&, std::span<std::byte> out)
//         noexcept;

#include "disk.hpp"

struct backend {
    std::uint64_t size() const noexcept { return 1u << 20; }
#ifndef UBLK_REJECT
    ublk::result read(const ublk::request&, std::span<std::byte>) noexcept {
        return ublk::ok;
    }
#endif
    ublk::result write(const ublk::request&, std::span<const std::byte>) noexcept {
        return ublk::ok;
    }
};

template void serve<backend>();
