// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/fd.hpp>
#include <ublk/kernel.hpp>
#include <ublk/linux_batch_wire.hpp>
#include <ublk/linux_port.hpp>
#include <ublk/ring.hpp>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace ublk::inline v0 {

/// The real kernel: /dev/ublk-control, /dev/ublkcN and io_uring.
class linux_kernel : public native_host {
public:
    class control;
    using channel = linux_channel;
    using port = linux_port;
    using batch_wire = linux_batch_wire;
    using waker = linux_waker;

    [[nodiscard]] kernel_version version() const noexcept {
        utsname name{};
        kernel_version found;
        if (::uname(&name) == 0) {
            (void)std::sscanf(name.release, "%u.%u.%u", &found.major, &found.minor, &found.patch);
        }
        return found;
    }

    [[nodiscard]] std::size_t page_size() const noexcept {
        return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    }

    /// Bytes that this process may pin for io_uring.
    [[nodiscard]] std::uint64_t lockable_bytes() const noexcept {
        rlimit limit{};
        const bool unlimited = ::geteuid() == 0 || ::getrlimit(RLIMIT_MEMLOCK, &limit) != 0;
        return unlimited ? ~std::uint64_t{0} : limit.rlim_cur;
    }

    [[nodiscard]] control open_control() const;
    [[nodiscard]] channel open_channel(std::uint32_t id, deadline until) const;
};

/// Control commands on a ring of their own, several at once, from any thread.
class linux_kernel::control {
public:
    explicit control(fd file) : state_{std::make_unique<state>(std::move(file))} {}

    [[nodiscard]] control_ticket begin(const control_command& command) {
        const std::lock_guard lock{state_->mutex};
        const control_ticket ticket = ++state_->last;
        auto flight = std::make_unique<in_flight>(in_flight{command, {}, false});
        if (flight->command.header.len != 0) {
            flight->command.header.addr = reinterpret_cast<std::uintptr_t>(flight->command.payload);
        }
        state_->io.command(state_->file.get(), command.op, flight->command.header, ticket);
        state_->flights.emplace(ticket, std::move(flight));
        (void)state_->io.submit();  // what a passing shortage leaves behind, `finish` submits
        return ticket;
    }

    [[nodiscard]] int finish(control_ticket ticket, control_command& command, deadline until) {
        const std::lock_guard lock{state_->mutex};
        const auto found = state_->flights.find(ticket);
        UBLK_ASSERT(found != state_->flights.end(), "a ticket is finished once");
        in_flight& flight = *found->second;
        while (true) {
            reap();
            if (flight.done) {
                const int answer = flight.answer;
                command = flight.command;
                state_->flights.erase(found);
                return answer;
            }
            const auto left = until - std::chrono::steady_clock::now();
            if (left.count() <= 0) {
                return control_pending;
            }
            (void)state_->io.submit_and_wait(
                std::chrono::duration_cast<std::chrono::nanoseconds>(left).count());
        }
    }

    void cancel(control_ticket ticket) {
        const std::lock_guard lock{state_->mutex};
        state_->io.cancel(ticket, 0);
        (void)state_->io.submit();
    }

private:
    struct in_flight {
        control_command command;
        int answer;
        bool done;
    };

    struct state {
        explicit state(fd opened) : file{std::move(opened)}, io{ring::kind::control, entries} {}

        // A command that never came back may still write into its memory, so that memory is given
        // up on rather than given back.
        ~state() {
            for (auto& [ticket, flight] : flights) {
                (void)ticket;
                (void)flight.release();
            }
        }

        static constexpr unsigned entries = 16;
        std::mutex mutex;
        std::map<control_ticket, std::unique_ptr<in_flight>> flights;
        control_ticket last = 0;
        fd file;
        ring io;
    };

    void reap() {
        state_->io.drain([this](std::uint64_t user, int answer, std::uint32_t) {
            const auto found = state_->flights.find(static_cast<control_ticket>(user));
            if (found != state_->flights.end()) {
                found->second->answer = answer;
                found->second->done = true;
            }
        });
    }

    std::unique_ptr<state> state_;
};

namespace detail {

[[noreturn, gnu::cold]] inline void control_missing(int code) {
    constexpr const char* step = "opening /dev/ublk-control";
    switch (code) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
        fail(code, step, std::nullopt, "the driver ublk_drv is not loaded",
             "run `modprobe ublk_drv` (CONFIG_BLK_DEV_UBLK; on Ubuntu it is in the package "
             "linux-modules-extra-$(uname -r))");
    case EACCES:
    case EPERM:
        fail(code, step, std::nullopt, "this user may not open it",
             "run as root, or give the user access by a udev rule");
    case EMFILE:
    case ENFILE:
        fail(code, step, std::nullopt, "no file descriptor is left", "raise `ulimit -n`");
    default:
        fail(code, step, std::nullopt);
    }
}

}  // namespace detail

inline linux_kernel::control linux_kernel::open_control() const {
    fd file{::open("/dev/ublk-control", O_RDWR | O_CLOEXEC)};
    if (!file) {
        detail::control_missing(errno);
    }
    return control{std::move(file)};
}

// udev creates the node, and its rules open it for a moment: ENOENT, EACCES and EBUSY pass.
inline linux_channel linux_kernel::open_channel(std::uint32_t id, deadline until) const {
    const std::string path = "/dev/ublkc" + std::to_string(id);
    while (true) {
        fd file{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
        if (file) {
            return channel{std::move(file)};
        }
        const int code = errno;
        const bool passing = code == ENOENT || code == EACCES || code == EBUSY || code == EINTR;
        if (!passing || std::chrono::steady_clock::now() >= until) {
            if (code == EMFILE || code == ENFILE) {
                fail(code, "opening " + path, id, "no file descriptor is left",
                     "raise `ulimit -n`");
            }
            fail(code, "opening " + path, id,
                 code == EBUSY ? "another process has it open" : "the device node did not appear",
                 code == EBUSY ? "stop the other server of this device"
                               : "see that devtmpfs or udev serves /dev");
        }
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
}

static_assert(kernel<linux_kernel>);

}  // namespace ublk::inline v0
