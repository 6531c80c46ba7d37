// SPDX-License-Identifier: MIT
#include <ublk/data/batch_counter.hpp>
#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/wait.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <string>
#include <type_traits>

namespace wait_test {
namespace {

using namespace std::chrono_literals;
namespace waits = ublk::waits;
using ublk::loop_timing;

/// Says what it is asked for, and when there is something.
struct port {
    std::string calls{};
    unsigned events_after_looks = 0;  ///< ready() says yes after so many
    bool at_once = false;             ///< the first poll brings an event
    int answer = 0;
    mutable std::chrono::steady_clock::time_point time{};

    int wait() noexcept {
        calls += "wait ";
        return answer;
    }
    int poll() noexcept {
        calls += "poll ";
        return answer;
    }
    [[nodiscard]] bool has_events() const noexcept { return at_once; }
    [[nodiscard]] bool ready() noexcept {
        time += 1us;
        return events_after_looks == 0 || --events_after_looks == 0;
    }
    [[nodiscard]] std::chrono::steady_clock::time_point now() const noexcept { return time; }
};

TEST(waits, block_asks_the_kernel_once) {
    port p;
    EXPECT_EQ(waits::block::wait(p, loop_timing{}), 0);
    EXPECT_EQ(p.calls, "wait ");
}

template <class W>
class spinning : public ::testing::Test {};
using spinning_ones = ::testing::Types<waits::spin, waits::spin_then_block>;
TYPED_TEST_SUITE(spinning, spinning_ones);

TYPED_TEST(spinning, takes_what_is_there_at_once) {
    port p;
    p.at_once = true;
    EXPECT_EQ(TypeParam::wait(p, loop_timing{.spin = 1s}), 0);
    EXPECT_EQ(p.calls, "poll ");
}

TYPED_TEST(spinning, looks_until_there_is_something) {
    port p;
    p.events_after_looks = 1000;
    EXPECT_EQ(TypeParam::wait(p, loop_timing{.spin = 1s}), 0);
    EXPECT_EQ(p.calls, "poll poll ");
}

TYPED_TEST(spinning, passes_a_failure_on) {
    port p;
    p.answer = -EBADF;
    EXPECT_EQ(TypeParam::wait(p, loop_timing{.spin = 1s}), -EBADF);
    EXPECT_EQ(p.calls, "poll ");
}

TEST(waits, spin_then_block_sleeps_once_its_time_is_over) {
    port p;
    p.events_after_looks = 1'000'000;
    EXPECT_EQ(waits::spin_then_block::wait(p, loop_timing{.spin = 200us}), 0);
    EXPECT_EQ(p.calls, "poll wait ");
    EXPECT_GE(p.time.time_since_epoch(), 200us);
    EXPECT_LE(p.time.time_since_epoch(), 250us);
}

TEST(waits, spin_never_sleeps) {
    port p;
    p.events_after_looks = 5'000'000;
    EXPECT_EQ(waits::spin::wait(p, loop_timing{}), 0);
    EXPECT_EQ(p.calls, "poll poll ");
}

static_assert(std::is_empty_v<ublk::detail::batch_counter<ublk::per_wakeup>>,
              "what is never due costs nothing");

TEST(batch_counter, asks_the_policy_at_each) {
    const port p;
    ublk::detail::batch_counter<ublk::up_to<3>> three;
    EXPECT_FALSE(three.another(p, loop_timing{}));
    EXPECT_FALSE(three.another(p, loop_timing{}));
    EXPECT_TRUE(three.another(p, loop_timing{}));
    three.gone();
    EXPECT_FALSE(three.another(p, loop_timing{}));
    ublk::detail::batch_counter<ublk::each> all;
    EXPECT_TRUE(all.another(p, loop_timing{}));
}

TEST(batch_counter, within_a_delay_goes_by_the_age_of_the_first) {
    const port p;
    const loop_timing limits{.batch_delay = 20us};
    ublk::detail::batch_counter<ublk::within> some;
    EXPECT_FALSE(some.another(p, limits));
    p.time += 15us;
    EXPECT_FALSE(some.another(p, limits));
    p.time += 5us;
    EXPECT_TRUE(some.another(p, limits));
    some.gone();
    p.time += 1h;
    EXPECT_FALSE(some.another(p, limits)) << "the next first one is young again";
    EXPECT_TRUE(some.another(p, loop_timing{})) << "without patience each goes at once";
}

}  // namespace
}  // namespace wait_test
