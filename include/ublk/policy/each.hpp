// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/policy/batch_policy.hpp>

namespace ublk::inline v0 {

/// Hands every completion back at once: the least delay for a client that waits for one answer, at
/// one system call a request. For backends that take long over each.
struct each {
    [[nodiscard]] static constexpr bool due(unsigned) noexcept { return true; }
};

static_assert(batch_policy<each>);

}  // namespace ublk::inline v0
