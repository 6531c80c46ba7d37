// SPDX-License-Identifier: MIT
#include <ublk/backends/segments.hpp>

#include <ublk/sim/random.hpp>

#include <gtest/gtest.h>

#include <range/v3/algorithm/equal.hpp>
#include <range/v3/range/concepts.hpp>
#include <range/v3/view/reverse.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <type_traits>
#include <vector>

namespace segments_test {
namespace {

using ublk::segment;
using ublk::segments;
using ublk::share;
using ublk::shares;

static_assert(ranges::random_access_range<segments> && ranges::sized_range<const segments>);
static_assert(ranges::random_access_range<shares> && ranges::view_<segments>);
static_assert(std::is_trivially_copyable_v<segments> && std::is_trivially_copyable_v<shares>);

// Constant expressions.
constexpr segments three{1000, 8000, 4096, 2};
static_assert(three.size() == 3);
static_assert(three[0] == segment{0, 1000, 0, 3096});
static_assert(three[1] == segment{1, 0, 3096, 4096});
static_assert(three[2] == segment{0, 4096, 7192, 808});
constexpr shares two{1000, 8000, 4096, 2};
static_assert(two.size() == 2);
static_assert(two[0] == share{0, 1000, 3904});
static_assert(two[1] == share{1, 0, 4096});
static_assert(segments{}.size() == 0 && shares{}.size() == 0);

// Byte by byte, from what RAID 0 means.
struct where {
    std::size_t member;
    std::uint64_t offset;
};
where naive(std::uint64_t byte, std::uint64_t chunk, std::size_t members) {
    where now{0, 0};
    const std::uint64_t number = byte / chunk;
    now.member = static_cast<std::size_t>(number % members);
    now.offset = number / members * chunk + byte % chunk;
    return now;
}

struct layout {
    std::uint64_t offset, length, chunk;
    std::size_t members;
};

void expect_segments(const layout& l) {
    std::uint64_t done = 0;
    std::uint64_t last_chunk = ~std::uint64_t{0};
    for (const segment each : segments{l.offset, l.length, l.chunk, l.members}) {
        ASSERT_EQ(each.from, done) << "they follow each other";
        ASSERT_GT(each.bytes, 0u);
        for (std::uint64_t i = 0; i < each.bytes; ++i) {
            const where right = naive(l.offset + done + i, l.chunk, l.members);
            ASSERT_EQ(each.member, right.member);
            ASSERT_EQ(each.offset + i, right.offset);
        }
        ASSERT_NE((l.offset + done) / l.chunk, last_chunk) << "no more pieces than chunks";
        last_chunk = (l.offset + done) / l.chunk;
        done += each.bytes;
    }
    ASSERT_EQ(done, l.length);
}

void expect_shares(const layout& l) {
    std::map<std::size_t, std::vector<std::uint64_t>> right;
    for (std::uint64_t i = 0; i < l.length; ++i) {
        const where byte = naive(l.offset + i, l.chunk, l.members);
        right[byte.member].push_back(byte.offset);
    }
    std::size_t seen = 0;
    for (const share each : shares{l.offset, l.length, l.chunk, l.members}) {
        ++seen;
        const std::vector<std::uint64_t>& places = right[each.member];
        ASSERT_EQ(places.size(), each.bytes);
        for (std::uint64_t i = 0; i < each.bytes; ++i) {
            ASSERT_EQ(places[i], each.offset + i) << "contiguous on the member";
        }
    }
    ASSERT_EQ(seen, right.size()) << "each member that is touched, once";
}

TEST(segments, agree_with_a_map_of_all_bytes) {
    ublk::sim::random draw{1};
    for (int i = 0; i < 20'000 && !HasFatalFailure(); ++i) {
        const layout l{draw.below(300), draw.below(200), std::uint64_t{1} << draw.below(7),
                       static_cast<std::size_t>(1 + draw.below(7))};
        SCOPED_TRACE(testing::Message() << l.offset << "+" << l.length << ", chunk " << l.chunk
                                        << ", members " << l.members);
        expect_segments(l);
        expect_shares(l);
    }
}

TEST(segments, of_all_small_requests_are_right) {
    for (std::uint64_t offset = 0; offset < 17; ++offset) {
        for (std::uint64_t length = 0; length < 17; ++length) {
            for (std::size_t members = 1; members < 5; ++members) {
                expect_segments({offset, length, 4, members});
                expect_shares({offset, length, 4, members});
            }
        }
    }
}

TEST(segments, of_a_huge_disk_do_not_overflow) {
    constexpr std::uint64_t chunk = std::uint64_t{1} << 16;
    constexpr std::uint64_t end = std::uint64_t{1} << 63;
    const segments last{end - 3 * chunk / 2, 3 * chunk / 2, chunk, 3};
    ASSERT_EQ(last.size(), 2u);
    EXPECT_EQ(last[0].bytes, chunk / 2);
    EXPECT_EQ(last[1].bytes, chunk);
    EXPECT_EQ(last[1].member, (end / chunk - 1) % 3);
    EXPECT_EQ(last[1].offset, (end / chunk - 1) / 3 * chunk);

    // What a discard may cover is as large as the disk.
    const shares all{0, end - chunk, chunk, 3};
    ASSERT_EQ(all.size(), 3u);
    EXPECT_EQ(all[0].bytes + all[1].bytes + all[2].bytes, end - chunk);
}

TEST(segments, are_a_range_in_both_directions) {
    const segments forwards{100, 1000, 64, 3};
    std::vector<segment> pieces(forwards.begin(), forwards.end());
    ASSERT_EQ(pieces.size(), forwards.size());
    std::vector<segment> backwards;
    for (const segment each : forwards | ranges::views::reverse) {
        backwards.insert(backwards.begin(), each);
    }
    EXPECT_EQ(pieces, backwards);
    for (std::uint64_t i = 0; i < forwards.size(); ++i) {
        EXPECT_EQ(pieces[i], forwards[i]);
    }
    EXPECT_EQ(forwards.front(), pieces.front());
    EXPECT_EQ(forwards.back(), pieces.back());
    EXPECT_TRUE(ranges::equal(forwards, pieces));
}

TEST(segments, outlive_the_view_in_their_iterators) {
    const auto second = segments{100, 1000, 64, 3}.begin() + 1;
    EXPECT_EQ(*second, (segment{2, 0, 28, 64}));
}

TEST(segments, of_one_chunk_or_one_member_are_few) {
    EXPECT_EQ((segments{4096, 4096, 4096, 5}.size()), 1u);
    EXPECT_EQ((segments{4097, 4096, 4096, 5}.size()), 2u);
    EXPECT_EQ((shares{0, 1u << 20, 4096, 1}.size()), 1u);
    EXPECT_EQ((shares{512, 1u << 20, 4096, 1}[0]), (share{0, 512, 1u << 20}));
    EXPECT_EQ((segments{512, 0, 4096, 3}.size()), 0u);
    EXPECT_EQ((shares{512, 0, 4096, 3}.size()), 0u);
}

}  // namespace
}  // namespace segments_test
