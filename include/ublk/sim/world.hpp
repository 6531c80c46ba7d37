// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/driver.hpp>
#include <ublk/sim/operations.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ublk::inline v0::sim {

class kernel;

/// A simulated machine with the ublk driver in it, and whatever runs on it. Everything that happens
/// in it follows from `conditions::seed`; it runs on the thread that made it, which takes part as
/// one of the simulated ones.
class world {
public:
    explicit world(const conditions& given = {.seed = seed_or(1)}) : on_{given}, driver_{on_} {
        on_.device_of_file = [this](int file) { return driver_.life.find_by_file(file); };
    }

    world(const world&) = delete;
    world& operator=(const world&) = delete;
    ~world() {
        for (const auto& each : driver_.life.ids) {
            on_.violation("device " + std::to_string(each.first) + " is left behind");
        }
    }

    /// A new process that can serve devices.
    [[nodiscard]] kernel boot();

    /// SIGKILL: at once the process does nothing any more that reaches the kernel, which cleans up
    /// after it. Its code is let run to its end without effect.
    void kill(process& victim) {
        if (std::exchange(victim.dead, true)) {
            return;
        }
        on_.killed = true;
        for (const std::weak_ptr<control_call>& each : std::exchange(victim.calls, {})) {
            if (const auto call = each.lock()) {
                driver_.cancel(*call);
                on_.tasks.wake(call->waiting);
            }
        }
        for (ring* const each : std::vector{victim.rings}) {
            operations::die(*each);
            driver_.life.close_ring(*each);
            each->wake();
        }
        for (const device_ptr& each : std::exchange(victim.files, {})) {
            let_go_of(each);
        }
    }

    [[nodiscard]] bool alive(int pid) const noexcept {
        return std::any_of(processes_.begin(), processes_.end(),
                           [pid](const process& each) { return each.pid == pid && !each.dead; });
    }

    /// Takes part in a call into the kernel: true where it is to go on, else `code` says how it
    /// fails.
    [[nodiscard]] bool call(process& by, std::string_view name, int& code) {
        code = by.dead ? -EOWNERDEAD : on_.step(name);
        if (code == machine::dies_here) {
            kill(by);
            code = -EOWNERDEAD;
        } else if (by.dead) {
            code = -EOWNERDEAD;  // somebody killed it while it waited its turn
        }
        return code == 0;
    }

    /// A reference to /dev/ublkcN is given back, in the kernel's own time.
    void let_go_of(const device_ptr& ub) {
        (void)on_.tasks.spawn("file release", [this, ub] {
            on_.tasks.sleep(on_.some_time());
            driver_.life.put_file(ub);
        });
    }

    /// Lets everybody else go on until all of them wait, however long that takes.
    void settle() { on_.tasks.sleep(std::chrono::minutes{2}); }

    [[nodiscard]] machine& on() noexcept { return on_; }
    [[nodiscard]] driver& ublk_drv() noexcept { return driver_; }
    [[nodiscard]] random& dice() noexcept { return on_.dice; }
    [[nodiscard]] std::uint64_t seed() const noexcept { return on_.is.seed; }

    /// What was done that must not be. Whoever asks has seen it; a world that ends with violations
    /// unseen, or with a device left, ends the program.
    [[nodiscard]] std::vector<std::string> take_violations() { return on_.take_violations(); }

    /// Gives up on the devices that are left, and says how many there are.
    [[nodiscard]] std::size_t forget_devices() { return driver_.life.forget_all(); }

    /// Devices that exist.
    [[nodiscard]] std::size_t devices() const noexcept { return driver_.life.ids.size(); }

private:
    machine on_;
    driver driver_;
    std::deque<process> processes_;
};

/// What keeps /dev/ublkcN open: a file descriptor, a ring's fixed file, a mapping.
class file_reference {
public:
    file_reference(world& in, process& as, device_ptr opened)
        : in_{&in}, as_{&as}, device_{std::move(opened)} {
        ++device_->file_refs;
        as_->files.push_back(device_);
    }
    file_reference(file_reference&&) noexcept = default;
    file_reference& operator=(file_reference&&) = delete;
    ~file_reference() {
        if (device_ != nullptr && !as_->dead) {  // a dead process holds nothing any more
            as_->files.erase(std::find(as_->files.begin(), as_->files.end(), device_));
            in_->let_go_of(device_);
        }
    }

private:
    world* in_;
    process* as_;
    device_ptr device_;
};

}  // namespace ublk::inline v0::sim
