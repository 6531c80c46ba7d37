// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/error.hpp>
#include <ublk/policy/measuring.hpp>
#include <ublk/request.hpp>
#include <ublk/result.hpp>
#include <ublk/stats_snapshot.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace ublk::inline v0 {

namespace detail {

/// A number that one thread changes, by a plain load and store, and any thread may read.
class counter {
public:
    void add(std::uint64_t more) noexcept { set(get() + more); }
    void set(std::uint64_t value) noexcept { value_.store(value, std::memory_order_relaxed); }
    [[nodiscard]] std::uint64_t get() const noexcept {
        return value_.load(std::memory_order_relaxed);
    }

private:
    std::atomic<std::uint64_t> value_{0};
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// A cache line, or two where they are fetched in pairs: what different threads write to lies apart
/// by that much.
inline constexpr std::size_t line_pair = 128;

/// What one thread counts, as memory.
struct stats_record {
    struct operation_counts {
        counter bytes;
        counter errors;
        counter nanoseconds;
        std::array<counter, histogram::buckets> latency;
    };
    struct alignas(line_pair) queue_counts {
        counter in_flight;
        counter most_in_flight;
        std::array<operation_counts, operation_names.size()> kinds;
    };
    struct alignas(line_pair) turn_counts {
        std::array<counter, turn_stats::sizes> by_size;
        counter requests;
        counter most;
    };

    explicit stats_record(const thread_shares& shares) : queues(shares.size()) {
        for (const queue_share& each : shares) {
            ids.push_back(each.queue);
        }
    }

    std::vector<queue_counts> queues;
    std::vector<queue_id> ids;  ///< of them
    turn_counts turns;
};

}  // namespace detail

/// Counts, bytes, errors and latencies by operation and requests in flight, for each queue, and how
/// many requests a turn of the loop finds, for each thread. `device::stats` reads them. Takes 16
/// KiB a queue and thread, and reads the clock once a turn and once an answer.
///
/// Latency is the server's: from the turn that found the request until its answer is queued for the
/// driver. It includes the time of the requests before it in the same turn, and nothing of the
/// driver's time.
struct stats {
    static constexpr axis on = axis::measuring;

    [[nodiscard]] static std::shared_ptr<void> make_record(const thread_shares& shares) {
        return std::make_shared<detail::stats_record>(shares);
    }

    class meter {
    public:
        meter(void* record, std::size_t tags)
            : to_{*static_cast<detail::stats_record*>(record)}, arrived_(tags),
              queues_(to_.queues.size()) {}
        meter(const meter&) = delete;
        meter& operator=(const meter&) = delete;
        /// What is not answered by now never is, by this thread.
        ~meter() {
            for (detail::stats_record::queue_counts& each : to_.queues) {
                each.in_flight.set(0);
            }
        }

        template <class Clock>
        [[gnu::always_inline]] void turn_begins(const Clock& clock) noexcept {
            now_ = clock.now();
        }

        [[gnu::always_inline]] void took(std::uint16_t place, std::uint16_t index) noexcept {
            arrived_[index] = now_;
            to_.queues[place].in_flight.add(1);
        }

        template <class Clock>
        [[gnu::always_inline]] void answered(const Clock& clock, std::uint16_t place,
                                             std::uint16_t index, const request& r,
                                             result answer) noexcept {
            const auto kind = static_cast<std::size_t>(kind_of(r.op()));
            detail::stats_record::operation_counts& counts = to_.queues[place].kinds[kind];
            const auto took = static_cast<std::uint64_t>(
                std::chrono::nanoseconds{clock.now() - arrived_[index]}.count());
            counts.latency[histogram::bucket_of(took)].add(1);
            counts.nanoseconds.add(took);
            if (answer.ok()) [[likely]] {
                counts.bytes.add(r.length());
            } else {
                counts.errors.add(1);
            }
            ++queues_[place].answered;
        }

        /// Answers leave together at the end of a turn: until then their requests are in flight.
        [[gnu::always_inline]] void turn_ends() noexcept {
            std::uint64_t found = 0;
            for (std::size_t i = 0; i < queues_.size(); ++i) {
                detail::stats_record::queue_counts& counts = to_.queues[i];
                in_turn& here = queues_[i];
                const std::uint64_t at_most = counts.in_flight.get();
                if (at_most > counts.most_in_flight.get()) {
                    counts.most_in_flight.set(at_most);
                }
                found += at_most - here.left;
                here.left = at_most - here.answered;
                here.answered = 0;
                counts.in_flight.set(here.left);
            }
            to_.turns.by_size[turn_stats::size_of(found)].add(1);
            to_.turns.requests.add(found);
            if (found > to_.turns.most.get()) {
                to_.turns.most.set(found);
            }
        }

    private:
        struct in_turn {
            std::uint64_t left = 0;  ///< in flight since earlier turns
            std::uint64_t answered = 0;
        };

        detail::stats_record& to_;
        std::chrono::steady_clock::time_point now_{};
        std::vector<std::chrono::steady_clock::time_point> arrived_;  ///< one a tag
        std::vector<in_turn> queues_;
    };

    /// What `make_record` made, one a thread. From any thread.
    [[nodiscard]] static stats_snapshot read(std::span<const std::shared_ptr<void>> records) {
        stats_snapshot all;
        for (const std::shared_ptr<void>& each : records) {
            const auto& record = *static_cast<const detail::stats_record*>(each.get());
            for (std::size_t i = 0; i < record.ids.size(); ++i) {
                const std::size_t id = record.ids[i].value();
                all.queues.resize(std::max(all.queues.size(), id + 1));
                add(record.queues[i], all.queues[id]);
            }
            turn_stats& turns = all.threads.emplace_back();
            for (std::size_t i = 0; i < turn_stats::sizes; ++i) {
                turns.by_size[i] = record.turns.by_size[i].get();
            }
            turns.requests = record.turns.requests.get();
            turns.most = record.turns.most.get();
        }
        return all;
    }

private:
    static void add(const detail::stats_record::queue_counts& from, queue_stats& to) noexcept {
        to.in_flight += from.in_flight.get();
        to.most_in_flight += from.most_in_flight.get();
        for (std::size_t k = 0; k < to.kinds.size(); ++k) {
            const detail::stats_record::operation_counts& counts = from.kinds[k];
            operation_stats& sum = to.kinds[k];
            sum.bytes += counts.bytes.get();
            sum.errors += counts.errors.get();
            sum.latency.nanoseconds += counts.nanoseconds.get();
            for (std::size_t i = 0; i < histogram::buckets; ++i) {
                sum.latency.counts[i] += counts.latency[i].get();
            }
        }
    }
};

static_assert(measuring_policy<stats>);

}  // namespace ublk::inline v0
