// SPDX-License-Identifier: MIT
#include <ublk/policy/queue_policies.hpp>
#include <ublk/policy/queue_policy.hpp>
#include <ublk/policy/with.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace queue_policy_test {
namespace {

namespace places = ublk::places;
namespace waits = ublk::waits;
using ublk::queue_facts;
using ublk::queue_id;
using ublk::queue_share;
using ublk::thread_shares;

static_assert(ublk::queue_policy<ublk::per_cpu> && ublk::queue_policy<ublk::shared> &&
              ublk::queue_policy<ublk::interleaved>);
static_assert(sizeof(ublk::per_cpu) == 1 && sizeof(ublk::shared) == 1);

struct says_nothing_of_queues {
    static std::vector<thread_shares> threads(const queue_facts&) { return {}; }
};
struct decides_at_run_time : says_nothing_of_queues {
    bool single_queue = false;
};
struct deals_out_queues_only {
    [[maybe_unused]] static constexpr bool single_queue = true;
    static std::vector<std::vector<queue_id>> threads(const queue_facts&) { return {}; }
};
static_assert(!ublk::queue_policy<says_nothing_of_queues> &&
              !ublk::queue_policy<decides_at_run_time> &&
              !ublk::queue_policy<deals_out_queues_only>);

// That each tag is served once is a law, which tests/sim has for each policy.

TEST(queue_policy, per_cpu_has_a_thread_a_queue_on_the_queues_cpus) {
    EXPECT_EQ(ublk::per_cpu::threads({.queues = 5, .depth = 8, .threads = 2}).size(), 5u);
    EXPECT_TRUE((std::is_same_v<typename ublk::queue_policy_traits<ublk::per_cpu>::placement,
                                places::queue_cpus>));
    EXPECT_FALSE(ublk::queue_policy_traits<ublk::per_cpu>::takes_thread_count);
}

TEST(queue_policy, shared_has_one_thread_anywhere) {
    EXPECT_EQ(ublk::shared::threads({.queues = 5, .depth = 8, .threads = 4}).size(), 1u);
    EXPECT_TRUE((std::is_same_v<typename ublk::queue_policy_traits<ublk::shared>::placement,
                                places::anywhere>));
}

TEST(queue_policy, interleaved_gives_each_thread_every_nth_tag_of_each_queue) {
    const auto all =
        ublk::interleaved::threads({.queues = 2, .depth = 7, .threads = 3, .per_io_daemon = true});
    ASSERT_EQ(all.size(), 3u);
    for (std::uint16_t i = 0; i < 3; ++i) {
        EXPECT_EQ(all[i], (thread_shares{{queue_id{0}, i, 3}, {queue_id{1}, i, 3}}));
    }
    EXPECT_TRUE(ublk::queue_policy_traits<ublk::interleaved>::takes_thread_count &&
                ublk::queue_policy_traits<ublk::interleaved>::shares_tags);
}

TEST(queue_policy, interleaved_has_no_thread_without_a_tag) {
    EXPECT_EQ(
        ublk::interleaved::threads({.queues = 1, .depth = 2, .threads = 8, .per_io_daemon = true})
            .size(),
        2u);
}

TEST(queue_policy, interleaved_deals_out_whole_queues_where_the_driver_wants_that) {
    const auto all = ublk::interleaved::threads({.queues = 3, .depth = 8, .threads = 2});
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0], (thread_shares{{queue_id{0}}, {queue_id{2}}}));
    EXPECT_EQ(all[1], (thread_shares{{queue_id{1}}}));
    EXPECT_EQ(ublk::interleaved::threads({.queues = 2, .depth = 8, .threads = 9}).size(), 2u);
}

using all_parts = ublk::with<ublk::per_cpu, places::listed_cpus, waits::spin>;
static_assert(ublk::queue_policy<all_parts> && all_parts::single_queue);
static_assert(std::is_same_v<typename ublk::queue_policy_traits<all_parts>::waiting, waits::spin>);
static_assert(
    std::is_same_v<typename ublk::queue_policy_traits<all_parts>::placement, places::listed_cpus>);

TEST(with, keeps_what_is_not_named) {
    using waits_only = ublk::with<ublk::per_cpu, waits::spin_then_block>;
    EXPECT_TRUE((std::is_same_v<typename ublk::queue_policy_traits<waits_only>::placement,
                                places::queue_cpus>));
    EXPECT_TRUE(
        (std::is_same_v<typename ublk::queue_policy_traits<ublk::with<ublk::shared>>::waiting,
                        waits::block>));
    using nested = ublk::with<ublk::with<ublk::shared, waits::spin>, places::one_node>;
    EXPECT_TRUE((std::is_same_v<typename ublk::queue_policy_traits<nested>::waiting, waits::spin>));
    EXPECT_TRUE(
        (std::is_same_v<typename ublk::queue_policy_traits<nested>::placement, places::one_node>));
}

class placement : public ::testing::Test {
protected:
    [[nodiscard]] static std::vector<std::size_t> members(const ublk::cpu_set& all) {
        std::vector<std::size_t> found;
        for (std::size_t cpu = 0; cpu < ublk::cpu_set::cpus_max; ++cpu) {
            if (all.contains(cpu)) {
                found.push_back(cpu);
            }
        }
        return found;
    }
    [[nodiscard]] ublk::place_facts facts(std::size_t thread) const {
        return {queue_cpus, mine, thread, listed, neighbours};
    }

    placement() {
        queue_cpus[0].insert(0);
        queue_cpus[1].insert(4);
        queue_cpus[2].insert(7);
        neighbours.insert(2);
        neighbours.insert(3);
    }

    std::vector<ublk::cpu_set> queue_cpus = std::vector<ublk::cpu_set>(3);
    thread_shares mine{{queue_id{0}}, {queue_id{2}}};
    std::vector<unsigned> listed{5, 1};
    ublk::cpu_set neighbours;
};

using cpus = std::vector<std::size_t>;

TEST_F(placement, anywhere_is_no_set) {
    EXPECT_TRUE(places::anywhere::cpus(facts(0)).empty());
}

TEST_F(placement, queue_cpus_are_those_of_all_queues_of_the_thread) {
    EXPECT_EQ(members(places::queue_cpus::cpus(facts(0))), (cpus{0, 7}));
}

TEST_F(placement, listed_cpus_are_taken_in_turn) {
    EXPECT_EQ(members(places::listed_cpus::cpus(facts(0))), (cpus{5}));
    EXPECT_EQ(members(places::listed_cpus::cpus(facts(1))), (cpus{1}));
    EXPECT_EQ(members(places::listed_cpus::cpus(facts(2))), (cpus{5}));
}

TEST_F(placement, one_domain_is_the_same_for_every_thread) {
    EXPECT_EQ(members(places::one_l3::cpus(facts(0))), (cpus{2, 3}));
    EXPECT_EQ(members(places::one_node::cpus(facts(9))), (cpus{2, 3}));
    EXPECT_EQ(places::one_l3::domain, ublk::cpu_domain::l3);
    EXPECT_EQ(places::one_node::domain, ublk::cpu_domain::node);
}

using ublk::scheduling;

struct placement_of_users {
    static constexpr ublk::axis on = ublk::axis::placement;
};

TEST_F(placement, says_how_its_threads_are_scheduled) {
    using inherited = places::scheduled_as<places::listed_cpus, scheduling::inherited>;
    EXPECT_EQ(ublk::detail::scheduling_of<inherited>, scheduling::inherited);
    EXPECT_EQ(ublk::detail::scheduling_of<places::queue_cpus>, scheduling::automatic);
    EXPECT_EQ(ublk::detail::scheduling_of<placement_of_users>, scheduling::automatic);
    EXPECT_TRUE(inherited::needs_list);
    EXPECT_EQ(members(inherited::cpus(facts(1))), (cpus{1}));
}

TEST(scheduling_on, is_chosen_by_the_kernel_where_the_user_leaves_it) {
    using ublk::detail::scheduling_on;
    EXPECT_EQ(scheduling_on({7, 1, 99}, scheduling::automatic), scheduling::inherited);
    EXPECT_EQ(scheduling_on({7, 2}, scheduling::automatic), scheduling::batch);
    EXPECT_EQ(scheduling_on({8, 0}, scheduling::automatic), scheduling::batch);
    EXPECT_EQ(scheduling_on({6, 8}, scheduling::batch), scheduling::batch);
    EXPECT_EQ(scheduling_on({8, 0}, scheduling::inherited), scheduling::inherited);
}

}  // namespace
}  // namespace queue_policy_test
