// SPDX-License-Identifier: MIT
#include <ublk/detail/histogram.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace histogram_test {
namespace {

using ublk::histogram;
using namespace std::chrono_literals;

TEST(histogram, buckets_follow_each_other_without_a_gap) {
    EXPECT_EQ(histogram::first_of(0), 0u);
    for (std::size_t i = 0; i < histogram::buckets; ++i) {
        const std::uint64_t first = histogram::first_of(i);
        const std::uint64_t next = histogram::first_of(i + 1);
        ASSERT_LT(first, next);
        EXPECT_EQ(histogram::bucket_of(first), i);
        EXPECT_EQ(histogram::bucket_of(next - 1), i);
        EXPECT_LE((next - 1 - first) * 8, first) << "a bucket is an eighth of its latency wide";
    }
    EXPECT_GT(std::chrono::nanoseconds{histogram::first_of(histogram::buckets)}, 73min);
}

TEST(histogram, begins_a_bucket_at_each_power_of_two) {
    for (unsigned i = 0; i < 42; ++i) {
        const std::uint64_t power = std::uint64_t{1} << i;
        EXPECT_EQ(histogram::first_of(histogram::bucket_of(power)), power);
    }
}

TEST(histogram, what_is_too_long_is_in_the_last_bucket) {
    const std::uint64_t end = histogram::first_of(histogram::buckets);
    EXPECT_EQ(histogram::bucket_of(end - 1), histogram::buckets - 1);
    EXPECT_EQ(histogram::bucket_of(end), histogram::buckets - 1);
    EXPECT_EQ(histogram::bucket_of(~std::uint64_t{0}), histogram::buckets - 1);
}

TEST(histogram, an_empty_one_has_no_latency) {
    const histogram none;
    EXPECT_EQ(none.count(), 0u);
    EXPECT_EQ(none.quantile(0.5), 0ns);
    EXPECT_EQ(none.quantile(1), 0ns);
}

// Latencies of all magnitudes, of few, or all the same.
std::vector<std::uint64_t> latencies(std::uint64_t seed) {
    std::mt19937_64 dice{seed};
    const double widest = std::uniform_real_distribution<double>{0, 40}(dice);
    std::uniform_real_distribution<double> magnitude{widest / 4, widest};
    std::vector<std::uint64_t> all(1 + dice() % 3000);
    for (std::uint64_t& each : all) {
        each = static_cast<std::uint64_t>(std::exp2(magnitude(dice)));
    }
    return all;
}

TEST(histogram, a_quantile_is_at_most_an_eighth_above_the_exact_one) {
    for (std::uint64_t seed = 1; seed <= 300; ++seed) {
        std::vector<std::uint64_t> exact = latencies(seed);
        histogram seen;
        for (const std::uint64_t each : exact) {
            ++seen.counts[histogram::bucket_of(each)];
        }
        EXPECT_EQ(seen.count(), exact.size());
        std::sort(exact.begin(), exact.end());
        for (const double q : {0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0}) {
            const auto rank = std::ceil(q * static_cast<double>(exact.size()));
            const std::uint64_t right = exact[static_cast<std::size_t>(std::max(rank, 1.0)) - 1];
            const auto outcome = static_cast<std::uint64_t>(seen.quantile(q).count());
            EXPECT_GE(outcome, right) << "seed " << seed << ", quantile " << q;
            EXPECT_LE(outcome - right, right / 8) << "seed " << seed << ", quantile " << q;
        }
    }
}

TEST(histogram, two_add_up) {
    histogram one;
    histogram other;
    ++one.counts[histogram::bucket_of(100)];
    one.nanoseconds = 100;
    other.counts[histogram::bucket_of(100)] += 2;
    ++other.counts[histogram::bucket_of(7)];
    other.nanoseconds = 207;
    one += other;
    EXPECT_EQ(one.count(), 4u);
    EXPECT_EQ(one.counts[histogram::bucket_of(100)], 3u);
    EXPECT_EQ(one.quantile(0.25), 7ns);
    EXPECT_EQ(one.nanoseconds, 307u);
}

}  // namespace
}  // namespace histogram_test
