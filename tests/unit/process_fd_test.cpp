// SPDX-License-Identifier: MIT
#include "../support/child.hpp"

#include <ublk/detail/process.hpp>
#include <ublk/detail/process_fd.hpp>
#include <ublk/kernel/ring.hpp>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <string_view>
#include <utility>

namespace process_fd_test {
namespace {

using ublk::detail::process_fd;
using ublk::detail::this_process;
using ublk_test::in_child;

ublk::fd something() {
    return ublk::fd{::open("/dev/null", O_RDWR | O_CLOEXEC)};
}

bool open_here(int number) {
    return ::fcntl(number, F_GETFD) != -1;
}

TEST(this_process_names, each_process_by_another_number) {
    const std::uint64_t here = this_process();
    EXPECT_NE(here, 0u);
    EXPECT_EQ(this_process(), here);
    EXPECT_EQ(in_child([&] {
                  const std::uint64_t child = this_process();
                  const int grandchild = in_child(
                      [&] { return this_process() != child && this_process() != here ? 0 : 1; });
                  return child != here && child != 0 && child == this_process() ? grandchild : 2;
              }),
              0);
    EXPECT_EQ(this_process(), here);
}

TEST(process_fd, is_closed_in_a_child_and_stays_open_here) {
    const process_fd mine{something()};
    const int number = mine.get();
    EXPECT_EQ(in_child([&] { return open_here(number) ? 1 : 0; }), 0);
    EXPECT_TRUE(open_here(number));
}

// The number may mean another file of the child's by then.
TEST(process_fd, a_copy_in_a_child_closes_nothing) {
    EXPECT_EQ(in_child([] {
                  auto* const mine = new process_fd{something()};
                  const int number = mine->get();
                  return in_child([&] {
                      if (::dup2(STDERR_FILENO, number) != number) {
                          return 1;
                      }
                      delete mine;
                      return open_here(number) ? 0 : 2;
                  });
              }),
              0);
}

TEST(process_fd, what_was_closed_here_is_not_closed_in_a_child) {
    int number = -1;
    {
        process_fd mine{something()};
        number = mine.get();
        const process_fd moved{std::move(mine)};
    }
    EXPECT_FALSE(open_here(number));
    ASSERT_EQ(::dup2(STDERR_FILENO, number), number);
    EXPECT_EQ(in_child([&] { return open_here(number) ? 0 : 1; }), 0);
    ::close(number);
}

TEST(process_fd, closed_for_good_its_number_means_no_file_any_more) {
    int number = -1;
    {
        process_fd mine{something()};
        number = mine.get();
        mine.close_for_good();
    }
    char byte = 0;
    EXPECT_EQ(::pread(number, &byte, 1, 0), -1);
    EXPECT_EQ(errno, EBADF);
    EXPECT_NE(something().get(), number);
    EXPECT_TRUE(open_here(number));
    ::close(number);
}

// A ring in a child would keep what its parent has registered with it.
TEST(process_fd, a_ring_is_left_to_the_process_that_made_it) {
    ublk::detail::ring* const made = new ublk::detail::ring{ublk::detail::ring::kind::queue, 4};
    const auto rings = [] {
        int all = 0;
        for (int number = 0; number < 256; ++number) {
            char link[64];
            char target[64] = "";
            (void)std::snprintf(link, sizeof link, "/proc/self/fd/%d", number);
            all += ::readlink(link, target, sizeof target - 1) > 0 &&
                           std::string_view{target}.find("io_uring") != std::string_view::npos
                       ? 1
                       : 0;
        }
        return all;
    };
    const int here = rings();
    EXPECT_GE(here, 1);
    EXPECT_EQ(in_child([&] {
                  if (rings() != 0) {
                      return 1;
                  }
                  delete made;
                  return 0;
              }),
              0);
    EXPECT_EQ(rings(), here);
    delete made;
    EXPECT_EQ(rings(), here - 1);
}

// liburing has the number twice.
TEST(process_fd, a_ring_works_where_the_standard_streams_are_closed) {
    EXPECT_EQ(in_child([] {
                  ::close(0);
                  ::close(1);
                  ublk::detail::ring made{ublk::detail::ring::kind::control, 4};
                  if (open_here(0) || open_here(1)) {
                      return 1;
                  }
                  made.cancel(std::uint64_t{1}, 2);
                  int answer = 0;
                  const int code = made.submit_and_wait();
                  made.drain([&](std::uint64_t, int outcome, std::uint32_t) { answer = outcome; });
                  return code == 0 && answer == -ENOENT ? 0 : 2;
              }),
              0);
}

}  // namespace
}  // namespace process_fd_test
