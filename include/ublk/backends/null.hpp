// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/error.hpp>
#include <ublk/request.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace ublk::inline v0::backends {

/// Reads as zeroes and forgets what is written: what is left is the cost of everything else. Zeroes
/// are written for each read, since the buffer still holds what some client wrote through it
/// before.
class null {
public:
    explicit constexpr null(std::uint64_t bytes) noexcept : size_{bytes} {}

    [[nodiscard]] constexpr std::uint64_t size() const noexcept { return size_; }

    result read(const request&, std::span<std::byte> out) noexcept {
        std::memset(out.data(), 0, out.size());
        return ok;
    }
    result write(const request&, std::span<const std::byte>) noexcept { return ok; }
    result discard(const request&) noexcept { return ok; }
    result write_zeroes(const request&) noexcept { return ok; }

private:
    std::uint64_t size_;
};

}  // namespace ublk::inline v0::backends
