// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace ublk::inline v0 {

/// How often each latency was seen. Nanoseconds up to 15 have a bucket each; from there on each
/// doubling has eight, up to 73 minutes, and what is longer is in the last one. Of fixed size.
class histogram {
public:
    static constexpr std::size_t buckets = 320;

    [[nodiscard]] static constexpr std::size_t bucket_of(std::uint64_t nanoseconds) noexcept {
        const std::uint64_t value = std::min(nanoseconds, longest);
        const auto shift = static_cast<unsigned>(std::bit_width(value | per_doubling)) - 4;
        return shift * per_doubling + static_cast<std::size_t>(value >> shift);
    }

    /// The shortest that is in a bucket, or in the one after the last.
    [[nodiscard]] static constexpr std::uint64_t first_of(std::size_t bucket) noexcept {
        if (bucket < 2 * per_doubling) {
            return bucket;
        }
        return (per_doubling + bucket % per_doubling) << (bucket / per_doubling - 1);
    }

    /// How many latencies were seen.
    [[nodiscard]] std::uint64_t count() const noexcept {
        std::uint64_t all = 0;
        for (const std::uint64_t each : counts) {
            all += each;
        }
        return all;
    }

    /// The latency that the fraction `q` (0 to 1) of all did not exceed: 0.5 for the median, 0.999
    /// for p99.9. Never below the exact one, and above it by less than an eighth; beyond 73 minutes
    /// that is what it says. 0 where nothing was seen.
    [[nodiscard]] std::chrono::nanoseconds quantile(double q) const noexcept {
        const double wanted = std::clamp(q, 0.0, 1.0) * static_cast<double>(count());
        std::uint64_t rank = std::max<std::uint64_t>(static_cast<std::uint64_t>(wanted), 1);
        rank += static_cast<double>(rank) < wanted ? 1 : 0;
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < buckets; ++i) {
            seen += counts[i];
            if (seen >= rank) {
                return std::chrono::nanoseconds{first_of(i + 1) - 1};
            }
        }
        return {};
    }

    histogram& operator+=(const histogram& other) noexcept {
        for (std::size_t i = 0; i < buckets; ++i) {
            counts[i] += other.counts[i];
        }
        nanoseconds += other.nanoseconds;
        return *this;
    }

    std::array<std::uint64_t, buckets> counts{};
    std::uint64_t nanoseconds = 0;  ///< all latencies together

private:
    static constexpr std::uint64_t per_doubling = 8;
    static constexpr std::uint64_t longest = (std::uint64_t{1} << 42) - 1;
};

static_assert(histogram::bucket_of(~std::uint64_t{0}) == histogram::buckets - 1);

}  // namespace ublk::inline v0
