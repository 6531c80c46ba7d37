// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/policy/queue_policy.hpp>

namespace ublk::inline v0 {

/// One thread serves all queues through one ring, wherever the scheduler puts it. The backend is
/// never called twice at once, so it needs no locks.
struct shared {
    static constexpr bool one_queue_a_thread = false;

    [[nodiscard]] static std::vector<thread_shares> threads(const queue_facts& facts) {
        return detail::whole_queues(facts.queues, 1);
    }
};

static_assert(queue_policy<shared>);

}  // namespace ublk::inline v0
