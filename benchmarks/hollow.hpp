// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/error.hpp>
#include <ublk/io.hpp>
#include <ublk/payload.hpp>
#include <ublk/request.hpp>
#include <ublk/task.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace benchmark {

/// A disk that answers at once on every data path and moves no byte by itself: what the null target
/// of the kernel's own server is. A read shows whatever its memory held before, so it is no disk
/// for anybody but a benchmark.
class hollow {
public:
    explicit constexpr hollow(std::uint64_t bytes) noexcept : size_{bytes} {}

    [[nodiscard]] constexpr std::uint64_t size() const noexcept { return size_; }

    ublk::result read(const ublk::request&, std::span<std::byte>) noexcept { return ublk::ok; }
    ublk::result write(const ublk::request&, std::span<const std::byte>) noexcept {
        return ublk::ok;
    }
    ublk::result read(const ublk::request&, ublk::user_copy) noexcept { return ublk::ok; }
    ublk::result write(const ublk::request&, ublk::user_copy) noexcept { return ublk::ok; }
    ublk::task read(ublk::io&, const ublk::request&, ublk::registered_buffer) noexcept {
        return ublk::task{ublk::ok};
    }
    ublk::task write(ublk::io&, const ublk::request&, ublk::registered_buffer) noexcept {
        return ublk::task{ublk::ok};
    }

private:
    std::uint64_t size_;
};

}  // namespace benchmark
