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

}  // namespace ublk::inline v0
