// SPDX-License-Identifier: MIT
#include "../support/child.hpp"

#include <ublk/detail/fd.hpp>

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
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

// What is printed in a process that was started without them would land in the file.
TEST(fd, is_none_of_the_standard_streams) {
    EXPECT_EQ(ublk_test::in_child([] {
                  for (int stream = 0; stream <= 2; ++stream) {
                      ::close(stream);
                  }
                  const fd file{some_file()};
                  const bool flagged = (::fcntl(file.get(), F_GETFD) & FD_CLOEXEC) != 0;
                  const bool free = !is_open(0) && !is_open(1) && !is_open(2);
                  return file.get() > 2 && flagged && free ? 0 : 1;
              }),
              0);
}

TEST(fd, is_empty_where_no_number_is_left_above_them) {
    EXPECT_EQ(ublk_test::in_child([] {
                  ::close(0);
                  const rlimit few{3, 3};
                  ::setrlimit(RLIMIT_NOFILE, &few);
                  const fd file{some_file()};
                  return !file && errno != 0 && !is_open(0) ? 0 : 1;
              }),
              0);
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
