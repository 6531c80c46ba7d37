// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/loop_flags.hpp>
#include <ublk/data/queue.hpp>
#include <ublk/uapi.hpp>

#include <atomic>
#include <cerrno>

namespace ublk::inline v0::detail {

/// What one thread's serving depends on: how many tags the driver still may send requests on, what
/// the thread is told from outside, and what went wrong.
class loop_state {
public:
    explicit loop_state(const std::atomic<unsigned>& flags) noexcept : flags_{flags} {}

    /// Whether there is anything to wait for.
    [[nodiscard]] bool open() const noexcept { return offered_ != 0 && !quit_; }

    /// The first time that a tag goes to the driver.
    void offer(tag_state& fresh) noexcept {
        fresh.to_driver();
        ++offered_;
    }

    /// The driver has taken a tag back, or refuses a command on it.
    void lose(tag_state& gone, int answer) noexcept {
        gone.abort();
        --offered_;
        if (answer != uapi::io_res_abort && answer != -ECANCELED) {
            // A refused command leaves its request with us and would hang its client. Ending the
            // server makes the driver fail the request and the device, which somebody notices.
            failure_ = answer < 0 ? answer : -EPROTO;
            quit_ = true;
        }
    }

    /// The same of all tags of a queue that are not being served.
    void lose_all(queue& of, int answer) noexcept {
        for (tag_state& each : of.tag_states) {
            if (each.owned_by() == tag_state::owner::kernel) {
                lose(each, answer);
            }
        }
    }

    /// The ring fails. If nothing was to be served any more, it is given up on.
    void fail(int code) noexcept {
        lost_ = !open();
        failure_ = failure_ != 0 ? failure_ : code;
        quit_ = true;
    }

    /// Whether nothing is ever heard of the ring again.
    [[nodiscard]] bool lost() const noexcept { return lost_; }

    /// 0, or what went wrong (negative errno).
    [[nodiscard]] int failure() const noexcept { return failure_; }

    [[nodiscard]] bool has_flag(unsigned bits) const noexcept {
        return (flags_.load(std::memory_order_relaxed) & bits) != 0;
    }

    [[nodiscard]] const std::atomic<unsigned>& flags() const noexcept { return flags_; }

    /// Somebody may have told the thread to leave.
    void look_up() noexcept { quit_ = quit_ || has_flag(loop_flags::leave); }

private:
    const std::atomic<unsigned>& flags_;
    unsigned offered_ = 0;  ///< tags that the driver has not taken back
    int failure_ = 0;
    bool quit_ = false;
    bool lost_ = false;
};

}  // namespace ublk::inline v0::detail
