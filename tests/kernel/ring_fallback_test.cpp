// SPDX-License-Identifier: MIT
// The data plane on rings that grant less than it asks for: older kernels and sandboxes do that.
#include "../support/ring_setup.hpp"
#include "client.hpp"

#include <ublk/backends/memory.hpp>
#include <ublk/ublk.hpp>

#include <gtest/gtest.h>

#include <fcntl.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace ring_fallback_test {
namespace {

class ring_fallback_test : public testing::TestWithParam<unsigned> {
protected:
    void SetUp() override {
        ring_setup_verdict = [](unsigned flags) { return (flags & GetParam()) != 0 ? -EINVAL : 0; };
    }
    void TearDown() override { ring_setup_verdict = nullptr; }
};

TEST_P(ring_fallback_test, TheDiskWorksAllTheSame) {
    constexpr std::size_t bytes = 1 << 20;
    ublk::device<ublk::backends::memory> disk{ublk::backends::memory{16 * bytes},
                                              ublk_test::patient()};
    disk.start();
    EXPECT_EQ(disk.info().ring_flags & GetParam(), 0u);

    const auto free_it = [](std::byte* p) { std::free(p); };
    const std::unique_ptr<std::byte, decltype(free_it)> written{
        static_cast<std::byte*>(std::aligned_alloc(4096, bytes)), free_it};
    const std::unique_ptr<std::byte, decltype(free_it)> read{
        static_cast<std::byte*>(std::aligned_alloc(4096, bytes)), free_it};
    for (std::size_t i = 0; i < bytes; ++i) {
        written.get()[i] = static_cast<std::byte>(i * 7 + i / 4096);
    }
    {
        const ublk::fd file{::open(disk.path().c_str(), O_RDWR | O_DIRECT | O_CLOEXEC)};
        ASSERT_TRUE(file);
        ASSERT_EQ(::pwrite(file.get(), written.get(), bytes, bytes), ssize_t{bytes});
        ASSERT_EQ(::pread(file.get(), read.get(), bytes, bytes), ssize_t{bytes});
    }
    EXPECT_EQ(std::memcmp(written.get(), read.get(), bytes), 0);
    disk.stop();
    EXPECT_EQ(disk.state(), ublk::device_state::idle);
}

INSTANTIATE_TEST_SUITE_P(OlderKernels, ring_fallback_test,
                         testing::Values(0u, unsigned{IORING_SETUP_DEFER_TASKRUN},
                                         unsigned{IORING_SETUP_DEFER_TASKRUN} |
                                             unsigned{IORING_SETUP_COOP_TASKRUN}));

}  // namespace
}  // namespace ring_fallback_test
