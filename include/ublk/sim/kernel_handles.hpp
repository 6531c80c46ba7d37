// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/control/diagnosis.hpp>
#include <ublk/data/request_failure.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/sim/seam.hpp>
#include <ublk/sim/threads.hpp>
#include <ublk/sim/world.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace ublk::inline v0::sim {

/// A process of a simulated world, in place of `linux_kernel`.
class kernel {
public:
    class control;
    class channel;
    class port;
    class batch_wire;
    class wakeup;
    class wakeup_event;
    class disk_write_back;
    using thread = sim::thread;
    using mutex = sim::mutex;
    using condition = sim::condition;

    kernel(world& in, process& as) noexcept : in_{&in}, as_{&as} {}

    [[nodiscard]] deadline now() const noexcept { return in_->on().tasks.now(); }
    [[nodiscard]] int process_id() const noexcept { return as_->pid; }
    [[nodiscard]] std::uint64_t this_process() const noexcept {
        return static_cast<std::uint64_t>(as_->pid);
    }
    [[nodiscard]] bool process_alive(int process) const { return in_->alive(process); }
    [[nodiscard]] unsigned online_cpus() const noexcept { return in_->on().is.cpus; }
    [[nodiscard]] bool enter_queue_thread(const cpu_set&) const noexcept { return true; }
    void use_sched_batch() const noexcept {}  // fibers take turns as the test has them
    /// A backend whose coroutines cannot run is wrong; one that throws may mean to.
    void hear_of(const ublk::detail::request_failure& failure) const {
        if (failure.why != event::kind::exception) {
            in_->on().violation(ublk::detail::sentence(failure));
        }
    }
    [[nodiscard]] cpu_set neighbours(std::optional<unsigned>, ublk::cpu_domain) const { return {}; }
    [[nodiscard]] static const void*& this_thread_mark() noexcept {
        static const void* nobodys = nullptr;
        scheduler* const here = scheduler::here();
        return here != nullptr ? here->running().mark : nobodys;
    }

    [[nodiscard]] kernel_version version() const noexcept { return in_->on().is.version; }
    [[nodiscard]] std::size_t page_size() const noexcept {
        return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    }
    [[nodiscard]] control open_control() const;
    [[nodiscard]] channel open_channel(std::uint32_t id, deadline until) const;

    /// SIGKILL.
    void kill() const { in_->kill(*as_); }
    [[nodiscard]] bool dead() const noexcept { return as_->dead; }
    [[nodiscard]] world& in() const noexcept { return *in_; }

private:
    world* in_;
    process* as_;
};

class kernel::control {
public:
    control(world& in, process& as) noexcept : in_{&in}, as_{&as} {}
    control(control&&) noexcept = default;
    control& operator=(control&&) = delete;

    [[nodiscard]] control_ticket begin(const control_command& command) {
        int code = 0;
        std::shared_ptr<control_call> call;
        if (in_->call(*as_, ublk::detail::command_name(command.op), code)) {
            call = in_->ublk_drv().begin(*as_, command);
            std::erase_if(as_->calls, [](const auto& each) { return each.expired(); });
            as_->calls.push_back(call);
        } else {
            call = std::make_shared<control_call>();
            call->command = command;
            call->answer = code;
        }
        calls_.emplace(++last_, std::move(call));
        return last_;
    }

    [[nodiscard]] int finish(control_ticket ticket, control_command& command, deadline until) {
        const auto found = calls_.find(ticket);
        UBLK_ASSERT(found != calls_.end(), "a ticket is finished once");
        control_call& call = *found->second;
        scheduler& tasks = in_->on().tasks;
        int code = 0;
        (void)in_->call(*as_, "waiting for a control command", code);
        while (!call.answer && !as_->dead) {
            if (tasks.block(call.waiting, "a control command", until) == wake_up::late) {
                return control_pending;
            }
        }
        const int answer = as_->dead ? -EOWNERDEAD : *call.answer;
        command = call.command;
        calls_.erase(found);
        return answer;
    }

    void cancel(control_ticket ticket) { in_->ublk_drv().cancel(*calls_.at(ticket)); }

private:
    world* in_;
    process* as_;
    std::map<control_ticket, std::shared_ptr<control_call>> calls_;
    control_ticket last_ = 0;
};

class kernel::channel {
public:
    channel(world& in, process& as, device_ptr opened)
        : in_{&in}, as_{&as}, device_{opened}, window_{opened->window}, held_{in, as,
                                                                              std::move(opened)} {}
    channel(channel&& other) noexcept = default;
    channel& operator=(channel&&) = delete;

    [[nodiscard]] mapping map(std::uint64_t offset, std::size_t bytes) const {
        int code = 0;
        if (in_->call(*as_, "mmap", code)) {
            const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
            const driver_device& ub = *device_;
            const bool inside = offset < ub.stride * ub.queues.size();
            if (inside &&
                bytes == uapi::cmd_buf_size(ub.info.queue_depth, ub.descriptor_size(), page)) {
                mapping made{bytes,
                             PROT_READ,
                             MAP_SHARED,
                             ub.memory.get(),
                             static_cast<off_t>(offset / ub.stride * ub.stride),
                             "mapping the descriptors of a simulated /dev/ublkcN"};
                made.tell_when_unmapped(
                    [](void* held) noexcept { delete static_cast<file_reference*>(held); },
                    new file_reference{*in_, *as_, device_});
                return made;
            }
            in_->on().violation("descriptors are mapped with a wrong length or offset");
            code = -EINVAL;
        }
        fail(code, "mapping the descriptors of a simulated /dev/ublkcN", device_->info.dev_id);
    }

    /// A real file, of which pread and pwrite move the bytes of requests where the device has that.
    [[nodiscard]] int file() const noexcept {
        return window_ ? window_->file() : device_->memory.get();
    }

    /// A simulated thread that is late has no descriptor of its own to be mistaken with.
    void close_for_good() noexcept {}

    [[nodiscard]] world& in() const noexcept { return *in_; }
    [[nodiscard]] process& as() const noexcept { return *as_; }
    [[nodiscard]] const device_ptr& device() const noexcept { return device_; }

private:
    world* in_;
    process* as_;
    device_ptr device_;
    std::shared_ptr<copy_window> window_;
    file_reference held_;
};

class kernel::wakeup {
public:
    void wake() const noexcept { state_->wake(); }

private:
    friend class port;
    // An eventfd, and a poll of it that ends once it is readable.
    struct state {
        void wake() {
            readable = true;
            answer();
        }
        void poll(sim::ring& by) {
            polling = &by;
            if (readable) {
                answer();
            }
        }
        void answer() {
            if (sim::ring* const there = std::exchange(polling, nullptr)) {
                there->post(user_data::wake(), 1);
            }
        }
        bool readable = false;
        sim::ring* polling = nullptr;
    };
    std::unique_ptr<state> state_ = std::make_unique<state>();
};

class kernel::wakeup_event {
public:
    void wake() const { state_->wake(); }
    void wait() const {
        while (!state_->rung) {
            (void)scheduler::here()->block(state_->waiting, "its wakeup event");
        }
        state_->rung = false;
    }

private:
    friend class port;
    std::unique_ptr<wakeup_event_state> state_ = std::make_unique<wakeup_event_state>();
};

/// Of what clients of a simulated disk left in its page cache.
class kernel::disk_write_back {
public:
    disk_write_back(const kernel& by, std::uint32_t id) : as_{by.as_} {
        world& in = *by.in_;
        if (const device_ptr ub = in.ublk_drv().life.find(id); ub != nullptr && !as_->dead) {
            shared_->done = false;
            (void)in.on().tasks.spawn("write-back", [&in, ub, shared = shared_] {
                in.ublk_drv().life.write_back(*ub);
                shared->done = true;
                in.on().tasks.wake(shared->waiting);
            });
        }
    }

    [[nodiscard]] bool ended(deadline until) const {
        while (!shared_->done && !as_->dead) {
            const wake_up cause =
                scheduler::here()->block(shared_->waiting, "the write-back", until);
            if (cause == wake_up::late) {
                return false;
            }
        }
        return true;
    }

private:
    struct state {
        wait_list waiting{};
        bool done = true;
    };
    process* as_;
    std::shared_ptr<state> shared_ = std::make_shared<state>();
};

inline kernel::control kernel::open_control() const {
    int code = 0;
    if (!in_->call(*as_, "open /dev/ublk-control", code)) {
        fail(code, "opening /dev/ublk-control", std::nullopt);
    }
    return control{*in_, *as_};
}

inline kernel::channel kernel::open_channel(std::uint32_t id, deadline until) const {
    while (true) {
        int code = 0;
        device_ptr opened;
        if (in_->call(*as_, "open /dev/ublkcN", code)) {
            code = in_->ublk_drv().open(*as_, id, opened);
        }
        if (code == 0) {
            return channel{*in_, *as_, std::move(opened)};
        }
        const bool passing = code == -ENOENT || code == -EACCES || code == -EBUSY || code == -EINTR;
        if (!passing || now() >= until) {
            fail(code, "opening /dev/ublkc" + std::to_string(id), id);
        }
        in_->on().tasks.sleep(std::chrono::milliseconds{1});
    }
}

}  // namespace ublk::inline v0::sim
