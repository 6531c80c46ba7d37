// SPDX-License-Identifier: MIT
// What may become of a case, for cases.py to tell: see CMakeLists.txt.
#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

TEST(odd, passes) {}
TEST(odd, fails) { EXPECT_EQ(1, 2) << "one is not two"; }
TEST(odd, crashes) { std::abort(); }
TEST(odd, is_skipped) { GTEST_SKIP() << "for a reason"; }
TEST(odd, hangs) { ::sleep(1000); }
TEST(odd, prints_half_a_line) { std::printf("half a line"); }
TEST(odd, leaves) { ::_exit(0); }
TEST(odd, expects_a_death) { EXPECT_DEATH(std::abort(), ""); }
TEST(odd, is_the_last) {}
