// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/policy/loop_timing.hpp>
#include <ublk/policy/queue_policy.hpp>

#include <type_traits>

namespace ublk::inline v0 {

namespace detail {

/// Leaves the core's units to its other thread for a moment.
[[gnu::always_inline]] inline void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace detail

/// How a queue thread waits for its next requests. Each hands over what is queued first.
///
/// | expression              | meaning                                                           |
/// |-------------------------|-------------------------------------------------------------------|
/// | `W::wait(port, timing)` | returns with an event, or without one: 0 or -errno; noexcept      |
/// | `W::spins`              | constant: looks for events without a system call                  |
/// | `W::on`                 | `axis::waiting`                                                   |
namespace waits {

/// Sleeps in the system call that hands over: no CPU time is spent on waiting.
struct block {
    static constexpr axis on = axis::waiting;
    static constexpr bool spins = false;

    template <class Port>
    [[nodiscard, gnu::always_inline]] static int wait(Port& port, const loop_timing&) noexcept {
        return port.wait();
    }
};

/// Never sleeps: the least delay, for a whole CPU that does nothing else. With fewer CPUs than
/// threads that spin it is slow, since the clients wait for the CPU.
struct spin {
    static constexpr axis on = axis::waiting;
    static constexpr bool spins = true;

    template <class Port>
    [[nodiscard]] static int wait(Port& port, const loop_timing&) noexcept {
        const int code = port.poll();
        if (code < 0 || port.has_events()) {
            return code;
        }
        while (!port.ready()) {
            detail::relax();
        }
        return port.poll();
    }
};

/// Looks for new requests for `options::spin`, then sleeps: no delay within a burst.
struct spin_then_block {
    static constexpr axis on = axis::waiting;
    static constexpr bool spins = true;

    template <class Port>
    [[nodiscard]] static int wait(Port& port, const loop_timing& limits) noexcept {
        const int code = port.poll();
        if (code < 0 || port.has_events()) {
            return code;
        }
        constexpr unsigned looks_a_clock = 16;  // reading it takes as long as some pauses
        const auto until = port.now() + limits.spin;
        do {
            for (unsigned i = 0; i < looks_a_clock; ++i) {
                if (port.ready()) {
                    return port.poll();
                }
                detail::relax();
            }
        } while (port.now() < until);
        return port.wait();
    }
};

}  // namespace waits

}  // namespace ublk::inline v0
