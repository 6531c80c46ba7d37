// SPDX-License-Identifier: MIT
#include "../support/child.hpp"

#include <ublk/kernel/linux_kernel.hpp>

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <string>

namespace linux_kernel_test {
namespace {

TEST(linux_kernel_test, TellsTheRunningVersion) {
    utsname name{};
    ASSERT_EQ(::uname(&name), 0);
    const std::string release{name.release};
    const std::string text = ublk::detail::linux_kernel{}.version().text();
    EXPECT_EQ(release.substr(0, text.size()), text);
    EXPECT_GT(ublk::detail::linux_kernel{}.version().major, 2u);
    const std::string rest = release.substr(text.size(), 1);
    EXPECT_TRUE(rest.empty() || rest == "-" || rest == "+" || release.starts_with(text + ".0"))
        << text << " of " << release;
}

TEST(linux_kernel_test, AMissingModuleIsNamedWithItsRemedy) {
    try {
        ublk::detail::control_missing(ENOENT);
    } catch (const ublk::error& missing) {
        const std::string text = missing.what();
        EXPECT_NE(text.find("/dev/ublk-control"), std::string::npos);
        EXPECT_NE(text.find("modprobe ublk_drv"), std::string::npos);
    }
    EXPECT_THROW(ublk::detail::control_missing(EACCES), ublk::error);
    EXPECT_THROW(ublk::detail::control_missing(EMFILE), ublk::error);
}

TEST(linux_kernel_test, AChannelThatNeverAppearsEndsAtItsDeadline) {
    const auto began = std::chrono::steady_clock::now();
    constexpr std::uint32_t nobody = 1'000'000;
    try {
        const auto channel = ublk::detail::linux_kernel{}.open_channel(
            nobody, began + std::chrono::milliseconds{30});
        FAIL() << "opened /dev/ublkc1000000";
    } catch (const ublk::error& missing) {
        EXPECT_EQ(missing.errno_value(), ENOENT);
        EXPECT_EQ(missing.device(), nobody);
    }
    const auto took = std::chrono::steady_clock::now() - began;
    EXPECT_GE(took, std::chrono::milliseconds{30});
    EXPECT_LT(took, std::chrono::minutes{5});
}

TEST(linux_kernel_test, AWakerWakesAPort) {
    const ublk::detail::linux_kernel::wakeup wakeup;
    wakeup.wake();
    wakeup.wake();
    eventfd_t value = 0;
    ASSERT_EQ(::eventfd_read(wakeup.file(), &value), 0);
    EXPECT_EQ(value, 2u);
}

// Something in the program closed descriptors that it had not opened. A command cannot be answered
// then, and its deadline need not pass before that is known.
TEST(linux_kernel_test, ACommandEndsAtOnceWhereItsRingIsGone) {
    EXPECT_EQ(ublk_test::in_child([] {
                  auto* const control = new ublk::detail::linux_kernel::control{
                      ublk::fd{::open("/dev/null", O_RDWR | O_CLOEXEC)}};
                  ublk::detail::control_command command;
                  ::close_range(3, ~0u, 0);
                  const auto began = std::chrono::steady_clock::now();
                  const int answer = control->finish(control->begin(command), command,
                                                     began + std::chrono::minutes{10});
                  const bool soon =
                      std::chrono::steady_clock::now() - began < std::chrono::minutes{5};
                  return answer == -EBADF && soon ? 0 : 1;
              }),
              0);
}

TEST(linux_kernel_test, ABellWithoutItsEventfdDoesNotSpin) {
    EXPECT_EQ(ublk_test::in_child([] {
                  auto* const wakeup_event = new ublk::detail::linux_wakeup_event;
                  ::close(wakeup_event->file());
                  rusage before{}, after{};
                  ::getrusage(RUSAGE_SELF, &before);
                  for (int i = 0; i < 20; ++i) {
                      wakeup_event->wait();
                  }
                  ::getrusage(RUSAGE_SELF, &after);
                  return after.ru_nvcsw - before.ru_nvcsw >= 20 ? 0 : 1;  // it has slept each time
              }),
              0);
}

}  // namespace
}  // namespace linux_kernel_test
