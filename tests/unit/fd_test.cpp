// SPDX-License-Identifier: MIT
#include <ublk/fd.hpp>

#include <gtest/gtest.h>

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <type_traits>
#include <utility>

namespace fd_test {
namespace {

using ublk::fd;

static_assert(!std::is_copy_constructible_v<fd> && !std::is_copy_assignable_v<fd>);
static_assert(std::is_nothrow_move_constructible_v<fd> && std::is_nothrow_move_assignable_v<fd>);

int some_file() {
    return ::open("/dev/null", O_RDONLY | O_CLOEXEC);
}

bool is_open(int number) {
    return ::fcntl(number, F_GETFD) >= 0;
}

TEST(fd, an_empty_one_owns_nothing) {
    EXPECT_FALSE(fd{});
    EXPECT_EQ(fd{}.get(), -1);
    EXPECT_FALSE(fd{-1});
}

TEST(fd, zero_is_a_descriptor_like_any_other) {
    EXPECT_EXIT(
        {
            { fd input(0); }
            std::_Exit(is_open(0) ? 1 : 0);
        },
        ::testing::ExitedWithCode(0), "");
}

TEST(fd, the_end_closes) {
    const int number = some_file();
    {
        const fd file{number};
        EXPECT_TRUE(file);
        EXPECT_EQ(file.get(), number);
        EXPECT_TRUE(is_open(number));
    }
    EXPECT_FALSE(is_open(number));
}

TEST(fd, moving_hands_over) {
    const int number = some_file();
    fd first{number};
    fd second{std::move(first)};
    EXPECT_FALSE(first);
    EXPECT_EQ(second.get(), number);
    EXPECT_TRUE(is_open(number));
}

TEST(fd, assigning_closes_what_was_there) {
    const int one = some_file();
    const int two = some_file();
    fd first{one};
    fd second{two};
    first = std::move(second);
    EXPECT_FALSE(is_open(one));
    EXPECT_EQ(first.get(), two);
    EXPECT_FALSE(second);
    first = fd{};
    EXPECT_FALSE(is_open(two));
}

TEST(fd, assigning_to_itself_keeps_it) {
    const int number = some_file();
    fd file{number};
    fd& same = file;
    file = std::move(same);
    EXPECT_EQ(file.get(), number);
    EXPECT_TRUE(is_open(number));
}

}  // namespace
}  // namespace fd_test
