// SPDX-License-Identifier: MIT
// expect: ublk: a backend needs: std::uint64_t size() const noexcept;

#include "disk.hpp"

struct backend {
#ifndef UBLK_REJECT
    std::uint64_t size() const noexcept {
        return 1u << 20;
    }
#endif
    ublk::result read(const ublk::request&, std::span<std::byte>) noexcept {
        return ublk::ok;
    }
    ublk::result write(const ublk::request&, std::span<const std::byte>) noexcept {
        return ublk::ok;
    }
};

template void serve<backend>();
