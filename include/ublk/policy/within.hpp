// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/policy/batch_policy.hpp>

namespace ublk::inline v0 {

/// Hands completions back as `per_wakeup` does, but no later than `options::batch_delay` after the
/// first of them, however long the backend takes over the others. Looks at the clock for each.
struct within {
    static constexpr bool timed = true;
    static constexpr bool never = true;
    [[nodiscard]] static constexpr bool due(unsigned) noexcept { return false; }
};

static_assert(batch_policy<within>);

}  // namespace ublk::inline v0
