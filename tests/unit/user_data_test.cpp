// SPDX-License-Identifier: MIT
#include <ublk/kernel/user_data.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>

namespace token_test {
namespace {

using ublk::tag;
using ublk::token;

static_assert(token::io(3, tag{9}).place() == 3 && token::io(3, tag{9}).which() == tag{9});

TEST(token, place_and_tag_come_back_whole) {
    for (const unsigned place : {0u, 1u, 255u, 4095u, 0x7fffu, 0x8000u, 0xffffu}) {
        for (const unsigned which : {0u, 1u, 4095u, 0x7fffu, 0x8000u, 0xffffu}) {
            const token t = token::io(static_cast<std::uint16_t>(place),
                                      tag{static_cast<std::uint16_t>(which)});
            EXPECT_TRUE(t.is_io());
            EXPECT_EQ(t.place(), place);
            EXPECT_EQ(t.which().value(), which);
            EXPECT_EQ(token{t.raw()}, t);
        }
    }
}

TEST(token, the_layout_is_fixed) {
    EXPECT_EQ(token::io(0x1234, tag{0x5678}).raw(), 0x12345678u);
    EXPECT_EQ(token::wake().raw(), 1ull << 63);
}

TEST(token, housekeeping_is_told_from_requests_by_the_sign_bit) {
    EXPECT_FALSE(token::wake().is_io());
    EXPECT_TRUE(token{0}.is_io());
    EXPECT_TRUE(token{~0ull >> 1}.is_io());
    EXPECT_FALSE(token{~0ull}.is_io());
    EXPECT_NE(token::wake(), token::io(0, tag{0}));
    EXPECT_FALSE(token::nobody().is_io());
    EXPECT_NE(token::nobody(), token::wake());
}

TEST(token, an_operation_comes_back_by_its_address) {
    const ublk::operation on_the_stack;
    const auto on_the_heap = std::make_unique<const ublk::operation>();
    static const ublk::operation in_the_image;
    for (const ublk::operation* each : {&on_the_stack, on_the_heap.get(), &in_the_image}) {
        const token t = token::of(*each);
        EXPECT_TRUE(t.is_operation());
        EXPECT_FALSE(t.is_io());
        EXPECT_EQ(&t.which_operation(), each);
        EXPECT_EQ(token{t.raw()}, t);
    }
}

// With five levels of page tables a program may have addresses of 56 bits.
TEST(token, an_operation_may_lie_anywhere_where_programs_do) {
    for (const std::uint64_t address : {64ull, (1ull << 47) - 64, (1ull << 56) - 64}) {
        const token t = token::of(*reinterpret_cast<const ublk::operation*>(address));
        EXPECT_TRUE(t.is_operation());
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&t.which_operation()), address);
    }
}

TEST(token, nothing_else_looks_like_an_operation) {
    EXPECT_FALSE(token::wake().is_operation());
    EXPECT_FALSE(token::nobody().is_operation());
    EXPECT_FALSE(token::io(0xffff, tag{0xffff}).is_operation());
    EXPECT_FALSE(token{~0ull >> 1}.is_operation());
}

}  // namespace
}  // namespace token_test
