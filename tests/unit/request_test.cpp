// SPDX-License-Identifier: MIT
#include <ublk/request.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <type_traits>

namespace request_test {
namespace {

using ublk::queue_id;
using ublk::request;
using ublk::tag;
namespace uapi = ublk::uapi;
namespace flag = ublk::uapi::io_flag;

static_assert(std::is_trivially_copyable_v<request> && sizeof(request) <= 24);

constexpr request with(std::uint32_t op_flags, std::uint64_t sector = 0,
                       std::uint32_t sectors = 0) {
    return request{uapi::io_desc{op_flags, sectors, sector, 0}, queue_id{3}, tag{11}};
}

TEST(request, a_descriptor_is_read_in_bytes) {
    constexpr request r = with(static_cast<std::uint32_t>(uapi::op::write), 8, 16);
    EXPECT_EQ(r.op(), uapi::op::write);
    EXPECT_EQ(r.offset(), 4096u);
    EXPECT_EQ(r.length(), 8192u);
    EXPECT_EQ(r.queue(), queue_id{3});
    EXPECT_EQ(r.tag(), tag{11});
    EXPECT_EQ(r.flags(), 0u);
}

TEST(request, offsets_beyond_4_gib_do_not_wrap) {
    EXPECT_EQ(with(0, 1ull << 23).offset(), 1ull << 32);
    EXPECT_EQ(with(0, (1ull << 32) + 1).offset(), (1ull << 41) + 512);
    EXPECT_EQ(with(0, (1ull << 54) - 1).offset(), (1ull << 63) - 512);
}

TEST(request, discards_beyond_2_gib_do_not_wrap) {
    constexpr auto discard = static_cast<std::uint32_t>(uapi::op::discard);
    EXPECT_EQ(with(discard, 0, 1u << 22).length(), 1ull << 31);
    EXPECT_EQ(with(discard, 0, 8388607).length(), (1ull << 32) - 512);
    EXPECT_EQ(with(discard, 0, 0xffffffff).length(), 0xffffffffull * 512);
}

// The bits lie where the kernel has them: a shift by 8 is the mistake of the kernel's own helper.
TEST(request, flags_are_not_shifted) {
    constexpr auto write = static_cast<std::uint32_t>(uapi::op::write);
    EXPECT_TRUE(with(write | 1u << 8).failfast_device());
    EXPECT_TRUE(with(write | 1u << 9).failfast_transport());
    EXPECT_TRUE(with(write | 1u << 10).failfast_driver());
    EXPECT_TRUE(with(write | 1u << 11).meta());
    EXPECT_TRUE(with(write | 1u << 13).fua());
    EXPECT_TRUE(with(write | 1u << 15).no_unmap());
    EXPECT_TRUE(with(write | 1u << 16).swap());
    EXPECT_EQ(with(write | flag::fua | flag::meta).flags(), flag::fua | flag::meta);
}

TEST(request, every_flag_stands_for_itself_alone) {
    for (unsigned bit = 8; bit < 32; ++bit) {
        const request r = with(1u << bit);
        EXPECT_EQ(r.op(), uapi::op::read);
        EXPECT_EQ(r.flags(), 1u << bit);
        EXPECT_EQ(r.failfast_device(), bit == 8);
        EXPECT_EQ(r.failfast_transport(), bit == 9);
        EXPECT_EQ(r.failfast_driver(), bit == 10);
        EXPECT_EQ(r.meta(), bit == 11);
        EXPECT_EQ(r.fua(), bit == 13);
        EXPECT_EQ(r.no_unmap(), bit == 15);
        EXPECT_EQ(r.swap(), bit == 16);
    }
}

TEST(request, operations_are_no_flags) {
    const request r = with(0xff);
    EXPECT_EQ(r.flags(), 0u);
    EXPECT_EQ(static_cast<unsigned>(r.op()), 0xffu);
    EXPECT_EQ(with(0xffffff02).op(), uapi::op::flush);
}

}  // namespace
}  // namespace request_test
