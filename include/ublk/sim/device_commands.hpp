// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/control_call.hpp>
#include <ublk/sim/device_life.hpp>
#include <ublk/sim/device_settings.hpp>
#include <ublk/sim/parameters.hpp>

#include <cerrno>
#include <cstdint>
#include <mutex>

namespace ublk::inline v0::sim {

/// The commands that change what a device is doing: start, recovery, quiesce, resize.
class device_commands {
public:
    device_commands(machine& m, device_life& life) noexcept : on_{m}, life_{life} {}

    /// False where the command was cancelled.
    [[nodiscard]] bool wait_interruptible(control_call& call, wait_list& list, const char* reason) {
        if (!call.cancelled) {
            call.interruptible = true;
            (void)on_.tasks.block(list, reason);
            call.interruptible = false;
        }
        return !call.cancelled;
    }

    [[nodiscard]] int start(control_call& call, const device_ptr& ub, int pid) {
        if (pid <= 0 || (ub->params.types & uapi::param_type::basic) == 0) {
            return -EINVAL;
        }
        if (!wait_until_ready(call, *ub)) {
            return -EINTR;
        }
        const std::lock_guard guard{ub->lock, std::adopt_lock};
        if (on_.since(6, 17) && ub->server != pid) {
            return -EINVAL;
        }
        if (ub->info.state == uapi::dev_state::live || ub->used) {
            return -EEXIST;
        }
        if (ub->stopping) {
            return -EBUSY;
        }
        // SET_PARAMS may have failed meanwhile, which leaves nothing that the block layer takes.
        if (!detail::basic_is_fine(ub->params.basic, ub->info, device_settings::page_size, on_)) {
            return -EINVAL;
        }
        life_.add_disk(ub);
        ub->info.pid = pid;
        ub->info.state = uapi::dev_state::live;
        const bool scans = on_.is.root && !ub->has(uapi::feature::no_auto_part_scan);
        if (scans && on_.since(7, 0)) {
            life_.begin_scan(ub);
        } else if (scans) {
            ub->scan_cancelled = false;
            life_.scan(*ub);
        }
        return 0;
    }

    [[nodiscard]] int start_recovery(driver_device& ub) {
        const std::lock_guard guard{ub.lock};
        if (!ub.has(uapi::feature::user_recovery) ||
            (!ub.per_io_daemon() && ub.queues_ready == 0)) {
            return -EINVAL;
        }
        if (ub.opened || !recoverable(ub)) {
            return -EBUSY;
        }
        if (!ub.per_io_daemon()) {
            ub.reset_rounds();
        }
        return 0;
    }

    [[nodiscard]] int end_recovery(control_call& call, driver_device& ub, int pid) {
        if (!wait_until_ready(call, ub)) {
            return -EINTR;
        }
        const std::lock_guard guard{ub.lock, std::adopt_lock};
        if (on_.since(6, 17) && ub.server != pid) {
            return -EINVAL;
        }
        if (!ub.has(uapi::feature::user_recovery)) {
            return -EINVAL;
        }
        if (!recoverable(ub)) {
            return -EBUSY;
        }
        ub.info.pid = pid;
        ub.info.state = uapi::dev_state::live;
        ub.live->let_go();
        return 0;
    }

    [[nodiscard]] int resize(driver_device& ub, std::uint64_t sectors) {
        const std::lock_guard guard{ub.lock};
        if (ub.live == nullptr) {
            return -ENODEV;
        }
        ub.params.basic.dev_sectors = sectors;
        ub.live->resize(sectors);
        return 0;
    }

    [[nodiscard]] int quiesce(driver_device& ub) {
        if (!ub.has(uapi::feature::quiesce)) {
            return -EOPNOTSUPP;
        }
        {
            const std::lock_guard guard{ub.lock};
            if (ub.live == nullptr) {
                return -ENODEV;
            }
            if (ub.info.state == uapi::dev_state::live) {
                ub.set_canceling();
            }
        }
        ub.cancel_all();
        return 0;
    }

    [[nodiscard]] int try_stop(const device_ptr& ub) {
        if (ub->live == nullptr) {
            return -ENODEV;
        }
        if (ub->openers != 0) {
            return -EBUSY;
        }
        ub->block_open = true;
        life_.stop(ub);
        return 0;
    }

private:
    /// Until every tag is fetched, or STOP_DEV turns the server away. Returns with the lock held,
    /// or false where the command was cancelled.
    [[nodiscard]] bool wait_until_ready(control_call& call, driver_device& ub) {
        const auto settled = [&ub] { return ub.all_ready() || ub.stopping; };
        while (true) {
            while (!settled()) {
                if (!wait_interruptible(call, ub.ready_changed, "FETCH_REQ of every tag")) {
                    return false;
                }
            }
            ub.lock.lock();
            if (settled()) {
                return true;
            }
            ub.lock.unlock();
        }
    }

    [[nodiscard]] bool recoverable(const driver_device& ub) const noexcept {
        return ub.info.state == uapi::dev_state::quiesced ||
               ub.info.state == uapi::dev_state::fail_io;
    }

    machine& on_;
    device_life& life_;
};

}  // namespace ublk::inline v0::sim
