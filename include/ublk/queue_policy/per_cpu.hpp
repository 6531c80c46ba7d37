// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/queue_policy/queue_policy.hpp>

namespace ublk::inline v0 {

/// A thread for each hardware queue, pinned to the CPUs whose requests that queue carries. The
/// backend is called by several threads at once.
struct per_cpu {
    static constexpr bool one_queue_a_thread = true;
    static constexpr bool pinned = true;

    [[nodiscard]] static std::vector<std::vector<queue_id>> threads(unsigned queues) {
        std::vector<std::vector<queue_id>> each;
        for (unsigned q = 0; q < queues; ++q) {
            each.push_back({queue_id{static_cast<std::uint16_t>(q)}});
        }
        return each;
    }
};

static_assert(queue_policy<per_cpu>);

}  // namespace ublk::inline v0
