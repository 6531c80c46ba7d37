// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/cpu_domain.hpp>
#include <ublk/policy/queue_policy.hpp>
#include <ublk/policy/scheduling.hpp>

#include <cstddef>
#include <span>
#include <vector>

namespace ublk::inline v0 {

/// What a placement may go by.
struct place_facts {
    std::span<const cpu_set> queue_cpus;  ///< one a queue: whose requests it carries
    std::span<const queue_share> mine;    ///< what the thread serves
    std::size_t thread;                   ///< its number, from 0
    std::span<const unsigned> listed;     ///< options::cpus
    const cpu_set& neighbours;            ///< the CPUs of one domain, where a placement asks for it
};

/// On which CPUs a queue thread runs: on those of them that the thread which calls start may use
/// (taskset, cpusets); where it may use none, on those.
///
/// | expression          | meaning                                                               |
/// |---------------------|-----------------------------------------------------------------------|
/// | `P::cpus(facts)`    | of one thread; an empty set leaves it where the scheduler puts it     |
/// | `P::needs_affinity` | constant: goes by `queue_cpus`                                        |
/// | `P::needs_list`     | constant: goes by `options::cpus`, which must not be empty            |
/// | `P::domain`         | constant: which neighbours it goes by                                 |
/// | `P::scheduled`      | optional constant: how the scheduler treats it; `automatic`           |
/// | `P::on`             | `axis::placement`                                                     |
namespace places {

/// Wherever the scheduler puts it.
struct anywhere {
    static constexpr axis on = axis::placement;
    static constexpr bool needs_affinity = false;
    static constexpr bool needs_list = false;
    static constexpr cpu_domain domain = cpu_domain::none;
    [[nodiscard]] static cpu_set cpus(const place_facts&) noexcept { return {}; }
};

/// The CPUs whose requests the thread's queues carry: a request is served where it was made.
struct queue_cpus : anywhere {
    static constexpr bool needs_affinity = true;
    [[nodiscard]] static cpu_set cpus(const place_facts& facts) noexcept {
        cpu_set all;
        for (const queue_share& each : facts.mine) {
            all.insert(facts.queue_cpus[each.queue.value()]);
        }
        return all;
    }
};

/// One CPU of `options::cpus` a thread, in turn.
struct listed_cpus : anywhere {
    static constexpr bool needs_list = true;
    [[nodiscard]] static cpu_set cpus(const place_facts& facts) noexcept {
        cpu_set one;
        one.insert(facts.listed[facts.thread % facts.listed.size()]);
        return one;
    }
};

/// The CPUs that share one L3 cache: that of the first in `options::cpus`, else of the thread that
/// calls start. What one thread has in the cache is near to all.
struct one_l3 : anywhere {
    static constexpr cpu_domain domain = cpu_domain::l3;
    [[nodiscard]] static cpu_set cpus(const place_facts& facts) noexcept {
        return facts.neighbours;
    }
};

/// The CPUs of one NUMA node, chosen in the same way: the threads' memory is theirs.
struct one_node : one_l3 {
    static constexpr cpu_domain domain = cpu_domain::node;
};

/// Another placement, with threads that the scheduler treats in another way:
///
///     ublk::with<ublk::per_cpu, places::scheduled_as<places::queue_cpus, scheduling::inherited>>
template <class Placement, scheduling Treated>
struct scheduled_as : Placement {
    static constexpr scheduling scheduled = Treated;
};

}  // namespace places

namespace detail {

template <class Placement>
inline constexpr scheduling scheduling_of = [] {
    if constexpr (requires { Placement::scheduled; }) {
        return Placement::scheduled;
    } else {
        return scheduling::automatic;
    }
}();

}  // namespace detail

}  // namespace ublk::inline v0
