// SPDX-License-Identifier: MIT
#include <ublk/error.hpp>
#include <ublk/thread_set.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <exception>
#include <functional>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

namespace thread_set_test {
namespace {

/// The real kernel, with threads of which the third cannot be had.
struct failing_kernel : ublk::detail::linux_kernel {
    static inline std::function<void()> third{};
    static inline int made = 0;

    class thread : public std::thread {
    public:
        template <class Body>
        explicit thread(Body body)
            : std::thread{(++made == 3 ? third() : void(), std::move(body))} {}
    };
};

template <class Thrown>
void expect_thrown(std::function<void()> third) {
    failing_kernel::third = std::move(third);
    failing_kernel::made = 0;
    EXPECT_THROW(
        (ublk::basic_thread_set<failing_kernel>{ublk::thread_set_options{.threads = 4}, {}}),
        Thrown);
    EXPECT_EQ(failing_kernel::made, 3);
}

// The threads before it are told to leave and joined: a std::thread that is not ends the process.
TEST(thread_set, whatever_is_thrown_at_its_start_comes_out) {
    expect_thrown<ublk::error>([] { throw std::system_error{EAGAIN, std::generic_category()}; });
    expect_thrown<std::bad_alloc>([] { throw std::bad_alloc{}; });
    expect_thrown<int>([] { throw 1; });
}

}  // namespace
}  // namespace thread_set_test
