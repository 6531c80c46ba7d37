// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backends/file_open.hpp>
#include <ublk/backends/null.hpp>
#include <ublk/io.hpp>
#include <ublk/page_ring.hpp>
#include <ublk/task.hpp>

#include <cerrno>
#include <cstdint>
#include <optional>

namespace ublk::inline v0::backends {

/// `null` on every data path: what registering the clients' pages costs, where nothing else does.
/// Their zeroes come from /dev/zero through io_uring. Prefers the path with the fewest copies.
///
/// On the path `pages` each queue thread has a `page_ring`, made at its first read.
class null_any_path : public null {
public:
    /// Throws: `error` where /dev/zero is missing, or the address space has no room left.
    explicit null_any_path(std::uint64_t bytes)
        : null{bytes}, zero_device_{detail::open_zero_device()} {}

    [[nodiscard]] static std::optional<data_path> preferred_path() noexcept { return std::nullopt; }

    using null::read;
    using null::write;

    [[nodiscard]] task read(io& with, const request&, registered_buffer out) noexcept {
        const int n = co_await with.read(zero_device_.get(), out, 0);
        co_return n == static_cast<int>(out.size()) ? ok : result::failure(n < 0 ? n : EIO);
    }
    [[nodiscard]] static task write(io&, const request&, registered_buffer) noexcept { return ok; }

    result read(const request&, client_pages out) {
        thread_local page_ring ring;
        return ring.read(zero_device_.get(), out, 0);
    }
    result write(const request&, client_pages) noexcept { return ok; }

private:
    fd zero_device_;
};

}  // namespace ublk::inline v0::backends
