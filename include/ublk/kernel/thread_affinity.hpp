// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/cpu_set.hpp>

#include <sched.h>

#include <chrono>

namespace ublk::inline v0::detail {

/// Where the calling thread belongs. A CPU that goes offline takes its threads' affinity with it:
/// the kernel then lets them run anywhere, and does not take that back when the CPU returns.
class thread_affinity {
public:
    /// Pins the calling thread to those of `cpus` that it may use; an empty set leaves it as it is.
    /// False where there are none, or the kernel refuses: the thread then runs where it may, until
    /// its CPUs are back.
    [[nodiscard]] bool set(const cpu_set& cpus) noexcept {
        wanted_ = cpus.empty() ? cpus : within_allowed(cpus);
        last_ = nowhere;
        return cpus.empty() || (!wanted_.empty() && pin_this_thread(wanted_));
    }

    /// To be called now and then: pins the thread anew where it runs elsewhere although it may run
    /// where it belongs. One that may not was moved by the user, as with `taskset -p`, and stays.
    void check() noexcept {
        if (const int now = ::sched_getcpu(); now != last_) [[unlikely]] {
            moved(now);
        }
    }

private:
    using clock = std::chrono::steady_clock;
    static constexpr int nowhere = -2;

    [[gnu::cold, gnu::noinline]] void moved(int now) noexcept {
        last_ = now;
        if (now < 0 || wanted_.empty() || wanted_.contains(static_cast<std::size_t>(now))) {
            return;
        }
        last_ = nowhere;  // so that the next check looks again
        constexpr std::chrono::milliseconds pause{100};
        if (const clock::time_point time = clock::now(); time >= next_try_) {
            next_try_ = time + pause;
            if (allowed_cpus().intersects(wanted_)) {
                (void)pin_this_thread(wanted_);
            }
        }
    }

    cpu_set wanted_{};
    int last_ = nowhere;  ///< the CPU of the last check
    clock::time_point next_try_{};
};

[[nodiscard]] inline thread_affinity& this_thread_affinity() noexcept {
    static thread_local constinit thread_affinity mine;
    return mine;
}

}  // namespace ublk::inline v0::detail
