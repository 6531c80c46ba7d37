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

/// Whether P would have the driver's own batches.
template <class P>
inline constexpr bool batches_by_driver = false;
template <class P>
    requires requires {
        P::by_driver;
    }
inline constexpr bool batches_by_driver<P> = P::by_driver;

/// Whether a thread of the kernel's submits for P (IORING_SETUP_SQPOLL).
template <class P>
inline constexpr bool submits_by_kernel = false;
template <class P>
    requires requires {
        P::by_kernel_thread;
    }
inline constexpr bool submits_by_kernel<P> = P::by_kernel_thread;

/// Whether P bounds how long a completion waits.
template <class P>
inline constexpr bool timed_batches = false;
template <class P>
    requires requires {
        P::timed;
    }
inline constexpr bool timed_batches<P> = P::timed;

/// Whether P leaves it all to the wait.
template <class P>
inline constexpr bool never_due = false;
template <class P>
    requires requires {
        P::never;
    }
inline constexpr bool never_due<P> = P::never;

}  // namespace ublk::inline v0
