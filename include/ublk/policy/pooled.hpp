// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/policy/queue_policy.hpp>

namespace ublk::inline v0 {

/// The threads of a `thread_set` serve the queues, beside those of other devices: for many disks
/// that are seldom busy at the same time. A backend that takes long makes all disks of its thread
/// wait, so those had better be asynchronous. How the threads wait and where they run is the set's.
struct pooled {
    static constexpr bool one_queue_a_thread = false;
    static constexpr bool on_thread_set = true;

    [[nodiscard]] static std::vector<thread_shares> threads(const queue_facts& facts) {
        return detail::whole_queues(facts.queues, facts.threads);
    }
};

static_assert(queue_policy<pooled>);

/// Whether P takes the threads of a set.
template <class P>
inline constexpr bool on_thread_set = false;
template <class P>
    requires requires {
        P::on_thread_set;
    }
inline constexpr bool on_thread_set<P> = P::on_thread_set;

}  // namespace ublk::inline v0
