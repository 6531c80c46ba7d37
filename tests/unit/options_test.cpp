// SPDX-License-Identifier: MIT
#include <ublk/options.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <functional>
#include <string>

namespace options_test {
namespace {

using namespace std::chrono_literals;
using ublk::options;

// What a change of the defaults is refused with; empty where it is taken.
std::string refusal(const std::function<void(options&)>& change, std::size_t page = 4096) {
    options requested;
    change(requested);
    try {
        ublk::validate(requested, page);
    } catch (const ublk::error& e) {
        EXPECT_EQ(e.errno_value(), EINVAL);
        EXPECT_EQ(e.command(), "checking the options");
        EXPECT_FALSE(e.remedy().empty());
        return std::string{e.cause()};
    }
    return {};
}

TEST(options, defaults_are_taken) {
    EXPECT_EQ(refusal([](auto&) {}), "");
    EXPECT_EQ(refusal([](auto&) {}, 65536), "");
}

TEST(options, may_be_given_by_name) {
    const options requested{.id = 3, .queues = 2, .depth = 64};
    EXPECT_EQ(requested.id, 3u);
    EXPECT_TRUE(requested.partition_scan);
    EXPECT_FALSE(requested.lock_buffers);
}

TEST(options, the_drivers_limits_are_taken) {
    EXPECT_EQ(refusal([](auto& o) { o.id = 0; }), "");
    EXPECT_EQ(refusal([](auto& o) { o.id = 1048575; }), "");
    EXPECT_EQ(refusal([](auto& o) { o.queues = 4096; }), "");
    EXPECT_EQ(refusal([](auto& o) { o.depth = 1; }), "");
    EXPECT_EQ(refusal([](auto& o) { o.depth = 4096; }), "");
    EXPECT_EQ(refusal([](auto& o) { o.max_io_bytes = 4096; }), "");
    EXPECT_EQ(refusal([](auto& o) { o.max_io_bytes = 32u << 20; }), "");
    EXPECT_EQ(refusal([](auto& o) { o.command_deadline = o.stop_deadline = 1ms; }), "");
    EXPECT_EQ(refusal([](auto& o) { o.threads = 4096; }), "");
    EXPECT_EQ(refusal([](auto& o) { o.cpus = {8191}; }), "");
    EXPECT_EQ(refusal([](auto& o) { o.spin = o.batch_delay = 0ns; }), "");
}

TEST(options, descriptors_are_as_large_as_the_driver_takes_them) {
    for (const unsigned bytes : {0u, 24u, 32u, 64u, 128u, 256u}) {
        EXPECT_EQ(refusal([=](auto& o) { o.io_desc_size = static_cast<std::uint16_t>(bytes); }), "")
            << bytes;
    }
    for (const unsigned bytes : {1u, 8u, 16u, 28u, 63u, 264u, 65528u}) {
        EXPECT_EQ(refusal([=](auto& o) { o.io_desc_size = static_cast<std::uint16_t>(bytes); }),
                  "io_desc_size is " + std::to_string(bytes));
    }
}

TEST(options, what_is_beyond_them_is_refused_by_name) {
    EXPECT_EQ(refusal([](auto& o) { o.id = 1048576; }), "id is 1048576");
    EXPECT_EQ(refusal([](auto& o) { o.id = 0xffffffff; }), "id is 4294967295");
    EXPECT_EQ(refusal([](auto& o) { o.queues = 4097; }), "queues is 4097");
    EXPECT_EQ(refusal([](auto& o) { o.queues = 65537; }), "queues is 65537");
    EXPECT_EQ(refusal([](auto& o) { o.depth = 0; }), "depth is 0");
    EXPECT_EQ(refusal([](auto& o) { o.depth = 4097; }), "depth is 4097");
    EXPECT_EQ(refusal([](auto& o) { o.depth = 65537; }), "depth is 65537");
    EXPECT_EQ(refusal([](auto& o) { o.max_io_bytes = 0; }), "max_io_bytes is 0");
    EXPECT_EQ(refusal([](auto& o) { o.max_io_bytes = 4095; }), "max_io_bytes is 4095");
    EXPECT_EQ(refusal([](auto& o) { o.max_io_bytes = (32u << 20) + 1; }),
              "max_io_bytes is 33554433");
    EXPECT_EQ(refusal([](auto& o) { o.max_io_bytes = 4096; }, 65536), "max_io_bytes is 4096");
    EXPECT_EQ(refusal([](auto& o) { o.threads = 4097; }), "threads is 4097");
    EXPECT_EQ(refusal([](auto& o) { o.cpus = {0, 8192}; }), "cpus has 8192");
    const std::string times = "a time that threads go by is out of range";
    EXPECT_EQ(refusal([](auto& o) { o.spin = -1ns; }), times);
    EXPECT_EQ(refusal([](auto& o) { o.batch_delay = -1ns; }), times);
    EXPECT_EQ(refusal([](auto& o) { o.sqpoll_idle = 0ms; }), times);
    EXPECT_EQ(refusal([](auto& o) { o.sqpoll_idle = 2h; }), times);
    for (const auto bad : {0ms, -1ms}) {
        EXPECT_EQ(refusal([=](auto& o) { o.command_deadline = bad; }),
                  "a deadline is not positive");
        EXPECT_EQ(refusal([=](auto& o) { o.stop_deadline = bad; }), "a deadline is not positive");
    }
}

}  // namespace
}  // namespace options_test
