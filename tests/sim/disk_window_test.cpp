// SPDX-License-Identifier: MIT
#include <ublk/sim/disk_window.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <set>
#include <vector>

namespace disk_window_test {
namespace {

using ublk::sim::disk_window;
using ranges = std::vector<disk_window::range>;

TEST(disk_window, is_all_of_a_small_disk) {
    EXPECT_EQ(disk_window{1000}.ranges(), (ranges{{0, 1000}}));
    EXPECT_EQ(disk_window::parts_of(1).ranges(), (ranges{{0, 1}}));
    EXPECT_EQ(disk_window::parts_of(512).ranges(), (ranges{{0, 512}}));
}

TEST(disk_window, is_the_begin_the_end_and_a_power_of_two_of_a_large_one) {
    EXPECT_EQ(disk_window::parts_of(1u << 17).ranges(),
              (ranges{{0, 128}, {(1u << 16) - 64, 128}, {(1u << 17) - 128, 128}}));
    const std::uint64_t five = std::uint64_t{5} << 21;  // GiB, in blocks of 512
    EXPECT_EQ(disk_window::parts_of(five).ranges()[1],
              (disk_window::range{(std::uint64_t{4} << 21) - 64, 128}));
}

/// Whatever the size: as many blocks, within the disk, each in one range.
TEST(disk_window, is_as_large_for_every_large_disk) {
    const std::vector<std::uint64_t> sizes{
        513,  514,  575,  576,  577,        640,
        1023, 1024, 1025, 1150, (1u << 31), std::numeric_limits<std::uint64_t>::max() >> 9};
    for (const std::uint64_t blocks : sizes) {
        const disk_window some = disk_window::parts_of(blocks);
        EXPECT_EQ(some.blocks(), 384u) << blocks;
        std::uint64_t end = 0, index = 0;
        for (const disk_window::range& each : some.ranges()) {
            EXPECT_GE(each.first, end) << blocks;
            end = each.first + each.blocks;
            for (std::uint64_t i = 0; i < each.blocks; ++i, ++index) {
                EXPECT_EQ(some.index_of(each.first + i), index) << blocks;
            }
        }
        EXPECT_EQ(end, blocks);
    }
}

TEST(disk_window, places_requests_within_one_range) {
    const disk_window some = disk_window::parts_of(1u << 20);
    std::set<std::uint64_t> reached;
    for (std::uint64_t index = 0; index < some.blocks(); ++index) {
        const std::uint64_t block = some.place(index, 16);
        EXPECT_TRUE(some.holds(block, 16)) << index;
        for (std::uint64_t i = 0; i < 16; ++i) {
            reached.insert(block + i);
        }
    }
    EXPECT_EQ(reached.size(), some.blocks());
    EXPECT_FALSE(some.holds(120, 16));
    EXPECT_FALSE(some.holds(1000, 1));
    EXPECT_FALSE(some.holds(0, ~std::uint64_t{0}));
}

TEST(disk_window, has_a_begin) {
    EXPECT_EQ(disk_window::parts_of(1u << 20).begin(24).ranges(), (ranges{{0, 24}}));
    EXPECT_EQ(disk_window{8}.begin(24).ranges(), (ranges{{0, 8}}));
}

}  // namespace
}  // namespace disk_window_test
