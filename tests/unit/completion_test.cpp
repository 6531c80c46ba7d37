// SPDX-License-Identifier: MIT
#include <ublk/data/completion.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <system_error>

namespace completion_test {
namespace {

namespace uapi = ublk::uapi;

ublk::request request_of(uapi::op op, std::uint32_t sectors) {
    uapi::io_desc descriptor;
    descriptor.op_flags = static_cast<std::uint32_t>(op);
    descriptor.nr_sectors = sectors;
    return {descriptor, ublk::queue_id{1}, ublk::tag{5}};
}

TEST(driver_answer, is_the_full_length_of_what_carries_data) {
    EXPECT_EQ(driver_answer(request_of(uapi::op::read, 8), ublk::ok), 4096);
    EXPECT_EQ(driver_answer(request_of(uapi::op::write, 1), ublk::ok), 512);
}

TEST(driver_answer, is_zero_for_what_carries_none) {
    EXPECT_EQ(driver_answer(request_of(uapi::op::flush, 0), ublk::ok), 0);
    EXPECT_EQ(driver_answer(request_of(uapi::op::discard, 8), ublk::ok), 0);
    EXPECT_EQ(driver_answer(request_of(uapi::op::write_zeroes, 8), ublk::ok), 0);
}

TEST(driver_answer, is_the_negative_errno_of_what_failed) {
    for (const uapi::op op : {uapi::op::read, uapi::op::write, uapi::op::flush}) {
        EXPECT_EQ(driver_answer(request_of(op, 8), std::errc::no_space_on_device), -ENOSPC);
    }
}

}  // namespace
}  // namespace completion_test
