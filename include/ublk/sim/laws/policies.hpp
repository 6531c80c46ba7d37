// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/batch_policy/batch_policy.hpp>
#include <ublk/queue_policy/queue_policy.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace ublk::inline v0::sim {

/// Which thread serves which queue: each queue has one, for any number of queues.
template <class Policy>
class queue_policy_laws : public ::testing::Test {
public:
    static_assert(queue_policy<Policy>);
};
TYPED_TEST_SUITE_P(queue_policy_laws);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(queue_policy_laws);

TYPED_TEST_P(queue_policy_laws, it_serves_every_queue_once) {
    for (const unsigned queues : {1u, 2u, 3u, 5u, 8u, 64u, 127u, 4096u}) {
        std::vector<unsigned> servers(queues);
        for (const auto& thread : TypeParam::threads(queues)) {
            EXPECT_FALSE(thread.empty())
                << "a thread with nothing to do, of " << queues << " queues";
            EXPECT_TRUE(thread.size() == 1 || !TypeParam::one_queue_a_thread)
                << "a thread with " << thread.size() << " queues";
            for (const queue_id each : thread) {
                ASSERT_LT(each.value(), queues) << "a queue that there is not";
                ++servers[each.value()];
            }
        }
        EXPECT_EQ(std::count(servers.begin(), servers.end(), 1u), queues)
            << "a queue that nobody or more than one thread serves, of " << queues;
    }
}

TYPED_TEST_P(queue_policy_laws, it_always_answers_the_same) {
    EXPECT_EQ(TypeParam::threads(7), TypeParam::threads(7));
}

REGISTER_TYPED_TEST_SUITE_P(queue_policy_laws, it_serves_every_queue_once,
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
