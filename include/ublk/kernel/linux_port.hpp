// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/fd.hpp>
#include <ublk/detail/mapping.hpp>
#include <ublk/detail/process_fd.hpp>
#include <ublk/kernel/host.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/kernel/ring.hpp>
#include <ublk/kernel/setup_refused.hpp>
#include <ublk/kernel/thread_affinity.hpp>

#include <sys/eventfd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <utility>

namespace ublk::inline v0::detail {

/// An open /dev/ublkcN. The driver lets nobody else open it meanwhile, and treats its closing as
/// the end of the server.
class linux_channel {
public:
    explicit linux_channel(fd file) : file_{std::move(file)} {}

    /// Maps descriptors: read-only, since the driver refuses anything else.
    [[nodiscard]] mapping map(std::uint64_t offset, std::size_t bytes) const {
        mapping made{bytes,
                     PROT_READ,
                     MAP_SHARED | MAP_POPULATE,
                     file_.get(),
                     static_cast<off_t>(offset),
                     "mapping the descriptors of /dev/ublkcN"};
        made.keep_from_children();
        return made;
    }

    [[nodiscard]] int file() const noexcept { return file_.get(); }

    /// Closes it, but lets no other file have its number: threads of the user's may still come with
    /// that, who then get EBADF.
    void close_for_good() noexcept { file_.close_for_good(); }

private:
    process_fd file_;
};

/// Wakes a port from its wait, from any thread and as often as one likes.
class linux_wakeup {
public:
    linux_wakeup() : file_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)} {
        if (!file_) {
            fail(errno, "eventfd", std::nullopt, "no file descriptor is left", "raise `ulimit -n`");
        }
    }

    void wake() const noexcept { (void)::eventfd_write(file_.get(), 1); }
    [[nodiscard]] int file() const noexcept { return file_.get(); }

private:
    fd file_;
};

/// Wakes a thread that has several rings.
class linux_wakeup_event {
public:
    linux_wakeup_event() : file_{::eventfd(0, EFD_CLOEXEC)} {
        if (!file_) {
            fail(errno, "eventfd", std::nullopt, "no file descriptor is left", "raise `ulimit -n`");
        }
    }

    void wake() const noexcept { (void)::eventfd_write(file_.get(), 1); }

    /// Until somebody rings; at once where somebody has since the last time. Where the eventfd is
    /// gone, which the program closed by mistake, returns after a moment.
    void wait() const noexcept {
        eventfd_t times = 0;
        if (::eventfd_read(file_.get(), &times) != 0 && errno != EINTR) {
            std::this_thread::sleep_for(std::chrono::milliseconds{1});
        }
    }

    [[nodiscard]] int file() const noexcept { return file_.get(); }

private:
    fd file_;
};

/// The I/O commands of one thread. Its ring is created in the thread that uses it, since only the
/// creator of a SINGLE_ISSUER ring may submit.
class linux_port {
public:
    /// The channel and the wakeup outlive the port.
    linux_port(const linux_channel& device, const linux_wakeup& wakeup, const port_needs& needs)
        // A request with a registered buffer takes two commands more.
        : io_{needs.kernel_submits ? ring::kind::queue_polled
              : needs.spins        ? ring::kind::queue_spun
                                   : ring::kind::queue,
              needs.tags * (needs.reserved_buffers != 0 ? 3 : 1) + needs.operations + 1,
              needs.kernel_idle_ms},
          wakeup_file_{wakeup.file()}, operations_{needs.operations} {
        demand(io_.register_files(device.file(), needs.files),
               "registering /dev/ublkcN and the backend's files with io_uring");
        if (needs.reserved_buffers != 0) {
            demand_buffers(io_.reserve_buffers(needs.reserved_buffers),
                           "making room for clients' pages in io_uring");
        }
        if (!needs.tag_buffers.empty()) {
            demand_buffers(io_.register_buffers(needs.tag_buffers),
                           "registering the tag buffers with io_uring");
        }
        if (needs.wakeup_event != nullptr) {
            demand(io_.announce(static_cast<const linux_wakeup_event*>(needs.wakeup_event)->file()),
                   "registering an eventfd with io_uring");
        }
        io_.poll_readable(wakeup_file_, user_data::wake());
        waiting_operations() += operations_;
        io_.allow_workers(waiting_operations());
    }
    linux_port(const linux_port&) = delete;
    linux_port& operator=(const linux_port&) = delete;
    ~linux_port() { waiting_operations() -= operations_; }

    /// Offers a tag and its buffer to the driver; the event is the first request.
    void fetch(queue_id queue, tag t, buffer_address buffer, user_data ud) noexcept {
        io_.fixed_command(uapi::io::fetch_req, io_command(queue, t, 0, buffer.memory), ud,
                          buffer.registration);
    }

    /// Hands a result back and the tag with it; the event is the next request.
    void commit(queue_id queue, tag t, int result, buffer_address buffer, user_data ud) noexcept {
        io_.fixed_command(uapi::io::commit_and_fetch_req,
                          io_command(queue, t, result, buffer.memory), ud, buffer.registration);
    }

    /// Says where a write's bytes are to go; the event is the same request again, with its bytes.
    void get_data(queue_id queue, tag t, std::uint64_t memory, user_data ud) noexcept {
        io_.fixed_command(uapi::io::need_get_data, io_command(queue, t, 0, memory), ud);
    }

    /// Registers the pages of a request that the server owns in the place `index`.
    void register_buffer(queue_id queue, tag t, std::uint16_t index) noexcept {
        io_.quiet_command(uapi::io::register_io_buf, io_command(queue, t, 0, index),
                          user_data::nobody());
    }

    void unregister_buffer(queue_id queue, tag t, std::uint16_t index) noexcept {
        io_.quiet_command(uapi::io::unregister_io_buf, io_command(queue, t, 0, index),
                          user_data::nobody());
    }

    void start(const operation& requested) noexcept { io_.start(requested); }

    void cancel_operations() noexcept {
        using enum opcode;
        for (const opcode each : {readv, writev, fsync, read_fixed, write_fixed, poll_add, timeout,
                                  fallocate, read, write, send, recv}) {
            io_.cancel(each, user_data::nobody());
        }
    }

    /// Whoever calls `wake` from now on makes another event.
    void listen() noexcept {
        eventfd_t times = 0;
        (void)::eventfd_read(wakeup_file_, &times);
        io_.poll_readable(wakeup_file_, user_data::wake());
    }

    int flush() noexcept { return io_.submit(); }
    int wait() noexcept {
        const int code = io_.submit_and_wait();
        check_affinity();
        return code;
    }

    /// Hands over and collects what the kernel says at once, without waiting.
    int flush_and_collect() noexcept {
        check_affinity();
        return io_.submit_and_run_deferred();
    }
    int poll() noexcept { return flush_and_collect(); }

    [[nodiscard]] bool has_events() const noexcept { return io_.has_completions(); }
    [[nodiscard]] bool ready() const noexcept { return io_.ready(); }
    [[nodiscard]] static deadline now() noexcept { return std::chrono::steady_clock::now(); }

    template <class Consume>
    [[gnu::always_inline]] void drain(Consume&& consume) noexcept {
        io_.drain([&consume](std::uint64_t user, int answer, std::uint32_t)
                      __attribute__((always_inline)) { consume(user_data{user}, answer); });
    }

    /// IORING_SETUP_* as granted.
    [[nodiscard]] unsigned ring_flags() const noexcept { return io_.flags(); }

protected:
    /// Now and then: CPUs come and go, but not often.
    [[gnu::always_inline]] void check_affinity() noexcept {
        if (--turns_to_check_ == 0) [[unlikely]] {
            turns_to_check_ = 32;
            affinity_.check();
        }
    }

    static void demand(int code, const char* step) {
        if (code < 0) {
            fail(code, step, std::nullopt,
                 code == -ENOMEM ? "the limit on locked memory is reached" : "",
                 code == -ENOMEM ? "raise `ulimit -l`" : "");
        }
    }

private:
    // Which another data path does without.
    static void demand_buffers(int code, const char* step) {
        if (code < 0) {
            const bool limit = code == -ENOMEM;
            throw setup_refused{setup_refused::kind::path,
                                code,
                                step,
                                std::nullopt,
                                limit ? "the limit on locked memory is reached" : "",
                                limit ? "raise `ulimit -l`, or leave options::path empty" : ""};
        }
    }

    // Of all ports of the calling thread, each of which may wait for a file. What another disk of
    // the thread waits for may be this one's: had it to wait for a worker, both would for ever.
    static unsigned& waiting_operations() noexcept {
        static thread_local unsigned all = 0;
        return all;
    }

protected:
    ring io_;

private:
    thread_affinity& affinity_ = this_thread_affinity();
    unsigned turns_to_check_ = 1;
    int wakeup_file_;
    unsigned operations_;
};

}  // namespace ublk::inline v0::detail
