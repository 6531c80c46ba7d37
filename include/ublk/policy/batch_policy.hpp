// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>

namespace ublk::inline v0 {

/// When completions go back to the kernel. Whatever is left goes with the wait at the end of each
/// turn of the loop, so no policy can hold one back.
///
/// | expression                 | meaning                                                         |
/// |----------------------------|-----------------------------------------------------------------|
/// | `P::due(unsigned waiting)` | hand over now? so many completions (>= 1) are queued; noexcept  |
/// | `P::by_driver`             | optional: true for the driver's own batches, where it has them  |
/// | `P::by_kernel_thread`      | optional: true for a thread of the kernel's that looks for them |
/// | `P::timed`                 | optional: true to hand over within `options::batch_delay`       |
/// | `P::never`                 | optional: true where `due` never is, so that nothing is counted |
template <class P>
concept batch_policy = requires(unsigned waiting) {
    { P::due(waiting) }
    noexcept->std::same_as<bool>;
};

/// What a batch policy says of itself, and what holds where it says nothing.
template <class P>
struct batch_policy_traits {
    static constexpr bool by_driver = requires { requires P::by_driver; };
    static constexpr bool by_kernel_thread = requires { requires P::by_kernel_thread; };
    static constexpr bool timed = requires { requires P::timed; };
    static constexpr bool never = requires { requires P::never; };
};

/// Hands every completion back at once: the least delay for a client that waits for one answer, at
/// one system call a request. For backends that take long over each.
struct each {
    [[nodiscard]] static constexpr bool due(unsigned) noexcept { return true; }
};

/// Hands completions back once per turn of the loop, in the same system call that waits for the
/// next requests: the most throughput.
struct per_wakeup {
    static constexpr bool never = true;
    [[nodiscard]] static constexpr bool due(unsigned) noexcept { return false; }
};

/// Hands completions back N at a time, and the rest at the end of the turn: bounds how long the
/// first of a batch waits for the others.
template <unsigned N>
struct up_to {
    static_assert(N > 0, "ublk: up_to<N> needs N >= 1");
    [[nodiscard]] static constexpr bool due(unsigned waiting) noexcept { return waiting >= N; }
};

/// Hands completions back as `per_wakeup` does, but no later than `options::batch_delay` after the
/// first of them, however long the backend takes over the others. Looks at the clock for each.
struct within {
    static constexpr bool timed = true;
    static constexpr bool never = true;
    [[nodiscard]] static constexpr bool due(unsigned) noexcept { return false; }
};

/// A thread of the kernel's takes each completion as soon as it is queued (IORING_SETUP_SQPOLL),
/// and the driver's copies are made there: the server makes no system call but to sleep, and with
/// `waits::spin` none at all. The kernel's thread keeps a CPU busy until it has had nothing to do
/// for `options::sqpoll_idle`.
struct sqpoll {
    static constexpr bool by_kernel_thread = true;
    [[nodiscard]] static constexpr bool due(unsigned) noexcept { return true; }
};

/// Requests come and completions go in the driver's own batches (UBLK_F_BATCH_IO, Linux 7.0): one
/// event tells of up to 128 requests, one command answers a whole turn of the loop. The least work
/// for a request among many. Where the driver has none of that, the same program runs as with
/// `per_wakeup`; `device_info::batch_io` tells.
struct batch_io {
    static constexpr bool by_driver = true;
    static constexpr bool never = true;
    [[nodiscard]] static constexpr bool due(unsigned) noexcept { return false; }
};

}  // namespace ublk::inline v0
