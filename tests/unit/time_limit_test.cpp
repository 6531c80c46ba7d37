// SPDX-License-Identifier: MIT
#include <ublk/time_limit.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <limits>

namespace time_limit_test {
namespace {

using namespace std::chrono_literals;
using std::chrono::hours;
using std::chrono::milliseconds;
using ublk::no_deadline;
using ublk::time_limit;
using clock = std::chrono::steady_clock;

TEST(time_limit, takes_any_duration) {
    EXPECT_EQ(time_limit{5s}, time_limit{5000ms});
    EXPECT_EQ(milliseconds{time_limit{2min}}, 120'000ms);
    EXPECT_EQ(milliseconds{time_limit{1ns}}, 1ms) << "what is positive stays so";
    EXPECT_EQ(milliseconds{time_limit{std::chrono::duration<double>{0.25}}}, 250ms);
    EXPECT_LT(time_limit{5s}, time_limit{6s});
    EXPECT_GT(no_deadline, time_limit{hours{24 * 365}});
}

TEST(time_limit, knows_which_are_none) {
    EXPECT_TRUE(no_deadline.unlimited());
    EXPECT_TRUE(time_limit{milliseconds::max()}.unlimited());
    EXPECT_TRUE(time_limit{hours::max()}.unlimited());
    EXPECT_TRUE(time_limit{hours{24 * 365 * 300}}.unlimited());
    EXPECT_TRUE(time_limit{std::chrono::duration<double>{std::numeric_limits<double>::infinity()}}
                    .unlimited());
    EXPECT_FALSE(time_limit{hours{24 * 365 * 99}}.unlimited());
}

TEST(time_limit, tells_what_is_no_limit_at_all) {
    EXPECT_TRUE(time_limit{1ms}.positive());
    EXPECT_TRUE(no_deadline.positive());
    for (const time_limit bad :
         {time_limit{0ms}, time_limit{-1ms}, time_limit{hours::min()},
          time_limit{std::chrono::duration<double>{std::numeric_limits<double>::quiet_NaN()}}}) {
        EXPECT_FALSE(bad.positive()) << milliseconds{bad}.count();
        EXPECT_FALSE(bad.unlimited());
    }
}

TEST(time_limit, ends_at_a_time_that_the_clock_can_tell) {
    const clock::time_point now = clock::now();
    EXPECT_EQ(time_limit{5s}.after(now), now + 5s);
    EXPECT_EQ(no_deadline.after(now), clock::time_point::max());
    EXPECT_EQ(time_limit{99 * 8766h}.after(now), now + 99 * 8766h);
    EXPECT_EQ(time_limit{99 * 8766h}.after(clock::time_point::max() - 1h),
              clock::time_point::max());
}

}  // namespace
}  // namespace time_limit_test
