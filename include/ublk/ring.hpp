// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/config.hpp>
#include <ublk/error.hpp>
#include <ublk/token.hpp>

#include <liburing.h>
#include <poll.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace ublk::inline v0 {

/// An io_uring. The sole user of liburing (2.3 or newer).
class ring {
public:
    enum class kind {
        queue,   ///< one thread submits and reaps: the data plane
        control  ///< 128-byte SQEs, any thread (under the owner's lock)
    };

    /// Throws `error` where io_uring is missing, forbidden or out of memory. `entries` is how many
    /// operations may be in flight; the completion queue holds twice as many, so that it cannot
    /// overflow while one turn's events are still in it.
    ring(kind what, unsigned entries) {
        const unsigned submissions = std::bit_ceil(std::min(entries, submissions_max));
        const int code = what == kind::control ? open(submissions, entries, control_flags)
                                               : open_queue(submissions, entries);
        if (code < 0) {
            refuse(code, entries);
        }
        // Not needed, but each io_uring_enter is spared a look-up; where refused, nothing is lost.
        if (what == kind::queue) {
            (void)io_uring_register_ring_fd(&ring_);
        }
    }

    ring(const ring&) = delete;
    ring& operator=(const ring&) = delete;
    ~ring() { io_uring_queue_exit(&ring_); }

    /// IORING_SETUP_* as granted.
    [[nodiscard]] unsigned flags() const noexcept { return ring_.flags; }

    /// Makes `file` the ring's fixed file number 0. Returns 0 or -errno.
    [[nodiscard]] int register_file(int file) noexcept {
        return io_uring_register_files(&ring_, &file, 1);
    }

    /// Queues an IORING_OP_URING_CMD on fixed file 0. A full submission queue is handed over first.
    template <class Command>
    void fixed_command(std::uint32_t op, const Command& command, token t) noexcept {
        put(0, IOSQE_FIXED_FILE, op, command, t.raw());
    }

    /// Queues an IORING_OP_URING_CMD on any file; of a `control` ring the command may have 80
    /// bytes.
    template <class Command>
    void command(int file, std::uint32_t op, const Command& command, std::uint64_t user) noexcept {
        put(file, 0, op, command, user);
    }

    /// Completes once when `file` becomes readable.
    void poll_readable(int file, token t) noexcept {
        io_uring_sqe* const sqe = next();
        io_uring_prep_poll_add(sqe, file, POLLIN);
        sqe->user_data = t.raw();
    }

    /// Asks to give up the operation with that user_data; the answer carries `own`.
    void cancel(std::uint64_t user, std::uint64_t own) noexcept {
        io_uring_sqe* const sqe = next();
        io_uring_prep_cancel64(sqe, user, 0);
        sqe->user_data = own;
    }

    /// Hands over what is queued. Returns 0 or -errno.
    int submit() noexcept { return std::min(io_uring_submit(&ring_), 0); }

    /// The same, and runs what the kernel had deferred to this thread.
    int submit_and_run_deferred() noexcept {
        return std::min(io_uring_submit_and_get_events(&ring_), 0);
    }

    /// Hands over what is queued and waits for one completion, in one io_uring_enter.
    int submit_and_wait() noexcept { return std::min(io_uring_submit_and_wait(&ring_, 1), 0); }

    /// The same with a limit; -ETIME when it passed.
    int submit_and_wait(std::int64_t nanoseconds) noexcept {
        __kernel_timespec limit{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
        io_uring_cqe* cqe = nullptr;
        return std::min(io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &limit, nullptr), 0);
    }

    /// Passes (user_data, result) of every completion that is there to `consume`.
    template <class Consume>
    [[gnu::always_inline]] void drain(Consume&& consume) noexcept {
        unsigned head = 0;
        unsigned seen = 0;
        io_uring_cqe* cqe = nullptr;
        io_uring_for_each_cqe(&ring_, head, cqe) {
            ++seen;
            consume(std::uint64_t{cqe->user_data}, int{cqe->res});
        }
        io_uring_cq_advance(&ring_, seen);
    }

private:
    // The kernel's limits, IORING_MAX_ENTRIES and IORING_MAX_CQ_ENTRIES.
    static constexpr unsigned submissions_max = 32768;
    static constexpr unsigned completions_max = 65536;
    static constexpr unsigned control_flags = IORING_SETUP_SQE128 | IORING_SETUP_CLAMP;

    int open(unsigned submissions, unsigned entries, unsigned flags) noexcept {
        io_uring_params params{};
        params.flags = flags | IORING_SETUP_CQSIZE;
        params.cq_entries = std::min(std::bit_ceil(2 * entries), completions_max);
        return io_uring_queue_init_params(submissions, &ring_, &params);
    }

    // From the best to what every kernel with ublk has. Deferred task work runs when the thread
    // asks for events, so a request never interrupts a backend and a batch of them costs one
    // switch.
    int open_queue(unsigned submissions, unsigned entries) noexcept {
        constexpr unsigned base = IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL;
        constexpr unsigned choices[] = {
            base | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
            base | IORING_SETUP_COOP_TASKRUN,
            IORING_SETUP_CLAMP,
        };
        int code = -EINVAL;
        for (const unsigned flags : choices) {
            code = open(submissions, entries, flags);
            if (code != -EINVAL) {
                break;
            }
        }
        return code;
    }

    [[noreturn, gnu::cold]] static void refuse(int code, unsigned entries) {
        switch (-code) {
        case EPERM:
        case EACCES:
            fail(code, "io_uring_setup", std::nullopt, "io_uring is switched off for this user",
                 "check `sysctl kernel.io_uring_disabled` and the sandbox's seccomp filter");
        case ENOSYS:
            fail(code, "io_uring_setup", std::nullopt, "the kernel or its sandbox has no io_uring",
                 "use a kernel with CONFIG_IO_URING, outside of a filter that hides it");
        case ENOMEM:
            fail(code, "io_uring_setup", std::nullopt,
                 "no memory for a ring of " + std::to_string(entries) + " entries",
                 "ask for less depth or fewer queues, or raise the limit on locked memory");
        case EMFILE:
        case ENFILE:
            fail(code, "io_uring_setup", std::nullopt, "no file descriptor is left",
                 "raise `ulimit -n`");
        default:
            fail(code, "io_uring_setup", std::nullopt,
                 "a ring of " + std::to_string(entries) + " entries was refused");
        }
    }

    [[nodiscard]] io_uring_sqe* next() noexcept {
        io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
        return sqe != nullptr ? sqe : make_room();
    }

    [[nodiscard, gnu::cold, gnu::noinline]] io_uring_sqe* make_room() noexcept {
        io_uring_sqe* sqe = nullptr;
        while (sqe == nullptr) {
            const int code = submit();
            UBLK_ASSERT(code == 0 || code == -EINTR || code == -EAGAIN || code == -EBUSY,
                        "a full submission queue can be handed to the kernel");
            sqe = io_uring_get_sqe(&ring_);
        }
        return sqe;
    }

    // Every field is written: the slot still holds an older operation.
    template <class Command>
    void put(int file, std::uint8_t sqe_flags, std::uint32_t op, const Command& command,
             std::uint64_t user) noexcept {
        static_assert(std::is_trivially_copyable_v<Command>);
        io_uring_sqe* const sqe = next();
        constexpr std::size_t command_offset = 48;
        std::memset(static_cast<void*>(sqe), 0, command_offset);
        sqe->opcode = IORING_OP_URING_CMD;
        sqe->flags = sqe_flags;
        sqe->fd = file;
        sqe->off = op;  // cmd_op is its low half
        sqe->user_data = user;
        std::memcpy(reinterpret_cast<std::byte*>(sqe) + command_offset, &command, sizeof command);
    }

    io_uring ring_{};
};

}  // namespace ublk::inline v0
