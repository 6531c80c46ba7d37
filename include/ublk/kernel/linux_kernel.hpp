// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/abandoned.hpp>
#include <ublk/detail/fd.hpp>
#include <ublk/kernel/disk_write_back.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/kernel/linux_batch_wire.hpp>
#include <ublk/kernel/linux_port.hpp>
#include <ublk/kernel/node_cache.hpp>
#include <ublk/kernel/ring.hpp>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include <cstdio>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

namespace ublk::inline v0::detail {

/// The real kernel: /dev/ublk-control, /dev/ublkcN and io_uring.
class linux_kernel : public native_host {
public:
    class control;
    using channel = linux_channel;
    using port = linux_port;
    using batch_wire = linux_batch_wire;
    using wakeup = linux_wakeup;
    using wakeup_event = linux_wakeup_event;
    using node_cache = ublk::detail::node_cache;
    using disk_write_back = ublk::detail::disk_write_back;

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

    [[nodiscard]] control open_control() const;
    [[nodiscard]] channel open_channel(std::uint32_t id, deadline until) const;
};

/// Control commands on a ring of their own, several at once, from any thread.
class linux_kernel::control {
public:
    explicit control(fd file) : file_{std::move(file)}, io_{ring::kind::control, entries} {}
    control(const control&) = delete;
    control& operator=(const control&) = delete;

    // A command that never came back may still write into its memory, so that memory is given up on
    // rather than given back.
    ~control() {
        while (first_ != nullptr) {
            detail::abandon(std::exchange(first_, first_->next));
        }
    }

    [[nodiscard]] control_ticket begin(const control_command& command) {
        const std::lock_guard lock{mutex_};
        const control_ticket ticket = ++last_;
        first_ = new in_flight{command, ticket, first_};
        if (first_->command.header.len != 0) {
            first_->command.header.addr = reinterpret_cast<std::uintptr_t>(first_->command.payload);
        }
        io_.command(file_.get(), command.op, first_->command.header, ticket);
        (void)io_.submit();  // what a passing shortage leaves behind, `finish` submits
        return ticket;
    }

    [[nodiscard]] int finish(control_ticket ticket, control_command& command, deadline until) {
        const std::lock_guard lock{mutex_};
        while (true) {
            reap();
            in_flight** const found = find(ticket);
            UBLK_ASSERT(*found != nullptr, "a ticket is finished once");
            if ((*found)->done) {
                in_flight* const ended = std::exchange(*found, (*found)->next);
                const int answer = ended->answer;
                command = ended->command;
                delete ended;
                return answer;
            }
            const auto left = until - std::chrono::steady_clock::now();
            if (left.count() <= 0) {
                return control_pending;
            }
            const int code = io_.submit_and_wait(
                std::chrono::duration_cast<std::chrono::nanoseconds>(left).count());
            if (!enters_again(code) && code != -ETIME) {
                return code;  // no answer can come any more
            }
        }
    }

    void cancel(control_ticket ticket) {
        const std::lock_guard lock{mutex_};
        io_.cancel(ticket, 0);
        (void)io_.submit();
    }

private:
    struct in_flight : abandoned {
        in_flight(const control_command& given, control_ticket number, in_flight* rest)
            : command{given}, ticket{number}, next{rest} {}
        control_command command;
        control_ticket ticket;
        in_flight* next;
        int answer = 0;
        bool done = false;
    };

    /// Where the list has it; else where the list ends.
    [[nodiscard]] in_flight** find(control_ticket ticket) noexcept {
        in_flight** at = &first_;
        while (*at != nullptr && (*at)->ticket != ticket) {
            at = &(*at)->next;
        }
        return at;
    }

    void reap() {
        io_.drain([this](std::uint64_t user, int answer, std::uint32_t) {
            in_flight* const flight = *find(static_cast<control_ticket>(user));
            if (flight != nullptr) {
                flight->answer = answer;
                flight->done = true;
            }
        });
    }

    static constexpr unsigned entries = 16;
    std::mutex mutex_;
    in_flight* first_ = nullptr;
    control_ticket last_ = 0;
    fd file_;
    ring io_;
};

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
             "run as root; a udev rule that opens it is not enough, since adding, starting and "
             "deleting devices take CAP_SYS_ADMIN");
    case EMFILE:
    case ENFILE:
        fail(code, step, std::nullopt, "no file descriptor is left", "raise `ulimit -n`");
    default:
        fail(code, step, std::nullopt);
    }
}

inline linux_kernel::control linux_kernel::open_control() const {
    fd file{::open("/dev/ublk-control", O_RDWR | O_CLOEXEC)};
    if (!file) {
        control_missing(errno);
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

}  // namespace ublk::inline v0::detail
