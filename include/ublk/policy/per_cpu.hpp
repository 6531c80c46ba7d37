// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/policy/placement.hpp>
#include <ublk/policy/queue_policy.hpp>

namespace ublk::inline v0 {

/// A thread for each hardware queue, pinned to the CPUs whose requests that queue carries. The
/// backend is called by several threads at once.
struct per_cpu {
    static constexpr bool one_queue_a_thread = true;
    using placement = places::queue_cpus;

    [[nodiscard]] static std::vector<thread_shares> threads(const queue_facts& facts) {
        return detail::whole_queues(facts.queues, facts.queues);
    }
};

static_assert(queue_policy<per_cpu>);

}  // namespace ublk::inline v0
