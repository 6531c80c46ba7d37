// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/kernel/user_data.hpp>
#include <ublk/sim/copy_window.hpp>
#include <ublk/sim/fiber.hpp>
#include <ublk/sim/ring.hpp>
#include <ublk/sim/seam.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ublk::inline v0::sim {

/// The errno that a client sees for the one that a server commits (both positive): they pass
/// through the block layer's status, which knows fewer.
[[nodiscard]] inline int as_client_sees(int code) noexcept {
    switch (code) {
    case EOPNOTSUPP:
    case ETIMEDOUT:
    case ENOSPC:
    case ENOLINK:
    case EREMOTEIO:
    case EBADE:
    case ENODATA:
    case EILSEQ:
    case ENOMEM:
    case EBUSY:
    case EAGAIN:
    case ENODEV:
    case ETOOMANYREFS:
    case EOVERFLOW:
    case ETIME:
    case EINVAL:
    case EREMCHG:
        return code;
    default:
        return EIO;
    }
}

/// A tag as the driver sees it, and the watch over its buffer while the driver has it.
struct io_slot {
    task* daemon = nullptr;  ///< who fetched it
    ring* to = nullptr;      ///< where its command waits
    user_data ud{0};
    std::byte* buffer = nullptr;
    std::size_t watched = 0;         ///< bytes at its begin that must stay as they are
    std::size_t closed = 0;          ///< bytes that AddressSanitizer reports
    std::uint64_t registration = 0;  ///< uapi::auto_buf_reg
    ring* registered_in = nullptr;   ///< where the driver put the request's pages
    unsigned pages = 0;              ///< how often the request's pages are registered
    std::uint32_t sectors_done = 0;
    int result = 0;
    bool active = false;    ///< a command waits for a request
    bool owned = false;     ///< the server has a request
    bool canceled = false;  ///< its command was given back for good
    bool aborted = false;
    bool wants_buffer = false;  ///< NEED_GET_DATA was answered
    bool answered = false;      ///< the request ends once nobody has its pages

    /// The driver has the buffer: `bytes` of it are watched from now on, `reach` is forbidden.
    void close_buffer(std::size_t bytes, std::size_t reach) noexcept {
        if (buffer == nullptr) {
            return;
        }
        watched = bytes;
        closed = reach;
        std::memset(buffer, static_cast<int>(stale), watched);
        forbid(buffer, closed);
    }

    /// The server has it, of which so many bytes belong to the request and the rest to nobody.
    void lend_buffer(std::size_t bytes, std::size_t reach) noexcept {
        if (buffer != nullptr && bytes < reach) {
            closed = reach;
            forbid(buffer + bytes, reach - bytes);
        }
    }

    /// The server gets it back. False where it was written to meanwhile.
    [[nodiscard]] bool open_buffer() noexcept {
        if (buffer == nullptr) {
            return true;
        }
        allow(buffer, closed);
        // Each byte as the one before it: memcmp is fast even where comparisons are instrumented.
        const bool untouched =
            watched == 0 || (*buffer == stale && std::memcmp(buffer, buffer + 1, watched - 1) == 0);
        watched = closed = 0;
        return untouched;
    }
};

}  // namespace ublk::inline v0::sim
