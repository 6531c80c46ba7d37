// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/process_fd.hpp>
#include <ublk/kernel/file_table.hpp>
#include <ublk/kernel/operation.hpp>
#include <ublk/kernel/ring_entries.hpp>
#include <ublk/kernel/ring_refusal.hpp>
#include <ublk/kernel/user_data.hpp>

#include <liburing.h>
#include <poll.h>
#include <sys/uio.h>

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace ublk::inline v0::detail {

/// An io_uring. With its entries the sole user of liburing (2.3 or newer).
class ring : ring_entries {
public:
    enum class kind {
        queue,         ///< one thread submits and reaps: the data plane
        queue_spun,    ///< the same, and `ready` tells without a system call
        queue_polled,  ///< the same, and a thread of the kernel's submits (SQPOLL)
        unattended,    ///< one thread, which may stay away: what the kernel defers to it interrupts
        control        ///< 128-byte SQEs, any thread (under the owner's lock)
    };

    /// `entries` is how many operations may be in flight; the completion queue holds twice as many,
    /// so that it cannot overflow while one turn's events are still in it. `idle` is for how many
    /// milliseconds the kernel's thread looks for submissions in vain before it sleeps.
    ///
    /// Throws: `error` where io_uring is missing, forbidden or out of memory.
    ring(kind purpose, unsigned entries, unsigned idle = 0) {
        const unsigned submissions = std::bit_ceil(std::min(entries, submissions_max));
        if (const int code = open(purpose, submissions, entries, idle); code < 0) {
            refuse_ring(code, entries);
        }
        keep_from_children();
        // Not needed, but each io_uring_enter is spared a look-up; where refused, nothing is lost.
        if (purpose != kind::control) {
            (void)io_uring_register_ring_fd(&ring_);
        }
    }

    ring(const ring&) = delete;
    ring& operator=(const ring&) = delete;
    ~ring() {
        if (process_ == this_process()) {
            closed_on_fork::remove(ring_.ring_fd);
            io_uring_queue_exit(&ring_);
        }
    }

    /// IORING_SETUP_* as granted.
    [[nodiscard]] unsigned flags() const noexcept { return ring_.flags; }

    /// Makes `device` the ring's fixed file number 0, and spares operations on the others the look-
    /// up of their file. Returns 0 or -errno. May throw std::bad_alloc.
    [[nodiscard]] int register_files(int device, std::span<const registered_file* const> others) {
        files_.assign(others);
        const std::vector<int> all = files_.numbers(device);
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
    void fixed_command(std::uint32_t op, const Command& command, user_data ud,
                       std::uint64_t address = 0) noexcept {
        put(0, IOSQE_FIXED_FILE, op, command, ud.raw(), address);
    }

    /// The same, with an event only if it fails.
    template <class Command>
    void quiet_command(std::uint32_t op, const Command& command, user_data ud,
                       std::uint64_t address = 0) noexcept {
        put(0, IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS, op, command, ud.raw(), address);
    }

    /// A command on fixed file 0 that goes on telling, each time in a buffer of that group.
    template <class Command>
    void multishot_command(std::uint32_t op, const Command& command, user_data ud,
                           std::uint16_t group) noexcept {
        constexpr std::uint32_t multishot = 1u << 1;  // IORING_URING_CMD_MULTISHOT, since 6.18
        io_uring_sqe* const sqe =
            put(0, IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT, op, command, ud.raw());
        sqe->rw_flags = multishot;
        sqe->buf_group = group;
    }

    /// Provides the buffers of a group. `shared` outlives the ring. Returns 0 or -errno.
    [[nodiscard]] int register_buffer_group(io_uring_buf_ring* shared, unsigned entries,
                                            std::uint16_t group) noexcept {
        io_uring_buf_reg requested{};
        requested.ring_addr = reinterpret_cast<std::uintptr_t>(shared);
        requested.ring_entries = entries;
        requested.bgid = group;
        return io_uring_register_buf_ring(&ring_, &requested, 0);
    }

    /// Queues an operation of a backend.
    void start(const operation& requested) noexcept {
        io_uring_sqe* const sqe = next_unclear();
        std::memcpy(static_cast<void*>(sqe), &requested.submitted, offsetof(submission, buffer));
        if (requested.record != nullptr) {
            const unsigned place = files_.place(*requested.record, [this](unsigned at, int file) {
                return io_uring_register_files_update(&ring_, at, &file, 1) == 1;
            });
            sqe->fd = place != 0 ? static_cast<int>(place) : sqe->fd;
            sqe->flags |= place != 0 ? IOSQE_FIXED_FILE : 0;
        }
        sqe->user_data = user_data::of(requested).raw();
        sqe->buf_index = requested.submitted.buffer;
        sqe->personality = 0;
        sqe->file_index = 0;
        sqe->addr3 = 0;
        sqe->__pad2[0] = 0;
    }

    /// Asks to give up all operations of that kind; the answer carries `own`.
    void cancel(opcode code, user_data own) noexcept {
        constexpr unsigned all = 1u << 0;        // IORING_ASYNC_CANCEL_ALL
        constexpr unsigned by_opcode = 1u << 5;  // IORING_ASYNC_CANCEL_OP, since 6.6
        io_uring_sqe* const sqe = next();
        io_uring_prep_cancel64(sqe, 0, 0);
        sqe->len = static_cast<std::uint32_t>(code);
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
    void poll_readable(int file, user_data ud) noexcept {
        io_uring_sqe* const sqe = next();
        io_uring_prep_poll_add(sqe, file, POLLIN);
        sqe->user_data = ud.raw();
    }

    /// Asks to give up the operation with that user_data; the answer carries `own`.
    void cancel(std::uint64_t user, std::uint64_t own) noexcept {
        io_uring_sqe* const sqe = next();
        io_uring_prep_cancel64(sqe, user, 0);
        sqe->user_data = own;
    }

    using ring_entries::submit;

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

    /// Whether completions are there.
    [[nodiscard]] bool has_completions() const noexcept { return io_uring_cq_ready(&ring_) != 0; }

    /// Whether there are some, or `submit_and_run_deferred` has something to do: the kernel may
    /// have taken only some of what was queued.
    [[nodiscard]] bool ready() const noexcept {
        constexpr unsigned pending = IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW;
        const bool unsent = !(flags() & IORING_SETUP_SQPOLL) && io_uring_sq_ready(&ring_) != 0;
        return has_completions() || unsent ||
               (__atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED) & pending) != 0;
    }

    /// Writes to that eventfd whenever there is something to collect. Returns 0 or -errno.
    [[nodiscard]] int announce(int eventfd) noexcept {
        return io_uring_register_eventfd(&ring_, eventfd);
    }

    /// Lets the kernel have at least so many workers for those operations of the calling thread, on
    /// all its rings, that wait for files. By default there are as many as submissions or 4 a CPU,
    /// whichever is less.
    void allow_workers(unsigned waiting) noexcept {
        unsigned most[2]{};  // for files, and for all else; 0: is told, and stays
        if (io_uring_register_iowq_max_workers(&ring_, most) == 0 && most[0] < waiting) {
            most[0] = waiting;
            most[1] = 0;
            (void)io_uring_register_iowq_max_workers(&ring_, most);
        }
    }

    using ring_entries::drain;

private:
    // The kernel's limits, IORING_MAX_ENTRIES and IORING_MAX_CQ_ENTRIES.
    static constexpr unsigned submissions_max = 32768;
    static constexpr unsigned completions_max = 65536;

    // A child's reference would keep the ring, and with it the device that it serves, when this
    // process has died.
    void keep_from_children() {
        (void)io_uring_ring_dontfork(&ring_);
        try {
            closed_on_fork::add(ring_.ring_fd);
        } catch (...) {
            io_uring_queue_exit(&ring_);
            throw;
        }
    }

    int try_to_open(unsigned submissions, unsigned entries, unsigned flags,
                    unsigned idle = 0) noexcept {
        io_uring_params params{};
        params.flags = flags | IORING_SETUP_CQSIZE;
        params.sq_thread_idle = idle;
        params.cq_entries = std::min(std::bit_ceil(2 * entries), completions_max);
        const int code = io_uring_queue_init_params(submissions, &ring_, &params);
        return code == 0 ? leave_standard_streams() : code;
    }

    int leave_standard_streams() noexcept {
        const int number = above_standard_streams(ring_.ring_fd);
        const int code = number < 0 ? -errno : 0;
        if (number != ring_.ring_fd) {
            ring_.ring_fd = ring_.enter_ring_fd = number;
            if (code < 0) {
                io_uring_queue_exit(&ring_);  // which closes nothing
            }
        }
        return code;
    }

    // From the best to what every kernel with ublk has. Deferred task work runs when the thread
    // asks for events, so a request never interrupts a backend and a batch of them costs one
    // switch.
    int open(kind purpose, unsigned submissions, unsigned entries, unsigned idle) noexcept {
        constexpr unsigned base = IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL;
        constexpr unsigned best = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
        if (purpose == kind::control) {
            return try_to_open(submissions, entries, IORING_SETUP_SQE128 | IORING_SETUP_CLAMP);
        }
        if (purpose == kind::unattended) {
            return try_to_open(submissions, entries, base);
        }
        if (purpose == kind::queue_polled) {  // excludes what follows
            return try_to_open(submissions, entries, base | IORING_SETUP_SQPOLL, idle);
        }
        const unsigned told = purpose == kind::queue_spun ? IORING_SETUP_TASKRUN_FLAG : 0;
        int code = -EINVAL;
        for (const unsigned flags : {base | best | told, base | IORING_SETUP_COOP_TASKRUN | told,
                                     unsigned{IORING_SETUP_CLAMP}}) {
            code = code == -EINVAL ? try_to_open(submissions, entries, flags) : code;
        }
        return code;
    }

    std::uint64_t process_ = this_process();
    file_table files_;
};

static_assert(offsetof(submission, offset) == offsetof(io_uring_sqe, off) &&
              offsetof(submission, address) == offsetof(io_uring_sqe, addr) &&
              offsetof(submission, length) == offsetof(io_uring_sqe, len) &&
              offsetof(submission, op_flags) == offsetof(io_uring_sqe, rw_flags) &&
              offsetof(submission, buffer) == offsetof(io_uring_sqe, user_data));

}  // namespace ublk::inline v0::detail
