// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/policy/queue_policy.hpp>

#include <algorithm>

namespace ublk::inline v0 {

/// `options::threads` threads serve all queues together: of N threads each has every N-th tag of
/// each queue (UBLK_F_PER_IO_DAEMON, Linux 6.16), so that one busy queue keeps all of them at work.
/// The backend is called by several threads at once.
///
/// Before 6.16 a queue has one thread: the queues are dealt out whole, and there are no more
/// threads than queues; `device_info::tags_apart` tells.
struct interleaved {
    static constexpr bool one_queue_a_thread = false;
    static constexpr bool counts_threads = true;
    static constexpr bool splits_queues = true;

    [[nodiscard]] static std::vector<thread_shares> threads(const queue_facts& facts) {
        if (!facts.tags_apart) {
            return detail::whole_queues(facts.queues, facts.threads);
        }
        const unsigned count = std::min(facts.threads, facts.depth);
        std::vector<thread_shares> all(count);
        for (unsigned i = 0; i < count; ++i) {
            for (unsigned q = 0; q < facts.queues; ++q) {
                all[i].push_back({.queue = queue_id{static_cast<std::uint16_t>(q)},
                                  .first = static_cast<std::uint16_t>(i),
                                  .step = static_cast<std::uint16_t>(count)});
            }
        }
        return all;
    }
};

static_assert(queue_policy<interleaved>);

/// Whether several threads serve one queue under P, where the driver lets them.
template <class P>
inline constexpr bool splits_queues = false;
template <class P>
    requires requires {
        P::splits_queues;
    }
inline constexpr bool splits_queues<P> = P::splits_queues;

}  // namespace ublk::inline v0
