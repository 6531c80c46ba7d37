// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data_path.hpp>
#include <ublk/detail/mapping.hpp>
#include <ublk/error.hpp>
#include <ublk/payload.hpp>
#include <ublk/request.hpp>
#include <ublk/result.hpp>
#include <ublk/uapi.hpp>

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

namespace ublk::inline v0::backends {

/// Reads as zeroes and forgets what is written: what is left is the cost of everything else. Zeroes
/// are written for each read, since the buffer still holds what some client wrote through it
/// before.
///
/// With the data paths `user_copy` and `get_data`, which have to be asked for, reads come from
/// pages of zeroes that nobody can write to, and there are no tag buffers. `null_any_path` has the
/// other paths.
class null {
public:
    /// Throws: `error` where the address space has no room left.
    explicit null(std::uint64_t bytes)
        : size_{bytes}, zeroes_{shared().zeroes.data()}, nowhere_{shared().nowhere.data()} {}

    static constexpr bool idempotent = true;

    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

    /// What other backends are served by, so that the figures say something of those.
    [[nodiscard]] static std::optional<data_path> preferred_path() noexcept {
        return data_path::copy;
    }

    result read(const request&, std::span<std::byte> out) noexcept {
        std::memset(out.data(), 0, out.size());
        return ok;
    }
    result read(const request&, user_copy out) noexcept {
        return out.put(0, {zeroes_, out.size()});
    }
    result write(const request&, std::span<const std::byte>) noexcept { return ok; }
    result write(const request&, user_copy) noexcept { return ok; }
    result discard(const request&) noexcept { return ok; }
    result write_zeroes(const request&) noexcept { return ok; }

    [[nodiscard]] std::span<std::byte> memory_for(const request& r) const noexcept {
        return {r.op() == uapi::op::read ? zeroes_ : nowhere_,
                static_cast<std::size_t>(r.length())};
    }

private:
    /// As long as the longest request; of all null disks, since they hold nothing. What is only
    /// read takes no memory, and nobody reads what is written.
    struct memory {
        detail::mapping zeroes{
            uapi::max_io_buf_bytes,   PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0,
            "mapping pages of zeroes"};
        detail::mapping nowhere{uapi::max_io_buf_bytes,
                                PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                                -1,
                                0,
                                "mapping memory for what is forgotten"};
    };
    [[nodiscard]] static const memory& shared() {
        static const memory all;
        return all;
    }

    std::uint64_t size_;
    std::byte* zeroes_;
    std::byte* nowhere_;
};

}  // namespace ublk::inline v0::backends
