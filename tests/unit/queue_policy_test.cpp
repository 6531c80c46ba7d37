// SPDX-License-Identifier: MIT
#include <ublk/queue_policy/per_cpu.hpp>
#include <ublk/queue_policy/queue_policy.hpp>
#include <ublk/queue_policy/shared.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using ublk::queue_id;

static_assert(ublk::queue_policy<ublk::per_cpu> && ublk::queue_policy<ublk::shared>);
static_assert(sizeof(ublk::per_cpu) == 1 && sizeof(ublk::shared) == 1);

struct no_pinning {
    static constexpr bool one_queue_a_thread = true;
    static std::vector<std::vector<queue_id>> threads(unsigned) { return {}; }
};
struct decides_at_run_time : no_pinning {
    bool pinned = false;
};
static_assert(!ublk::queue_policy<no_pinning> && !ublk::queue_policy<decides_at_run_time>);

template <class Policy>
class queue_policies : public ::testing::Test {};
using every_policy = ::testing::Types<ublk::per_cpu, ublk::shared>;
TYPED_TEST_SUITE(queue_policies, every_policy);

TYPED_TEST(queue_policies, serve_every_queue_exactly_once) {
    for (const unsigned queues : {1u, 2u, 7u, 4096u}) {
        std::vector<unsigned> served(queues);
        for (const auto& shift : TypeParam::threads(queues)) {
            EXPECT_FALSE(shift.empty());
            for (const queue_id queue : shift) {
                ASSERT_LT(queue.value(), queues);
                ++served[queue.value()];
            }
        }
        EXPECT_EQ(std::count(served.begin(), served.end(), 1u),
                  static_cast<std::ptrdiff_t>(queues));
    }
}

TYPED_TEST(queue_policies, keep_their_word_about_one_queue_a_thread) {
    if (TypeParam::one_queue_a_thread) {
        for (const auto& shift : TypeParam::threads(9)) {
            EXPECT_EQ(shift.size(), 1u);
        }
    }
}

TEST(queue_policy, per_cpu_has_a_pinned_thread_a_queue) {
    EXPECT_EQ(ublk::per_cpu::threads(5).size(), 5u);
    EXPECT_TRUE(ublk::per_cpu::pinned);
}

TEST(queue_policy, shared_has_one_free_thread) {
    EXPECT_EQ(ublk::shared::threads(5).size(), 1u);
    EXPECT_FALSE(ublk::shared::pinned);
}

}  // namespace
