// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/control/diagnosis.hpp>
#include <ublk/detail/cpu_set.hpp>
#include <ublk/error.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/kernel/process_owner.hpp>
#include <ublk/uapi.hpp>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace ublk::inline v0::detail {

/// The control commands of the driver, one function each. Every one throws `error` when the kernel
/// refuses it or has not answered when the deadline given to the constructor has passed since the
/// call, or when the caller is a child that was forked since; none may be called from a thread that
/// serves requests, since most of them wait for requests to be served.
template <kernel Kernel>
class control_commands {
public:
    /// Opens /dev/ublk-control. Throws `error` where the driver is missing or closed to this user.
    control_commands(const Kernel& k, time_limit command_deadline)
        : kernel_{k}, channel_{k.open_control()}, deadline_{command_deadline} {}

    /// GET_FEATURES (kernel 6.5): the feature flags that the driver knows.
    [[nodiscard]] std::uint64_t get_features() {
        control_command command = of(uapi::ctrl::get_features, 0);
        std::uint64_t features = 0;
        ask(command, features, std::nullopt);
        return features;
    }

    /// ADD_DEV: creates /dev/ublkcN. Returns what was granted, which may be fewer queues, other
    /// flags and a smaller buffer than asked.
    [[nodiscard]] uapi::dev_info add_dev(uapi::dev_info requested) {
        control_command command = of(uapi::ctrl::add_dev, requested.dev_id);
        command.header.queue_id = uapi::no_queue_id;
        const bool chosen = requested.dev_id != uapi::any_dev_id;
        ask(command, requested, chosen ? std::optional{requested.dev_id} : std::nullopt);
        return requested;
    }

    /// An ADD_DEV that was given up on may be carried out yet. Waits for that, for `limit` at most,
    /// and deletes what was added then. False where it is still unanswered.
    bool undo_late_add(time_limit limit) {
        if (!unanswered_add_) {
            return true;
        }
        control_command command;
        const int answer = channel_.finish(*unanswered_add_, command, from_now(kernel_, limit));
        if (answer == control_pending) {
            return false;
        }
        unanswered_add_.reset();
        if (answer >= 0) {
            uapi::dev_info added;
            std::memcpy(&added, command.payload, sizeof added);
            del_dev(added.dev_id);
        }
        return true;
    }

    /// GET_DEV_INFO.
    [[nodiscard]] uapi::dev_info get_dev_info(std::uint32_t id) {
        control_command command = of(uapi::ctrl::get_dev_info, id);
        uapi::dev_info info;
        ask(command, info, id);
        return info;
    }

    /// GET_DEV_INFO2 (kernel 6.3): the same for a device that another user may own, which is named
    /// by the path of its /dev/ublkcN as well.
    [[nodiscard]] uapi::dev_info get_dev_info2(std::uint32_t id, std::string_view path) {
        control_command command = of(uapi::ctrl::get_dev_info2, id);
        uapi::dev_info info;
        const std::size_t prefix = (path.size() + 1 + 7) / 8 * 8;
        if (prefix + sizeof info > control_command::payload_max) {
            fail(ENAMETOOLONG, command_name(command.op), id);
        }
        std::memcpy(command.payload, path.data(), path.size());
        command.header.dev_path_len = static_cast<std::uint16_t>(prefix);
        command.header.len = static_cast<std::uint16_t>(prefix + sizeof info);
        (void)call(command, id, deadline_);
        std::memcpy(&info, command.payload + prefix, sizeof info);
        return info;
    }

    /// SET_PARAMS: before START_DEV only.
    void set_params(std::uint32_t id, uapi::params params) {
        control_command command = of(uapi::ctrl::set_params, id);
        ask(command, params, id);
    }

    /// GET_PARAMS. The answer has the bit `param_type::devt`, which SET_PARAMS refuses.
    [[nodiscard]] uapi::params get_params(std::uint32_t id) {
        control_command command = of(uapi::ctrl::get_params, id);
        uapi::params params;
        params.len = sizeof params;
        ask(command, params, id);
        return params;
    }

    /// GET_QUEUE_AFFINITY: the CPUs whose requests that queue carries.
    [[nodiscard]] cpu_set get_queue_affinity(std::uint32_t id, queue_id queue) {
        control_command command = of(uapi::ctrl::get_queue_affinity, id);
        command.header.data = queue.value();
        cpu_set cpus;
        ask(command, cpus.raw(), id);
        return cpus;
    }

    /// START_DEV: waits until every tag is fetched, then creates /dev/ublkbN.
    void start_dev(std::uint32_t id, int pid) {
        control_command command = of(uapi::ctrl::start_dev, id);
        command.header.data = static_cast<std::uint64_t>(pid);
        (void)call(command, id, deadline_);
    }

    /// STOP_DEV: removes /dev/ublkbN after writing its dirty pages back through the server, then
    /// aborts every fetched tag. Only begins; `finish_stop` waits, so that a server which does not
    /// answer can be ended meanwhile.
    [[nodiscard]] control_ticket begin_stop(std::uint32_t id) {
        owner_.demand(kernel_, command_name(uapi::ctrl::stop_dev), id);
        return channel_.begin(of(uapi::ctrl::stop_dev, id));
    }

    /// False where STOP_DEV is still at it when `limit` has passed. A device that is gone counts as
    /// stopped.
    [[nodiscard]] bool finish_stop(control_ticket ticket, std::uint32_t id, time_limit limit) {
        return finish_stop(ticket, id, from_now(kernel_, limit));
    }
    [[nodiscard]] bool finish_stop(control_ticket ticket, std::uint32_t id, deadline until) {
        control_command command;
        const int answer = channel_.finish(ticket, command, until);
        if (answer == control_pending) {
            return false;
        }
        refuse_unless_gone(uapi::ctrl::stop_dev, id, answer);
        return true;
    }

    /// STOP_DEV from begin to end.
    void stop_dev(std::uint32_t id, time_limit limit) {
        if (!finish_stop(begin_stop(id), id, limit)) {
            refuse(uapi::ctrl::stop_dev, id, -ETIMEDOUT);
        }
    }

    /// DEL_DEV: waits until nobody refers to the device any more, so close what you hold first. A
    /// device that is gone already counts as deleted.
    void del_dev(std::uint32_t id) {
        if (!remove(uapi::ctrl::del_dev, id, deadline_, grace)) {
            refuse(uapi::ctrl::del_dev, id, -ETIMEDOUT);
        }
    }

    /// The same, but waits no longer than `limit` for those who still refer to the removed device:
    /// clients that have its disk open or mounted. False where there are some; the id becomes free
    /// with the last of them.
    [[nodiscard]] bool del_dev(std::uint32_t id, time_limit limit) {
        return remove(uapi::ctrl::del_dev, id, limit, deadline_);
    }

    /// DEL_DEV_ASYNC (kernel 6.9): the same without the wait; the id becomes free some time later.
    void del_dev_async(std::uint32_t id) {
        if (!remove(uapi::ctrl::del_dev_async, id, deadline_, grace)) {
            refuse(uapi::ctrl::del_dev_async, id, -ETIMEDOUT);
        }
    }

private:
    // A command that was given up on gets this long to come back, as EINTR usually.
    static constexpr std::chrono::milliseconds grace{1000};

    [[nodiscard]] static control_command of(std::uint32_t op, std::uint32_t id) {
        control_command command;
        command.op = op;
        command.header.dev_id = id;
        return command;
    }

    /// Sends a command with `value` as its buffer and reads the buffer back.
    template <class Value>
    void ask(control_command& command, Value& value, std::optional<std::uint32_t> id) {
        static_assert(sizeof value <= control_command::payload_max);
        command.header.len = sizeof value;
        std::memcpy(command.payload, &value, sizeof value);
        (void)call(command, id, deadline_);
        std::memcpy(static_cast<void*>(&value), command.payload, sizeof value);
    }

    /// The kernel's answer. After `limit` gives up on the command and waits no longer than
    /// `afterwards` for it to come back: `control_pending` where it was interrupted by that,
    /// -ETIMEDOUT where it did not run or did not come back. An answer at the last moment counts.
    [[nodiscard]] int exchange(control_command& command, time_limit limit, time_limit afterwards) {
        owner_.demand(kernel_, command_name(command.op));
        const control_ticket ticket = channel_.begin(command);
        int answer = channel_.finish(ticket, command, from_now(kernel_, limit));
        if (answer == control_pending) {
            channel_.cancel(ticket);
            answer = channel_.finish(ticket, command, from_now(kernel_, afterwards));
            if (answer == control_pending && command.op == uapi::ctrl::add_dev) {
                unanswered_add_ = ticket;
            }
            if (answer == control_pending || answer == -ECANCELED) {
                answer = -ETIMEDOUT;
            } else if (answer == -EINTR) {
                answer = control_pending;
            }
        }
        return answer;
    }

    int call(control_command& command, std::optional<std::uint32_t> id, time_limit limit) {
        const int answer = exchange(command, limit, grace);
        if (answer < 0) {
            refuse(command.op, id, answer == control_pending ? -ETIMEDOUT : answer);
        }
        return answer;
    }

    /// False where it was interrupted: only its last step, the wait for the id, can be.
    [[nodiscard]] bool remove(std::uint32_t op, std::uint32_t id, time_limit limit,
                              time_limit afterwards) {
        control_command command = of(op, id);
        const int answer = exchange(command, limit, afterwards);
        if (answer == control_pending) {
            return false;
        }
        refuse_unless_gone(op, id, answer);
        return true;
    }

    /// To stop or delete a device that is gone is no failure.
    static void refuse_unless_gone(std::uint32_t op, std::uint32_t id, int answer) {
        if (answer < 0 && answer != -ENODEV) {
            refuse(op, id, answer);
        }
    }

    [[noreturn, gnu::cold]] static void refuse(std::uint32_t op, std::optional<std::uint32_t> id,
                                               int answer) {
        const diagnosis words = diagnose(op, -answer);
        fail(answer, command_name(op), id, std::string{words.cause}, std::string{words.remedy});
    }

    Kernel kernel_;
    typename Kernel::control channel_;
    time_limit deadline_;
    std::optional<control_ticket> unanswered_add_;
    process_owner owner_{kernel_};
};

}  // namespace ublk::inline v0::detail
