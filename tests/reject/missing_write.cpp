// SPDX-License-Identifier: MIT
// expect: ublk: a backend needs: ublk::result write(const ublk::request&, std::span<const
//         std::byte> in) noexcept; or: static constexpr bool read_only = true;

#include "disk.hpp"

struct backend {
    std::uint64_t size() const noexcept { return 1u << 20; }
    ublk::result read(const ublk::request&, std::span<std::byte>) noexcept { return ublk::ok; }
#ifndef UBLK_REJECT
    static constexpr bool read_only = true;  // then it needs no write
#endif
};

template void serve<backend>();
