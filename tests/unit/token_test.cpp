// SPDX-License-Identifier: MIT
#include <ublk/token.hpp>

#include <gtest/gtest.h>

#include <cstdint>

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
}

}  // namespace
