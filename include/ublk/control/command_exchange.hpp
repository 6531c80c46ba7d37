// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/control/diagnosis.hpp>
#include <ublk/error.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/kernel/process_owner.hpp>
#include <ublk/uapi.hpp>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>

namespace ublk::inline v0::detail {

/// How a control command gets to the driver and its answer back: within a deadline, from the
/// process that opened /dev/ublk-control, and as an `error` where the driver refuses.
template <class Kernel>
class command_exchange {
public:
    /// Opens /dev/ublk-control. Throws `error` where the driver is missing or closed to this user.
    command_exchange(const Kernel& running, time_limit command_deadline)
        : kernel_{running}, channel_{running.open_control()}, deadline_{command_deadline} {}

protected:
    // A command that was given up on gets this long to come back, as EINTR usually.
    static constexpr std::chrono::milliseconds grace{1000};

    [[nodiscard]] static control_command of(std::uint32_t op, std::uint32_t id,
                                            std::uint64_t data = 0) {
        control_command command;
        command.op = op;
        command.header.dev_id = id;
        command.header.data = data;
        return command;
    }

    /// Sends a command with `value` as its buffer and reads the buffer back. Returns the answer.
    template <class Value>
    int ask(control_command& command, Value& value, std::optional<std::uint32_t> id) {
        static_assert(sizeof value <= control_command::payload_max);
        command.header.len = sizeof value;
        std::memcpy(command.payload, &value, sizeof value);
        const int answer = call(command, id, deadline_);
        std::memcpy(static_cast<void*>(&value), command.payload, sizeof value);
        return answer;
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
    process_owner owner_{kernel_};
    std::optional<control_ticket> unanswered_add_{};
};

}  // namespace ublk::inline v0::detail
