// SPDX-License-Identifier: MIT
#include <ublk/kernel/user_data.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>

namespace user_data_test {
namespace {

using ublk::tag;
using ublk::detail::user_data;

static_assert(user_data::io(3, tag{9}).queue_index() == 3 &&
              user_data::io(3, tag{9}).tag() == tag{9});

TEST(user_data, place_and_tag_come_back_whole) {
    for (const unsigned queue_index : {0u, 1u, 255u, 4095u, 0x7fffu, 0x8000u, 0xffffu}) {
        for (const unsigned which : {0u, 1u, 4095u, 0x7fffu, 0x8000u, 0xffffu}) {
            const user_data t = user_data::io(static_cast<std::uint16_t>(queue_index),
                                              tag{static_cast<std::uint16_t>(which)});
            EXPECT_TRUE(t.is_io());
            EXPECT_EQ(t.queue_index(), queue_index);
            EXPECT_EQ(t.tag().value(), which);
            EXPECT_EQ(user_data{t.raw()}, t);
        }
    }
}

TEST(user_data, the_layout_is_fixed) {
    EXPECT_EQ(user_data::io(0x1234, tag{0x5678}).raw(), 0x12345678u);
    EXPECT_EQ(user_data::wake().raw(), 1ull << 63);
}

TEST(user_data, housekeeping_is_told_from_requests_by_the_sign_bit) {
    EXPECT_FALSE(user_data::wake().is_io());
    EXPECT_TRUE(user_data{0}.is_io());
    EXPECT_TRUE(user_data{~0ull >> 1}.is_io());
    EXPECT_FALSE(user_data{~0ull}.is_io());
    EXPECT_NE(user_data::wake(), user_data::io(0, tag{0}));
    EXPECT_FALSE(user_data::nobody().is_io());
    EXPECT_NE(user_data::nobody(), user_data::wake());
}

TEST(user_data, an_operation_comes_back_by_its_address) {
    const ublk::detail::operation on_the_stack;
    const auto on_the_heap = std::make_unique<const ublk::detail::operation>();
    static const ublk::detail::operation in_the_image;
    for (const ublk::detail::operation* each : {&on_the_stack, on_the_heap.get(), &in_the_image}) {
        const user_data t = user_data::of(*each);
        EXPECT_TRUE(t.is_operation());
        EXPECT_FALSE(t.is_io());
        EXPECT_EQ(&t.operation_of(), each);
        EXPECT_EQ(user_data{t.raw()}, t);
    }
}

// With five levels of page tables a program may have addresses of 56 bits.
TEST(user_data, an_operation_may_lie_anywhere_where_programs_do) {
    for (const std::uint64_t address : {64ull, (1ull << 47) - 64, (1ull << 56) - 64}) {
        const user_data t =
            user_data::of(*reinterpret_cast<const ublk::detail::operation*>(address));
        EXPECT_TRUE(t.is_operation());
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&t.operation_of()), address);
    }
}

TEST(user_data, nothing_else_looks_like_an_operation) {
    EXPECT_FALSE(user_data::wake().is_operation());
    EXPECT_FALSE(user_data::nobody().is_operation());
    EXPECT_FALSE(user_data::io(0xffff, tag{0xffff}).is_operation());
    EXPECT_FALSE(user_data{~0ull >> 1}.is_operation());
}

}  // namespace
}  // namespace user_data_test
