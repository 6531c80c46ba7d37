// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/ublk.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

// What the cases start from: each adds, hides or spoils one member of it.
struct disk {
    std::uint64_t size() const noexcept { return 1u << 20; }
    ublk::result read(const ublk::request&, std::span<std::byte>) noexcept { return ublk::ok; }
    ublk::result write(const ublk::request&, std::span<const std::byte>) noexcept {
        return ublk::ok;
    }
};

template <class Backend, class... Policies>
void serve() {
    ublk::device<Backend, Policies...> device{Backend{}};
    device.start();
}
