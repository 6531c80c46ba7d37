// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>

namespace ublk::inline v0 {

/// When completions go back to the kernel. Whatever is left goes with the wait at the end of each
/// turn of the loop, so no policy can hold one back.
///
/// | expression                  | meaning                                                       |
/// |-----------------------------|---------------------------------------------------------------|
/// | `P::due(unsigned waiting)`  | hand over now? `waiting` completions (>= 1) are queued; noexcept
/// |
template <class P>
concept batch_policy = requires(unsigned waiting) {
    { P::due(waiting) }
    noexcept->std::same_as<bool>;
};

}  // namespace ublk::inline v0
