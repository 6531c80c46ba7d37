// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/control_call.hpp>
#include <ublk/sim/device_commands.hpp>
#include <ublk/sim/device_life.hpp>
#include <ublk/sim/device_settings.hpp>
#include <ublk/sim/negotiation.hpp>
#include <ublk/sim/seam.hpp>

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

namespace ublk::inline v0::sim {

/// The control commands of the driver, each as it stands in ublk_drv.c of Linux 7.3, and of 6.12
/// where that one differs.
class driver {
public:
    explicit driver(machine& m) : life{m}, on_{m}, settings_{m}, commands_{m, life} {}

    /// Begins a command; commands that may sleep go on in a worker of their own.
    [[nodiscard]] std::shared_ptr<control_call> begin(process& from,
                                                      const control_command& command) {
        auto call = std::make_shared<control_call>();
        call->command = command;
        call->from = &from;
        if (!may_sleep(command.op, on_)) {
            call->running = true;
            answer(*call, run(*call));
            return call;
        }
        call->worker = on_.tasks.spawn("io-wq worker", [this, call] {
            on_.tasks.sleep(on_.some_time());
            if (!call->answer) {
                call->running = true;
                answer(*call, run(*call));
            }
        });
        return call;
    }

    /// IORING_OP_ASYNC_CANCEL: a command that has not begun does not; one that waits where it can
    /// be interrupted is.
    void cancel(control_call& call) {
        call.cancelled = true;
        if (call.answer) {
            return;
        }
        if (!call.running) {
            answer(call, -ECANCELED);
        } else if (call.interruptible) {
            on_.tasks.interrupt(*call.worker);
        }
    }

    /// Opens /dev/ublkcN. 0 or -errno.
    [[nodiscard]] int open(process& by, std::uint32_t id, device_ptr& opened) {
        const device_ptr ub = life.find(id);
        if (ub == nullptr || ub->deleted) {
            return -ENOENT;
        }
        if (ub->opened) {
            return -EBUSY;
        }
        ub->opened = true;
        ub->window = ub->has(uapi::feature::user_copy) ? std::make_shared<copy_window>() : nullptr;
        ub->opener = &by;
        ub->server = by.pid;
        ++ub->refs;
        opened = ub;
        return 0;
    }

    device_life life;

private:
    void answer(control_call& call, int code) {
        call.answer = code;
        on_.tasks.wake(call.waiting);
    }

    [[nodiscard]] int run(control_call& call) {
        const control_command& c = call.command;
        const std::uint32_t type = c.op >> 8 & 0xff;
        if (type != 'u' && type != 0) {
            return -EOPNOTSUPP;
        }
        user_buffer memory{call.command.payload,
                           std::min<std::size_t>(c.header.len, control_command::payload_max)};
        if (c.header.len == 0) {
            memory.data = nullptr;
        }
        if (c.op == uapi::ctrl::get_features) {
            const std::uint64_t known = features_of(on_.is.version);
            return c.header.len == uapi::features_len ? (memory.put(&known, sizeof known), 0)
                                                      : -EINVAL;
        }
        if (number(c.op) == number(uapi::ctrl::add_dev)) {
            return add(c, memory);
        }
        const device_ptr ub = life.find(c.header.dev_id);
        if (ub == nullptr) {
            return -ENODEV;
        }
        ++ub->refs;
        int code = permission(*ub, c, memory);
        if (code == 0) {
            if (number(c.op) == number(uapi::ctrl::del_dev) ||
                number(c.op) == number(uapi::ctrl::del_dev_async)) {
                return del(call, ub, number(c.op) == number(uapi::ctrl::del_dev));
            }
            code = carry_out(call, ub, memory);
        }
        life.put(ub);
        return code;
    }

    [[nodiscard]] int carry_out(control_call& call, const device_ptr& ub,
                                const user_buffer& memory) {
        using namespace uapi::ctrl;
        const std::uint32_t nr = number(call.command.op);
        const std::uint64_t data = call.command.header.data;
        if (nr == number(start_dev)) {
            return commands_.start(call, ub, static_cast<int>(data));
        }
        if (nr == number(stop_dev)) {
            life.stop(ub);
            return 0;
        }
        if (nr == number(get_dev_info) || nr == number(get_dev_info2)) {
            return settings_.tell_info(*ub, memory);
        }
        if (nr == number(get_queue_affinity)) {
            return settings_.tell_affinity(*ub, data, memory);
        }
        if (nr == number(set_params)) {
            return settings_.take_params(*ub, memory);
        }
        if (nr == number(get_params)) {
            return settings_.tell_params(*ub, memory);
        }
        if (nr == number(start_user_recovery)) {
            return commands_.start_recovery(*ub);
        }
        if (nr == number(end_user_recovery)) {
            return commands_.end_recovery(call, *ub, static_cast<int>(data));
        }
        if (nr == number(uapi::ctrl::update_size) && on_.since(6, 16)) {
            return commands_.resize(*ub, data);
        }
        if (nr == number(quiesce_dev) && on_.since(6, 16)) {
            return commands_.quiesce(*ub);
        }
        if (nr == number(try_stop_dev) && on_.since(7, 0)) {
            return commands_.try_stop(ub);
        }
        if ((nr == number(reg_buf) || nr == number(unreg_buf)) && on_.since(7, 1)) {
            return -EOPNOTSUPP;  // for want of SHMEM_ZC, which is not simulated
        }
        return -EOPNOTSUPP;
    }

    /// Unprivileged devices are named by their path; so is any for GET_DEV_INFO2.
    [[nodiscard]] int permission(const driver_device& ub, const control_command& c,
                                 user_buffer& memory) const {
        const bool unprivileged = ub.has(uapi::feature::unprivileged_dev);
        if (!unprivileged) {
            if (!on_.is.root) {
                return -EPERM;
            }
            if (number(c.op) != number(uapi::ctrl::get_dev_info2)) {
                return 0;
            }
        }
        const std::size_t prefix = c.header.dev_path_len;
        if (prefix == 0 || prefix > 4096 || c.header.len < prefix || memory.data == nullptr) {
            return -EINVAL;
        }
        if (number(c.op) == number(uapi::ctrl::del_dev_async)) {
            return -EINVAL;  // forgotten in the driver's list
        }
        const std::string path{
            reinterpret_cast<const char*>(memory.data),
            ::strnlen(reinterpret_cast<const char*>(memory.data), std::min(prefix, memory.len))};
        memory = {memory.data + prefix, memory.len - std::min(prefix, memory.len)};
        if (path == "/dev/ublkc" + std::to_string(ub.info.dev_id)) {
            return 0;
        }
        constexpr std::string_view nodes = "/dev/ublkc";
        struct stat found {};
        if (path.empty() || path == "/dev/ublk-control" ||
            (!path.starts_with(nodes) && ::stat(path.c_str(), &found) == 0)) {
            return -EPERM;
        }
        if (!path.starts_with(nodes)) {
            return -errno;
        }
        const bool other = life.find(static_cast<std::uint32_t>(
                               std::strtoul(path.c_str() + nodes.size(), nullptr, 10))) != nullptr;
        return other ? -EPERM : -ENOENT;
    }

    [[nodiscard]] int add(const control_command& c, const user_buffer& memory) {
        if (c.header.len < sizeof(uapi::dev_info) || c.header.queue_id != uapi::no_queue_id) {
            return -EINVAL;
        }
        auto info = memory.get<uapi::dev_info>();
        if (const int code = check_add(info, c.header.dev_id, on_); code != 0) {
            return code;
        }
        const std::lock_guard guard{all_};
        const bool unprivileged = (info.flags & uapi::feature::unprivileged_dev) != 0;
        if (unprivileged && life.unprivileged >= on_.is.unprivileged_max) {
            return -EACCES;
        }
        if (info.dev_id == uapi::any_dev_id) {
            for (info.dev_id = 0; life.ids.contains(info.dev_id); ++info.dev_id) {
            }
        } else if (life.ids.contains(info.dev_id)) {
            return -EEXIST;
        }
        if (const int code = grant(info, device_settings::page_size, on_); code != 0) {
            return code;
        }
        life.unprivileged += unprivileged ? 1 : 0;
        life.ids.emplace(info.dev_id, std::make_shared<driver_device>(on_, info));
        memory.put(&info, sizeof info);
        return 0;
    }

    [[nodiscard]] int del(control_call& call, const device_ptr& ub, bool wait) {
        const std::uint32_t id = ub->info.dev_id;
        {
            const std::lock_guard guard{all_};
            if (!ub->deleted) {
                life.stop(ub);
                ub->deleted = true;
                life.unprivileged -= ub->has(uapi::feature::unprivileged_dev) ? 1 : 0;
                life.put(ub);
            }
            life.put(ub);
        }
        while (wait && life.ids.contains(id)) {
            if (!commands_.wait_interruptible(call, life.number_freed,
                                              "the last reference (DEL_DEV)")) {
                return -EINTR;
            }
        }
        return 0;
    }

    machine& on_;
    device_settings settings_;
    device_commands commands_;
    mutex all_;  ///< the driver's global one: ADD_DEV and DEL_DEV
};

}  // namespace ublk::inline v0::sim
