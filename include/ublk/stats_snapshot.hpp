// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/histogram.hpp>
#include <ublk/uapi.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace ublk::inline v0 {

/// What requests are counted apart by. Those that have none of their own are `other`.
enum class operation_kind : std::uint8_t { read, write, flush, discard, other, write_zeroes };

inline constexpr std::array<std::string_view, 6> operation_names{
    "read", "write", "flush", "discard", "other", "write_zeroes"};

[[nodiscard]] constexpr operation_kind kind_of(uapi::op op) noexcept {
    // The kernel's number 4 is never sent, which makes it free for the others.
    return op <= uapi::op::write_zeroes ? static_cast<operation_kind>(op) : operation_kind::other;
}
static_assert(kind_of(uapi::op::discard) == operation_kind::discard &&
              kind_of(uapi::op::write_same) == operation_kind::other &&
              kind_of(uapi::op::write_zeroes) == operation_kind::write_zeroes);

/// Answered requests.
struct operation_stats {
    std::uint64_t bytes = 0;   ///< of those that did not fail
    std::uint64_t errors = 0;  ///< how many failed
    histogram latency{};       ///< of all

    [[nodiscard]] std::uint64_t requests() const noexcept { return latency.count(); }

    operation_stats& operator+=(const operation_stats& other) noexcept {
        bytes += other.bytes;
        errors += other.errors;
        latency += other.latency;
        return *this;
    }
};

/// What one hardware queue brought.
struct queue_stats {
    std::array<operation_stats, operation_names.size()> kinds{};  ///< by operation_kind
    std::uint64_t in_flight = 0;       ///< requests that wait for their answer now
    std::uint64_t most_in_flight = 0;  ///< at any time; of several queues or threads, their sum

    [[nodiscard]] operation_stats of(operation_kind kind) const noexcept {
        return kinds[static_cast<std::size_t>(kind)];
    }
    [[nodiscard]] operation_stats of(uapi::op op) const noexcept { return of(kind_of(op)); }

    /// All operations together.
    [[nodiscard]] operation_stats sum() const noexcept {
        operation_stats all;
        for (const operation_stats& each : kinds) {
            all += each;
        }
        return all;
    }

    queue_stats& operator+=(const queue_stats& other) noexcept {
        for (std::size_t i = 0; i < kinds.size(); ++i) {
            kinds[i] += other.kinds[i];
        }
        in_flight += other.in_flight;
        most_in_flight += other.most_in_flight;
        return *this;
    }
};

/// The turns of one thread's loop: each time it looked at its events.
struct turn_stats {
    /// Turns that found 0, 1, 2, 3 to 4, 5 to 8 requests, and so on.
    static constexpr std::size_t sizes = 18;
    std::array<std::uint64_t, sizes> by_size{};
    std::uint64_t requests = 0;  ///< in all of them
    std::uint64_t most = 0;      ///< in one of them

    [[nodiscard]] static constexpr std::size_t size_of(std::uint64_t found) noexcept {
        return found == 0 ? 0
                          : std::min<std::size_t>(
                                static_cast<std::size_t>(std::bit_width(found - 1)) + 1, sizes - 1);
    }
    /// The most requests that count as that size; the last one has no end.
    [[nodiscard]] static constexpr std::uint64_t last_of(std::size_t size) noexcept {
        return size == 0 ? 0 : std::uint64_t{1} << (size - 1);
    }

    [[nodiscard]] std::uint64_t turns() const noexcept {
        std::uint64_t all = 0;
        for (const std::uint64_t each : by_size) {
            all += each;
        }
        return all;
    }

    turn_stats& operator+=(const turn_stats& other) noexcept {
        for (std::size_t i = 0; i < sizes; ++i) {
            by_size[i] += other.by_size[i];
        }
        requests += other.requests;
        most = std::max(most, other.most);
        return *this;
    }
};

/// What a device with the measuring `stats` has counted since its start. Each number is right by
/// itself; a request that is answered meanwhile may be in one of them and not yet in another.
struct stats_snapshot {
    std::vector<queue_stats> queues{};  ///< by queue_id; empty before the first start
    std::vector<turn_stats> threads{};  ///< one a thread of the device

    /// All queues together.
    [[nodiscard]] queue_stats sum() const noexcept {
        queue_stats all;
        for (const queue_stats& each : queues) {
            all += each;
        }
        return all;
    }

    /// All threads together.
    [[nodiscard]] turn_stats turns() const noexcept {
        turn_stats all;
        for (const turn_stats& each : threads) {
            all += each;
        }
        return all;
    }
};

}  // namespace ublk::inline v0
