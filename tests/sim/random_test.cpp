// SPDX-License-Identifier: MIT
#include <ublk/sim/random.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <set>

namespace random_test {
namespace {

using dice = ublk::sim::random;

TEST(random, gives_the_same_numbers_everywhere) {
    dice d{1234567};  // published with splitmix64
    EXPECT_EQ(d(), 6457827717110365317u);
    EXPECT_EQ(d(), 3203168211198807973u);
    EXPECT_EQ(d(), 9817491932198370423u);
}

TEST(random, depends_on_its_seed_alone) {
    dice one{7};
    dice same{7};
    dice other{8};
    int equal = 0;
    for (int i = 0; i < 1000; ++i) {
        const std::uint64_t drawn = one();
        EXPECT_EQ(drawn, same());
        equal += drawn == other();
    }
    EXPECT_EQ(equal, 0);
}

TEST(random, draws_below_a_bound_evenly) {
    dice d{1};
    for (int i = 0; i < 100; ++i) {
        EXPECT_EQ(d.below(1), 0u);
        EXPECT_LT(d.below(std::uint64_t{1} << 32), std::uint64_t{1} << 32);
        EXPECT_LT(d.below((std::uint64_t{1} << 32) + 1), (std::uint64_t{1} << 32) + 1);
    }
    std::array<int, 10> seen{};
    for (int i = 0; i < 100'000; ++i) {
        ++seen[d.below(seen.size())];
    }
    for (const int n : seen) {
        EXPECT_NEAR(n, 10'000, 500);  // five standard deviations
    }
    std::uint64_t highest = 0;
    for (int i = 0; i < 1000; ++i) {
        highest = std::max(highest, d.below(~std::uint64_t{0}));
    }
    EXPECT_GT(highest, ~std::uint64_t{0} / 100 * 95);
}

TEST(random, has_a_chance_of_one_in_so_many) {
    dice d{2};
    int hits = 0;
    for (int i = 0; i < 100'000; ++i) {
        EXPECT_FALSE(d.chance(0));
        EXPECT_TRUE(d.chance(1));
        hits += d.chance(50);
    }
    EXPECT_NEAR(hits, 2000, 225);
}

TEST(random, forks_streams_that_share_nothing) {
    dice parent{3};
    dice first = parent.fork();
    dice second = parent.fork();
    std::set<std::uint64_t> seen;
    for (int i = 0; i < 1000; ++i) {
        seen.insert({parent(), first(), second()});
    }
    EXPECT_EQ(seen.size(), 3000u);
}

TEST(random, leaves_the_parent_alone_whatever_a_fork_draws) {
    dice one{4};
    dice other{4};
    dice child = one.fork();
    (void)other.fork();
    (void)child();
    EXPECT_EQ(one(), other());
}

}  // namespace
}  // namespace random_test
