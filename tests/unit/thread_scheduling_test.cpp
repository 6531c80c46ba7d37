// SPDX-License-Identifier: MIT
#include <ublk/kernel/thread_scheduling.hpp>

#include <gtest/gtest.h>

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <thread>

namespace thread_scheduling_test {
namespace {

using ublk::detail::sched_attributes;
using ublk::detail::take_sched_batch;

[[nodiscard]] sched_attributes of_this_thread() {
    sched_attributes mine;
    EXPECT_EQ(::syscall(SYS_sched_getattr, 0, &mine, sizeof mine, 0), 0);
    return mine;
}

/// What a thread with such attributes has after `take_sched_batch`.
[[nodiscard]] sched_attributes after(sched_attributes before) {
    sched_attributes found;
    std::thread{[&] {
        EXPECT_EQ(::syscall(SYS_sched_setattr, 0, &before, 0), 0);
        take_sched_batch();
        found = of_this_thread();
    }}.join();
    return found;
}

TEST(take_sched_batch, changes_an_ordinary_thread_and_no_other) {
    const sched_attributes outside = of_this_thread();
    EXPECT_EQ(after({.policy = SCHED_OTHER}).policy, static_cast<unsigned>(SCHED_BATCH));
    EXPECT_EQ(of_this_thread().policy, outside.policy);
}

TEST(take_sched_batch, keeps_nice_value_flags_and_time_slice) {
    constexpr std::uint64_t reset_on_fork = 1, slice_ns = 2'000'000;
    const sched_attributes made =
        after({.policy = SCHED_OTHER, .flags = reset_on_fork, .nice = 3, .runtime = slice_ns});
    EXPECT_EQ(made.policy, static_cast<unsigned>(SCHED_BATCH));
    EXPECT_EQ(made.nice, 3);
    EXPECT_EQ(made.flags & reset_on_fork, reset_on_fork);
    // Linux has time slices of threads since 6.12; before it takes the value for nothing.
    if (made.runtime != 0) {
        EXPECT_EQ(made.runtime, slice_ns);
    }
}

TEST(take_sched_batch, leaves_a_policy_that_somebody_chose) {
    EXPECT_EQ(after({.policy = SCHED_IDLE}).policy, static_cast<unsigned>(SCHED_IDLE));
    EXPECT_EQ(after({.policy = SCHED_BATCH, .nice = 2}).nice, 2);
}

}  // namespace
}  // namespace thread_scheduling_test
