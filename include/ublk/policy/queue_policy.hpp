// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/config.hpp>
#include <ublk/detail/fixed_array.hpp>
#include <ublk/units.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ublk::inline v0 {

/// What a part of a queue policy decides, beside which thread serves what.
enum class axis {
    waiting,    ///< how a thread waits for requests
    placement,  ///< on which CPUs it runs
    measuring   ///< what it keeps count of
};

/// What there is to be dealt out to threads.
struct queue_facts {
    unsigned queues = 1;
    unsigned depth = 1;    ///< tags of each
    unsigned threads = 1;  ///< options::threads, or as many as there are online CPUs
    bool per_io_daemon =
        false;  ///< several threads may serve one queue (PER_IO_DAEMON, Linux 6.16)
};

/// The tags of a queue that one thread serves: `first`, `first + step`, and so on.
struct queue_share {
    queue_id queue{};
    std::uint16_t first = 0;
    std::uint16_t step = 1;

    friend bool operator==(const queue_share&, const queue_share&) noexcept = default;
};

using thread_shares = std::vector<queue_share>;

/// Which thread serves what.
///
/// | expression               | meaning                                                          |
/// |--------------------------|------------------------------------------------------------------|
/// | `P::threads(facts)`      | for each thread what it serves; every tag exactly once           |
/// | `P::single_queue`        | constant: the loop need not ask a completion for its queue       |
/// | `P::takes_thread_count`  | optional constant: `options::threads` says how many there are    |
/// | `P::waiting`             | optional: how a thread waits (wait.hpp); `waits::block`         |
/// | `P::placement`           | optional: on which CPUs it runs (placement.hpp): `anywhere`      |
/// | `P::measuring`           | optional: what it counts (measuring.hpp); `no_stats`             |
///
/// `with` puts one together from parts.
template <class P>
concept queue_policy = requires(const queue_facts& facts) {
    { P::threads(facts) } -> std::same_as<std::vector<thread_shares>>;
    requires std::same_as<const bool, decltype(P::single_queue)>;
};

namespace detail {

/// Deals queues out whole, to so many threads.
[[nodiscard]] inline std::vector<thread_shares> whole_queues(unsigned queues, unsigned threads) {
    std::vector<thread_shares> all(threads < queues ? threads : queues);
    for (unsigned q = 0; q < queues; ++q) {
        all[q % all.size()].push_back({.queue = queue_id{static_cast<std::uint16_t>(q)}});
    }
    return all;
}

/// START_DEV would wait for ever for a tag that nobody serves.
inline void check_shares(const std::vector<thread_shares>& all, const queue_facts& facts,
                         bool single_queue) {
    fixed_array<bool> served(std::size_t{facts.queues} * facts.depth);
    for (const thread_shares& each : all) {
        UBLK_ASSERT(!each.empty() && (each.size() == 1 || !single_queue),
                    "a queue policy gives each thread the queues that it promises");
        for (const queue_share& share : each) {
            UBLK_ASSERT(share.queue.value() < facts.queues && share.step != 0 &&
                            (share.step == 1 || facts.per_io_daemon),
                        "a queue policy gives out what there is");
            for (std::size_t tag = share.first; tag < facts.depth; tag += share.step) {
                const std::size_t index = share.queue.value() * std::size_t{facts.depth} + tag;
                UBLK_ASSERT(!served[index], "a queue policy serves each tag only once");
                served[index] = true;
            }
        }
    }
    for (const bool each : served) {
        UBLK_ASSERT(each, "a queue policy leaves no tag out");
    }
}

/// How much a queue policy makes of one device.
struct thread_load {
    std::size_t tags = 0;    ///< of the thread that has the most
    std::size_t shares = 0;  ///< of all threads; each is a mapping or two
};

[[nodiscard]] inline thread_load load_of(const std::vector<thread_shares>& all,
                                         unsigned depth) noexcept {
    thread_load load;
    for (const thread_shares& each : all) {
        std::size_t tags = 0;
        for (const queue_share& share : each) {
            tags += (depth - share.first + share.step - 1u) / share.step;
        }
        load.tags = tags > load.tags ? tags : load.tags;
        load.shares += each.size();
    }
    return load;
}

}  // namespace detail

}  // namespace ublk::inline v0
