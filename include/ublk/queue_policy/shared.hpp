// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/queue_policy/queue_policy.hpp>

namespace ublk::inline v0 {

/// One thread serves all queues through one ring, wherever the scheduler puts it. The backend is
/// never called twice at once, so it needs no locks.
struct shared {
    static constexpr bool one_queue_a_thread = false;
    static constexpr bool pinned = false;

    [[nodiscard]] static std::vector<std::vector<queue_id>> threads(unsigned queues) {
        std::vector<queue_id> all;
        for (unsigned q = 0; q < queues; ++q) {
            all.emplace_back(static_cast<std::uint16_t>(q));
        }
        return {all};
    }
};

static_assert(queue_policy<shared>);

}  // namespace ublk::inline v0
