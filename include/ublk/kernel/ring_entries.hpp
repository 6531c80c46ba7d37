// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/config.hpp>
#include <ublk/error.hpp>
#include <ublk/kernel/user_data.hpp>

#include <liburing.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace ublk::inline v0::detail {

/// The entries of an io_uring, as one thread writes its submissions and reads its completions. It
/// does per request what liburing would, but nothing that is the same each time.
class ring_entries {
public:
    ring_entries(const ring_entries&) = delete;
    ring_entries& operator=(const ring_entries&) = delete;

    /// Hands over what is queued. Returns 0 or -errno.
    int submit() noexcept { return std::min(io_uring_submit(&ring_), 0); }

    /// Passes (user_data, result, flags) of every completion that is there now to `consume`. They
    /// lie in one piece or two, which is why no position is computed for each.
    template <class Consume>
    [[gnu::always_inline]] void drain(Consume&& consume) noexcept {
        const unsigned tail = io_uring_smp_load_acquire(ring_.cq.ktail);
        unsigned head = *ring_.cq.khead;
        while (head != tail) {
            const unsigned first = head & ring_.cq.ring_mask;
            const unsigned count = std::min(tail - head, ring_.cq.ring_mask + 1 - first);
            const io_uring_cqe* cqe = ring_.cq.cqes + first;
            for (const io_uring_cqe* const end = cqe + count; cqe != end; ++cqe) {
                consume(std::uint64_t{cqe->user_data}, int{cqe->res}, std::uint32_t{cqe->flags});
            }
            head += count;
        }
        io_uring_smp_store_release(ring_.cq.khead, head);
    }

protected:
    ring_entries() noexcept = default;
    ~ring_entries() = default;

    // For liburing to prepare, which since 2.6 leaves alone what its own io_uring_get_sqe clears.
    [[nodiscard]] io_uring_sqe* next() noexcept {
        return static_cast<io_uring_sqe*>(std::memset(next_unclear(), 0, sizeof(io_uring_sqe)));
    }

    // io_uring_get_sqe, but for what is the same each time: all of the entry is to be written, as
    // it still holds an older operation.
    [[nodiscard]] io_uring_sqe* next_unclear() noexcept {
        const unsigned tail = ring_.sq.sqe_tail;
        if (tail == room_until_) [[unlikely]] {
            return make_room();
        }
        ring_.sq.sqe_tail = tail + 1;
        return ring_.sq.sqes + (tail & ring_.sq.ring_mask);
    }

    template <class Command>
    io_uring_sqe* put(int file, unsigned sqe_flags, std::uint32_t op, const Command& command,
                      std::uint64_t user, std::uint64_t address = 0) noexcept {
        static_assert(std::is_trivially_copyable_v<Command>);
        static_assert(command_offset + sizeof(Command) >= sizeof(io_uring_sqe));
        io_uring_sqe* const sqe = next_unclear();
        sqe->opcode = IORING_OP_URING_CMD;
        sqe->flags = static_cast<std::uint8_t>(sqe_flags);
        sqe->ioprio = 0;
        sqe->fd = file;
        sqe->off = op;  // cmd_op is its low half
        sqe->addr = address;
        sqe->len = 0;
        sqe->rw_flags = 0;
        sqe->user_data = user;
        sqe->buf_index = 0;
        sqe->personality = 0;
        sqe->file_index = 0;
        std::memcpy(reinterpret_cast<std::byte*>(sqe) + command_offset, &command, sizeof command);
        return sqe;
    }

    io_uring ring_{};

private:
    static constexpr std::size_t command_offset = 48;  // of what belongs to the file in an SQE

    // Looks how far the kernel is, and hands over where it is not far enough. The larger entries of
    // a `control` ring all come this way.
    [[nodiscard, gnu::cold, gnu::noinline]] io_uring_sqe* make_room() noexcept {
        io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
        while (sqe == nullptr) {
            const int code = submit();
            UBLK_ASSERT(enters_again(code), "a full submission queue can be handed to the kernel");
            (void)io_uring_sqring_wait(&ring_);  // for the kernel's thread, if it has one
            sqe = io_uring_get_sqe(&ring_);
        }
        room_until_ = ring_.flags & IORING_SETUP_SQE128
                          ? ring_.sq.sqe_tail
                          : io_uring_smp_load_acquire(ring_.sq.khead) + ring_.sq.ring_entries;
        return sqe;
    }

    unsigned room_until_ = 0;  ///< tail of the submissions at which to look for room
};

}  // namespace ublk::inline v0::detail
