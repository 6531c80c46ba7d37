// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/policy/batch_policy.hpp>

namespace ublk::inline v0 {

/// Hands completions back once per turn of the loop, in the same system call that waits for the
/// next requests: the most throughput.
struct per_wakeup {
    static constexpr bool never = true;
    [[nodiscard]] static constexpr bool due(unsigned) noexcept { return false; }
};

static_assert(batch_policy<per_wakeup>);

}  // namespace ublk::inline v0
