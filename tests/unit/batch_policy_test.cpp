// SPDX-License-Identifier: MIT
#include <ublk/policy/batch_policy.hpp>

#include <gtest/gtest.h>

namespace batch_policy_test {
namespace {

static_assert(ublk::batch_policy<ublk::each> && ublk::batch_policy<ublk::per_wakeup>);
static_assert(ublk::batch_policy<ublk::up_to<1>> && ublk::batch_policy<ublk::up_to<4096>>);
static_assert(sizeof(ublk::each) == 1 && sizeof(ublk::up_to<9>) == 1);

struct may_throw {
    static bool due(unsigned) { return true; }
};
struct answers_a_number {
    static int due(unsigned) noexcept { return 1; }
};
static_assert(!ublk::batch_policy<may_throw> && !ublk::batch_policy<answers_a_number>);

TEST(batch_policy, each_is_due_every_time) {
    for (unsigned waiting = 1; waiting < 100; ++waiting) {
        EXPECT_TRUE(ublk::each::due(waiting));
    }
}

TEST(batch_policy, per_wakeup_is_never_due) {
    for (unsigned waiting = 1; waiting < 5000; ++waiting) {
        EXPECT_FALSE(ublk::per_wakeup::due(waiting));
    }
}

TEST(batch_policy, up_to_is_due_once_so_many_wait) {
    EXPECT_TRUE(ublk::up_to<1>::due(1));
    for (unsigned waiting = 1; waiting < 100; ++waiting) {
        EXPECT_EQ(ublk::up_to<16>::due(waiting), waiting >= 16);
    }
}

}  // namespace
}  // namespace batch_policy_test
