// SPDX-License-Identifier: MIT
#pragma once

#include <sys/uio.h>

#include <cerrno>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <span>

namespace ublk::inline v0 {
class registered_file;
}  // namespace ublk::inline v0

namespace ublk::inline v0::detail {

/// io_uring's operations that backends use (linux/io_uring.h, enum io_uring_op); ring.hpp compares
/// them with liburing's.
enum class opcode : std::uint8_t {
    nop = 0,
    readv = 1,
    writev = 2,
    fsync = 3,
    read_fixed = 4,
    write_fixed = 5,
    poll_add = 6,
    timeout = 11,
    fallocate = 17,
    read = 22,
    write = 23,
    send = 26,
    recv = 27,
};

/// One io_uring operation, in the order of struct io_uring_sqe (linux/io_uring.h): its first 32
/// bytes, and the index of its buffer.
struct submission {
    opcode code = opcode::nop;
    std::uint8_t flags = 0;
    std::uint16_t priority = 0;
    std::int32_t file = -1;
    std::uint64_t offset = 0;
    std::uint64_t address = 0;
    std::uint32_t length = 0;
    std::uint32_t op_flags = 0;  ///< rw_flags, fsync_flags, poll_events, msg_flags: one word
    std::uint16_t buffer = 0;
};

/// The kernel moves no more bytes at once (MAX_RW_COUNT in fs.h, where pages have 4 KiB).
inline constexpr std::size_t transfer_bytes_max = 0x7fff'f000;

[[nodiscard]] constexpr std::uint32_t clamp_transfer(std::size_t bytes) noexcept {
    return static_cast<std::uint32_t>(bytes < transfer_bytes_max ? bytes : transfer_bytes_max);
}

/// Cuts off what is more than the kernel moves at once.
[[nodiscard]] inline std::span<iovec> clamp_transfer(std::span<iovec> vector) noexcept {
    std::size_t left = transfer_bytes_max;
    for (std::size_t i = 0; i < vector.size(); ++i) {
        if (vector[i].iov_len >= left) {
            vector[i].iov_len = left;
            return vector.first(i + 1);
        }
        left -= vector[i].iov_len;
    }
    return vector;
}

[[nodiscard]] inline std::size_t bytes_of(std::span<const iovec> vector) noexcept {
    std::size_t bytes = 0;
    for (const iovec& each : vector) {
        bytes += each.iov_len;
    }
    return bytes;
}

/// An operation that a task waits for. It lives in the task's frame, and stays there until the
/// kernel has answered: a task is never destroyed before.
class operation {
public:
    constexpr operation() noexcept = default;
    operation(const operation&) = delete;
    operation& operator=(const operation&) = delete;

    /// What goes to the kernel next.
    submission submitted;

    /// The registered file that `submitted.file` is the descriptor of, or null.
    const registered_file* record = nullptr;

    /// The coroutine that waits.
    std::coroutine_handle<> waiting;

    /// The next one that is to be submitted.
    operation* next = nullptr;

    /// After the end: bytes, or what else the kernel says (>= 0), or -errno.
    int answer = 0;

    /// The kernel has answered. False where the rest is to be submitted: `what` is then changed
    /// to ask for it.
    [[nodiscard]] bool ends_with(int outcome) noexcept {
        if (unit_ == 0) {
            answer = outcome;
            return true;
        }
        if (outcome <= 0) {
            if ((outcome == -EINTR || outcome == -EAGAIN) && ++refusals_ < refusals_max) {
                return false;
            }
            // What was moved before an error counts for nothing: a disk knows no half of a request.
            answer = outcome < 0 ? outcome : moved_;
            return true;
        }
        refusals_ = 0;
        moved_ += outcome;
        // O_DIRECT stops off a block at the end of a file only, and cannot go on from there.
        if (static_cast<std::uint32_t>(outcome) >= left_ || outcome % unit_ != 0) {
            answer = moved_;
            return true;
        }
        left_ -= static_cast<std::uint32_t>(outcome);
        skip(static_cast<std::uint32_t>(outcome));
        return false;
    }

    /// Goes on after a short transfer until `bytes` are moved or there is no more; `granularity` is
    /// in what units that is possible.
    void transfer_whole(std::uint32_t bytes, std::uint16_t granularity) noexcept {
        left_ = bytes;
        unit_ = granularity;
    }

private:
    static constexpr std::uint16_t refusals_max = 1000;

    void skip(std::uint32_t bytes) noexcept {
        submitted.offset += bytes;
        if (submitted.code != opcode::readv && submitted.code != opcode::writev) {
            submitted.address += bytes;
            submitted.length -= bytes;
            return;
        }
        auto* vector = reinterpret_cast<iovec*>(submitted.address);
        while (bytes >= vector->iov_len) {
            bytes -= static_cast<std::uint32_t>(vector->iov_len);
            ++vector;
            --submitted.length;
        }
        vector->iov_base = static_cast<std::byte*>(vector->iov_base) + bytes;
        vector->iov_len -= bytes;
        submitted.address = reinterpret_cast<std::uintptr_t>(vector);
    }

    std::uint32_t left_ = 0;
    int moved_ = 0;
    std::uint16_t unit_ = 0;  ///< 0: whatever the kernel says is the end
    std::uint16_t refusals_ = 0;
};

}  // namespace ublk::inline v0::detail
