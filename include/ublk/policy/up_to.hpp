// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/policy/batch_policy.hpp>

namespace ublk::inline v0 {

/// Hands completions back N at a time, and the rest at the end of the turn: bounds how long the
/// first of a batch waits for the others.
template <unsigned N>
struct up_to {
    static_assert(N > 0, "ublk: up_to<N> needs N >= 1");
    [[nodiscard]] static constexpr bool due(unsigned waiting) noexcept { return waiting >= N; }
};

static_assert(batch_policy<up_to<16>>);

}  // namespace ublk::inline v0
