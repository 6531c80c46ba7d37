// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/queue_policy.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace ublk::inline v0::sim {

/// Which thread serves what: each tag has one, for any number of queues, tags and threads.
template <class Policy>
class queue_policy_laws : public ::testing::Test {
public:
    static_assert(queue_policy<Policy>);

    static void expect_cover(const queue_facts& facts) {
        std::vector<unsigned> servers(std::size_t{facts.queues} * facts.depth);
        for (const thread_shares& thread : Policy::threads(facts)) {
            EXPECT_FALSE(thread.empty()) << "a thread with nothing to do";
            EXPECT_TRUE(thread.size() == 1 || !Policy::single_queue)
                << "a thread with " << thread.size() << " queues";
            for (const queue_share& each : thread) {
                ASSERT_LT(each.queue.value(), facts.queues) << "a queue that there is not";
                ASSERT_NE(each.step, 0u) << "a share without end";
                EXPECT_LT(each.first, facts.depth) << "a share without tags";
                EXPECT_TRUE(each.step == 1 || facts.per_io_daemon)
                    << "a queue with several threads, which the driver does not allow";
                for (std::size_t tag = each.first; tag < facts.depth; tag += each.step) {
                    ++servers[each.queue.value() * std::size_t{facts.depth} + tag];
                }
            }
        }
        EXPECT_EQ(std::count(servers.begin(), servers.end(), 1u),
                  static_cast<std::ptrdiff_t>(servers.size()))
            << "a tag that nobody or more than one thread serves, of " << facts.queues
            << " queues of " << facts.depth << " tags, for " << facts.threads << " threads";
    }
};
TYPED_TEST_SUITE_P(queue_policy_laws);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(queue_policy_laws);

TYPED_TEST_P(queue_policy_laws, it_serves_every_tag_once) {
    for (const unsigned queues : {1u, 2u, 3u, 8u, 127u}) {
        for (const unsigned depth : {1u, 2u, 7u, 128u}) {
            for (const unsigned threads : {1u, 2u, 5u, 64u}) {
                for (const bool apart : {false, true}) {
                    this->expect_cover({queues, depth, threads, apart});
                }
            }
        }
    }
    this->expect_cover({4096, 1, 8, true});
    this->expect_cover({1, 4096, 8, true});
}

TYPED_TEST_P(queue_policy_laws, it_always_answers_the_same) {
    EXPECT_EQ(TypeParam::threads({7, 32, 3, true}), TypeParam::threads({7, 32, 3, true}));
}

REGISTER_TYPED_TEST_SUITE_P(queue_policy_laws, it_serves_every_tag_once,
                            it_always_answers_the_same);

/// When completions go back: what a policy holds back goes with the next wait, so any answer is
/// safe; but it must not depend on what happened before, since several threads share the policy.
template <class Policy>
class batch_policy_laws : public ::testing::Test {
public:
    static_assert(batch_policy<Policy>);
};
TYPED_TEST_SUITE_P(batch_policy_laws);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(batch_policy_laws);

TYPED_TEST_P(batch_policy_laws, it_always_answers_the_same) {
    for (unsigned waiting = 1; waiting <= 4096; ++waiting) {
        EXPECT_EQ(TypeParam::due(waiting), TypeParam::due(waiting));
    }
}

/// Once a number is enough, a larger one is, too: the loop asks at each completion, but a policy
/// that skipped its moment would wait for the end of the turn.
TYPED_TEST_P(batch_policy_laws, more_is_never_too_early) {
    for (unsigned waiting = 1; waiting < 4096; ++waiting) {
        EXPECT_LE(TypeParam::due(waiting), TypeParam::due(waiting + 1)) << waiting;
    }
}

REGISTER_TYPED_TEST_SUITE_P(batch_policy_laws, it_always_answers_the_same, more_is_never_too_early);

}  // namespace ublk::inline v0::sim
