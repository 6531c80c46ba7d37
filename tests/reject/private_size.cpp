// SPDX-License-Identifier: MIT
// expect: ublk: a backend's size must be public, and: std::uint64_t size() const noexcept;  //
//         bytes

#include "disk.hpp"

class backend {
#ifndef UBLK_REJECT
public:
#endif
    std::uint64_t size() const noexcept {
        return 1u << 20;
    }

public:
    ublk::result read(const ublk::request&, std::span<std::byte>) noexcept {
        return ublk::ok;
    }
    ublk::result write(const ublk::request&, std::span<const std::byte>) noexcept {
        return ublk::ok;
    }
};

template void serve<backend>();
