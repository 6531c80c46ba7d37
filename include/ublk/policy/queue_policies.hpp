// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/policy/measuring.hpp>
#include <ublk/policy/placement.hpp>
#include <ublk/policy/queue_policy.hpp>
#include <ublk/policy/wait.hpp>

#include <algorithm>
#include <type_traits>

namespace ublk::inline v0 {

/// What a queue policy says of itself, and what holds where it says nothing.
template <class P>
struct queue_policy_traits {
    static constexpr bool takes_thread_count = requires { requires P::takes_thread_count; };
    static constexpr bool shares_tags = requires { requires P::shares_tags; };
    static constexpr bool on_thread_set = requires { requires P::on_thread_set; };

private:
    static constexpr auto waiting_type = [] {
        if constexpr (requires { typename P::waiting; }) {
            return std::type_identity<typename P::waiting>{};
        } else {
            return std::type_identity<waits::block>{};
        }
    }();
    static constexpr auto placement_type = [] {
        if constexpr (requires { typename P::placement; }) {
            return std::type_identity<typename P::placement>{};
        } else {
            return std::type_identity<places::anywhere>{};
        }
    }();
    static constexpr auto measuring_type = [] {
        if constexpr (requires { typename P::measuring; }) {
            return std::type_identity<typename P::measuring>{};
        } else {
            return std::type_identity<no_stats>{};
        }
    }();

public:
    using waiting = typename decltype(waiting_type)::type;
    using placement = typename decltype(placement_type)::type;
    using measuring = typename decltype(measuring_type)::type;
};

/// A thread for each hardware queue, pinned to the CPUs whose requests that queue carries. The
/// backend is called by several threads at once.
struct per_cpu {
    static constexpr bool single_queue = true;
    using placement = places::queue_cpus;

    [[nodiscard]] static std::vector<thread_shares> threads(const queue_facts& facts) {
        return detail::whole_queues(facts.queues, facts.queues);
    }
};

/// One thread serves all queues through one ring, wherever the scheduler puts it. The backend is
/// never called twice at once, so it needs no locks.
struct shared {
    static constexpr bool single_queue = false;

    [[nodiscard]] static std::vector<thread_shares> threads(const queue_facts& facts) {
        return detail::whole_queues(facts.queues, 1);
    }
};

/// `options::threads` threads serve all queues together: of N threads each has every N-th tag of
/// each queue (UBLK_F_PER_IO_DAEMON, Linux 6.16), so that one busy queue keeps all of them at work.
/// The backend is called by several threads at once.
///
/// Before 6.16 a queue has one thread: the queues are dealt out whole, and there are no more
/// threads than queues; `device_info::per_io_daemon` tells.
struct interleaved {
    static constexpr bool single_queue = false;
    static constexpr bool takes_thread_count = true;
    static constexpr bool shares_tags = true;

    [[nodiscard]] static std::vector<thread_shares> threads(const queue_facts& facts) {
        if (!facts.per_io_daemon) {
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

/// The threads of a `thread_set` serve the queues, beside those of other devices: for many disks
/// that are seldom busy at the same time. A backend that takes long makes all disks of its thread
/// wait, so those had better be asynchronous. How the threads wait and where they run is the set's.
struct pooled {
    static constexpr bool single_queue = false;
    static constexpr bool on_thread_set = true;

    [[nodiscard]] static std::vector<thread_shares> threads(const queue_facts& facts) {
        return detail::whole_queues(facts.queues, facts.threads);
    }
};

}  // namespace ublk::inline v0
