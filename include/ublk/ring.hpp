// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/config.hpp>
#include <ublk/error.hpp>
#include <ublk/operation.hpp>
#include <ublk/token.hpp>

#include <liburing.h>
#include <poll.h>
#include <sys/uio.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

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
        if (const int code = open(what, submissions, entries); code < 0) {
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

    /// Makes `first` the ring's fixed file number 0, and spares operations on the others the look-
    /// up of their file. Returns 0 or -errno. May throw std::bad_alloc.
    [[nodiscard]] int register_files(int first, std::span<const int> others) {
        std::vector<int> all{first};
        for (const int each : others) {
            if (each >= 0 && static_cast<std::size_t>(each) < fixed_.size() && all.size() < 256) {
                fixed_[static_cast<std::size_t>(each)] = static_cast<std::uint8_t>(all.size());
                all.push_back(each);
            }
        }
        return io_uring_register_files(&ring_, all.data(), static_cast<unsigned>(all.size()));
    }

    /// Makes room in the table of registered buffers, for others to fill. Returns 0 or -errno.
    [[nodiscard]] int reserve_buffers(unsigned count) noexcept {
        return io_uring_register_buffers_sparse(&ring_, count);
    }

    /// Registers memory, whose pages are pinned from now on. Returns 0 or -errno.
    [[nodiscard]] int register_buffers(std::span<const iovec> memory) noexcept {
        return io_uring_register_buffers(&ring_, memory.data(),
                                         static_cast<unsigned>(memory.size()));
    }

    /// Queues an IORING_OP_URING_CMD on fixed file 0. A full submission queue is handed over first.
    /// `address` goes into the field that commands on plain files have no use for.
    template <class Command>
    void fixed_command(std::uint32_t op, const Command& command, token t,
                       std::uint64_t address = 0) noexcept {
        put(0, IOSQE_FIXED_FILE, op, command, t.raw())->addr = address;
    }

    /// The same, with an event only if it fails.
    template <class Command>
    void quiet_command(std::uint32_t op, const Command& command, token t) noexcept {
        put(0, IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS, op, command, t.raw());
    }

    /// A command on fixed file 0 that goes on telling, each time in a buffer of that group.
    template <class Command>
    void multishot_command(std::uint32_t op, const Command& command, token t,
                           std::uint16_t group) noexcept {
        constexpr std::uint32_t multishot = 1u << 1;  // IORING_URING_CMD_MULTISHOT, since 6.18
        io_uring_sqe* const sqe =
            put(0, IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT, op, command, t.raw());
        sqe->rw_flags = multishot;
        sqe->buf_group = group;
    }

    /// Provides the buffers of a group. `shared` outlives the ring. Returns 0 or -errno.
    [[nodiscard]] int register_buffer_group(io_uring_buf_ring* shared, unsigned entries,
                                            std::uint16_t group) noexcept {
        io_uring_buf_reg asked{};
        asked.ring_addr = reinterpret_cast<std::uintptr_t>(shared);
        asked.ring_entries = entries;
        asked.bgid = group;
        return io_uring_register_buf_ring(&ring_, &asked, 0);
    }

    /// Queues an operation of a backend.
    void start(const operation& asked) noexcept {
        io_uring_sqe* const sqe = next();
        std::memcpy(static_cast<void*>(sqe), &asked.what, offsetof(submission, buffer));
        const auto file = static_cast<std::uint32_t>(asked.what.file);
        if (file < fixed_.size() && fixed_[file] != 0) {
            sqe->fd = fixed_[file];
            sqe->flags |= IOSQE_FIXED_FILE;
        }
        sqe->user_data = token::of(asked).raw();
        sqe->buf_index = asked.what.buffer;
        sqe->personality = 0;
        sqe->file_index = 0;
        sqe->addr3 = 0;
        sqe->__pad2[0] = 0;
    }

    /// Asks to give up all operations of that kind; the answer carries `own`.
    void cancel(opcode which, token own) noexcept {
        constexpr unsigned all = 1u << 0;        // IORING_ASYNC_CANCEL_ALL
        constexpr unsigned by_opcode = 1u << 5;  // IORING_ASYNC_CANCEL_OP, since 6.6
        io_uring_sqe* const sqe = next();
        io_uring_prep_cancel64(sqe, 0, 0);
        sqe->len = static_cast<std::uint32_t>(which);
        sqe->cancel_flags = all | by_opcode;
        sqe->user_data = own.raw();
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

    /// The same for so many, with a limit; -ETIME when it passed.
    int submit_and_wait(std::int64_t nanoseconds, unsigned completions = 1) noexcept {
        __kernel_timespec limit{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
        io_uring_cqe* cqe = nullptr;
        return std::min(
            io_uring_submit_and_wait_timeout(&ring_, &cqe, completions, &limit, nullptr), 0);
    }

    /// Passes (user_data, result, flags) of every completion that is there to `consume`.
    template <class Consume>
    [[gnu::always_inline]] void drain(Consume&& consume) noexcept {
        unsigned head = 0;
        unsigned seen = 0;
        io_uring_cqe* cqe = nullptr;
        io_uring_for_each_cqe(&ring_, head, cqe) {
            ++seen;
            consume(std::uint64_t{cqe->user_data}, int{cqe->res}, std::uint32_t{cqe->flags});
        }
        io_uring_cq_advance(&ring_, seen);
    }

private:
    // The kernel's limits, IORING_MAX_ENTRIES and IORING_MAX_CQ_ENTRIES.
    static constexpr unsigned submissions_max = 32768;
    static constexpr unsigned completions_max = 65536;
    static constexpr std::size_t command_offset = 48;  // of what belongs to the file in an SQE

    int try_to_open(unsigned submissions, unsigned entries, unsigned flags) noexcept {
        io_uring_params params{};
        params.flags = flags | IORING_SETUP_CQSIZE;
        params.cq_entries = std::min(std::bit_ceil(2 * entries), completions_max);
        return io_uring_queue_init_params(submissions, &ring_, &params);
    }

    // From the best to what every kernel with ublk has. Deferred task work runs when the thread
    // asks for events, so a request never interrupts a backend and a batch of them costs one
    // switch.
    int open(kind what, unsigned submissions, unsigned entries) noexcept {
        constexpr unsigned base = IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL;
        constexpr unsigned best = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
        if (what == kind::control) {
            return try_to_open(submissions, entries, IORING_SETUP_SQE128 | IORING_SETUP_CLAMP);
        }
        int code = -EINVAL;
        for (const unsigned flags :
             {base | best, base | IORING_SETUP_COOP_TASKRUN, unsigned{IORING_SETUP_CLAMP}}) {
            code = code == -EINVAL ? try_to_open(submissions, entries, flags) : code;
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
            UBLK_ASSERT(enters_again(code), "a full submission queue can be handed to the kernel");
            sqe = io_uring_get_sqe(&ring_);
        }
        return sqe;
    }

    // Every field is written: the slot still holds an older operation.
    template <class Command>
    io_uring_sqe* put(int file, unsigned sqe_flags, std::uint32_t op, const Command& command,
                      std::uint64_t user) noexcept {
        static_assert(std::is_trivially_copyable_v<Command>);
        io_uring_sqe* const sqe = next();
        std::memset(static_cast<void*>(sqe), 0, command_offset);
        sqe->opcode = IORING_OP_URING_CMD;
        sqe->flags = static_cast<std::uint8_t>(sqe_flags);
        sqe->fd = file;
        sqe->off = op;  // cmd_op is its low half
        sqe->user_data = user;
        std::memcpy(reinterpret_cast<std::byte*>(sqe) + command_offset, &command, sizeof command);
        return sqe;
    }

    io_uring ring_{};
    std::array<std::uint8_t, 1024> fixed_{};  ///< number of each descriptor in the table; 0: none
};

static_assert(offsetof(submission, offset) == offsetof(io_uring_sqe, off) &&
              offsetof(submission, address) == offsetof(io_uring_sqe, addr) &&
              offsetof(submission, length) == offsetof(io_uring_sqe, len) &&
              offsetof(submission, op_flags) == offsetof(io_uring_sqe, rw_flags) &&
              offsetof(submission, buffer) == offsetof(io_uring_sqe, user_data));
static_assert(static_cast<int>(opcode::readv) == IORING_OP_READV &&
              static_cast<int>(opcode::writev) == IORING_OP_WRITEV &&
              static_cast<int>(opcode::fsync) == IORING_OP_FSYNC &&
              static_cast<int>(opcode::read_fixed) == IORING_OP_READ_FIXED &&
              static_cast<int>(opcode::write_fixed) == IORING_OP_WRITE_FIXED &&
              static_cast<int>(opcode::poll_add) == IORING_OP_POLL_ADD &&
              static_cast<int>(opcode::timeout) == IORING_OP_TIMEOUT &&
              static_cast<int>(opcode::fallocate) == IORING_OP_FALLOCATE &&
              static_cast<int>(opcode::read) == IORING_OP_READ &&
              static_cast<int>(opcode::write) == IORING_OP_WRITE &&
              static_cast<int>(opcode::send) == IORING_OP_SEND &&
              static_cast<int>(opcode::recv) == IORING_OP_RECV);

}  // namespace ublk::inline v0
