// SPDX-License-Identifier: MIT
#include <ublk/units.hpp>

#include <gtest/gtest.h>

#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace units_test {
namespace {

using ublk::queue_id;
using ublk::tag;

// A number, a tag and a queue never stand in for each other.
static_assert(!std::convertible_to<std::uint16_t, tag> && !std::convertible_to<tag, std::uint16_t>);
static_assert(!std::convertible_to<tag, queue_id> && !std::constructible_from<queue_id, tag>);
static_assert(!std::equality_comparable_with<tag, queue_id>);
static_assert(sizeof(tag) == 2 && sizeof(queue_id) == 2);
static_assert(std::is_trivially_copyable_v<tag> && std::is_trivially_copyable_v<queue_id>);

TEST(units, a_sector_is_512_bytes_whatever_the_disk_says) {
    EXPECT_EQ(ublk::sectors_to_bytes(1), 512u);
    EXPECT_EQ(ublk::sectors_to_bytes(0), 0u);
    EXPECT_EQ(ublk::sectors_to_bytes(std::uint64_t{1} << 31), std::uint64_t{1} << 40);
}

TEST(units, bytes_to_sectors_drops_what_is_no_whole_sector) {
    EXPECT_EQ(ublk::bytes_to_sectors(511), 0u);
    EXPECT_EQ(ublk::bytes_to_sectors(512), 1u);
    EXPECT_EQ(ublk::bytes_to_sectors(1023), 1u);
    EXPECT_TRUE(ublk::is_sector_aligned(0));
    EXPECT_TRUE(ublk::is_sector_aligned(1024));
    EXPECT_FALSE(ublk::is_sector_aligned(1023));
}

TEST(units, sectors_survive_the_way_to_bytes_and_back) {
    for (const std::uint64_t sectors : {0ull, 1ull, 7ull, (1ull << 32) + 1, (1ull << 55) - 1}) {
        EXPECT_EQ(ublk::bytes_to_sectors(ublk::sectors_to_bytes(sectors)), sectors);
    }
}

TEST(units, tags_and_queues_keep_their_number_and_order) {
    EXPECT_EQ(tag{}.value(), 0);
    EXPECT_EQ(queue_id{}.value(), 0);
    EXPECT_EQ(tag{4095}.value(), 4095);
    EXPECT_EQ(queue_id{65535}.value(), 65535);
    EXPECT_EQ(tag{3}, tag{3});
    EXPECT_LT(tag{3}, tag{4});
    EXPECT_GT(queue_id{1}, queue_id{0});
}

TEST(units, powers_of_two_are_recognised) {
    EXPECT_FALSE(ublk::is_power_of_two(0));
    EXPECT_FALSE(ublk::is_power_of_two(3));
    EXPECT_FALSE(ublk::is_power_of_two(std::numeric_limits<std::uint64_t>::max()));
    for (std::uint8_t shift = 0; shift < 64; ++shift) {
        const std::uint64_t power = std::uint64_t{1} << shift;
        EXPECT_TRUE(ublk::is_power_of_two(power));
        EXPECT_EQ(ublk::shift_of(power), shift);
    }
}

TEST(units, rounding_lands_on_the_nearest_multiple) {
    for (const std::uint64_t power : {1u, 8u, 512u, 4096u}) {
        for (std::uint64_t value = 0; value < 3 * power; ++value) {
            const std::uint64_t up = ublk::round_up(value, power);
            const std::uint64_t down = ublk::round_down(value, power);
            ASSERT_EQ(up % power, 0u);
            ASSERT_EQ(down % power, 0u);
            ASSERT_TRUE(down <= value && value <= up && up - down <= power);
            ASSERT_EQ(up == down, value % power == 0);
        }
    }
}

}  // namespace
}  // namespace units_test
