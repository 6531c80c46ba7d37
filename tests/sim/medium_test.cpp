// SPDX-License-Identifier: MIT
#include <ublk/sim/cached_disk.hpp>
#include <ublk/sim/medium.hpp>

#include <ublk/backend.hpp>
#include <ublk/sim/random.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <stdexcept>
#include <vector>

namespace medium_test {
namespace {

using ublk::sim::cached_disk;
using ublk::sim::medium;
using bytes = std::vector<std::byte>;
namespace uapi = ublk::uapi;

static_assert(ublk::backend<cached_disk> && ublk::check_backend<cached_disk>());

constexpr std::uint32_t block_size = 512;

bytes of(int value, std::size_t blocks = 1) {
    return bytes(blocks * block_size, static_cast<std::byte>(value));
}

bytes content(const medium& m, std::uint64_t block, std::size_t blocks = 1) {
    bytes found = of(0xee, blocks);
    m.read(block * block_size, found);
    return found;
}

// What block 0 may hold after a power cut, by its first byte.
template <class Story>
std::set<int> outcomes(const Story& story) {
    std::set<int> seen;
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        medium m{4 * block_size, block_size};
        story(m);
        ublk::sim::random dice{seed};
        m.power_cut(dice);
        const bytes found = content(m, 0);
        EXPECT_EQ(found, of(std::to_integer<int>(found[0])));
        seen.insert(std::to_integer<int>(found[0]));
    }
    return seen;
}

TEST(medium, stores_bytes) {
    medium m{8 * block_size, block_size};
    EXPECT_EQ(m.size(), 8 * block_size);
    EXPECT_EQ(m.block_size(), block_size);
    EXPECT_EQ(content(m, 0, 8), of(0, 8));
    m.write(2 * block_size, of(1, 3));
    m.write_through(3 * block_size, of(2));
    m.zero(4 * block_size, block_size);
    EXPECT_EQ(content(m, 1), of(0));
    EXPECT_EQ(content(m, 2), of(1));
    EXPECT_EQ(content(m, 3), of(2));
    EXPECT_EQ(content(m, 4, 4), of(0, 4));
    m.write(0, {});
    m.write_through(0, {});
    m.read(0, {});
}

TEST(medium, refuses_what_cannot_be) {
    EXPECT_THROW((medium{1000, 512}), std::invalid_argument);
    EXPECT_THROW((medium{1024, 0}), std::invalid_argument);
}

TEST(medium, loses_at_most_what_was_not_synced) {
    EXPECT_EQ(outcomes([](medium& m) { m.write(0, of(1)); }), (std::set<int>{0, 1}));
    EXPECT_EQ(outcomes([](medium& m) {
                  m.write(0, of(1));
                  m.sync();
              }),
              (std::set<int>{1}));
    EXPECT_EQ(outcomes([](medium& m) {
                  m.write(0, of(1));
                  m.sync();
                  m.write(0, of(2));
                  m.zero(0, block_size);
              }),
              (std::set<int>{0, 1, 2}));
    EXPECT_EQ(outcomes([](medium& m) {
                  for (int i = 1; i < 9; ++i) {
                      m.write(0, of(i));
                  }
              }),
              (std::set<int>{0, 6, 7, 8}));
}

TEST(medium, writes_through) {
    EXPECT_EQ(outcomes([](medium& m) { m.write_through(0, of(1)); }), (std::set<int>{1}));
    EXPECT_EQ(outcomes([](medium& m) {
                  m.write(0, of(1, 4));
                  m.write_through(0, of(2));
              }),
              (std::set<int>{2}));
    EXPECT_EQ(outcomes([](medium& m) {
                  m.write(0, of(1, 4));
                  m.write_through(block_size, of(2, 2));
                  m.write(2 * block_size, of(3));
              }),
              (std::set<int>{0, 1}));
    EXPECT_EQ(outcomes([](medium& m) {
                  m.write(0, of(1));
                  m.zero_through(0, block_size);
              }),
              (std::set<int>{0}));
    EXPECT_EQ(outcomes([](medium& m) {
                  m.write_through(0, of(1));
                  m.write(0, of(2));
              }),
              (std::set<int>{1, 2}));
}

TEST(medium, decides_for_each_block_alone) {
    std::set<bytes> seen;
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        medium m{2 * block_size, block_size};
        m.write(0, of(1, 2));
        ublk::sim::random dice{seed};
        m.power_cut(dice);
        seen.insert(content(m, 0, 2));
    }
    EXPECT_EQ(seen.size(), 4u);
}

TEST(medium, holds_one_version_for_good_after_a_power_cut) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        medium m{block_size, block_size};
        m.write(0, of(1));
        ublk::sim::random dice{seed};
        m.power_cut(dice);
        const bytes found = content(m, 0);
        m.power_cut(dice);
        EXPECT_EQ(content(m, 0), found);
    }
}

TEST(medium, does_not_change_while_it_is_frozen) {
    medium m{4 * block_size, block_size};
    m.write(0, of(1));
    EXPECT_FALSE(m.frozen());
    m.freeze();
    EXPECT_TRUE(m.frozen());
    m.write(0, of(2));
    m.write_through(0, of(3));
    m.zero(0, block_size);
    m.zero_through(0, block_size);
    EXPECT_EQ(content(m, 0), of(1));
    m.thaw();
    m.write(block_size, of(4));
    EXPECT_EQ(content(m, 1), of(4));
    ublk::sim::random dice{1};
    m.power_cut(dice);
    EXPECT_TRUE(m.frozen()) << "there is no power";
}

TEST(medium, does_not_sync_while_it_is_frozen) {
    EXPECT_EQ(outcomes([](medium& m) {
                  m.write(0, of(1));
                  m.freeze();
                  m.sync();
              }),
              (std::set<int>{0, 1}));
}

ublk::request asking(uapi::op op, std::uint64_t block, std::uint32_t blocks, bool fua = false) {
    const std::uint32_t flags = fua ? uapi::io_flag::fua : 0;
    return ublk::request{uapi::io_desc{static_cast<std::uint32_t>(op) | flags, blocks, block, 0},
                         ublk::queue_id{0}, ublk::tag{0}};
}

TEST(cached_disk, describes_itself) {
    const cached_disk disk{std::make_shared<medium>(1u << 20, 4096)};
    const ublk::disk_attributes shape = ublk::attributes_of(disk);
    EXPECT_NO_THROW(ublk::validate(shape, 4096));
    EXPECT_EQ(shape.size, 1u << 20);
    EXPECT_EQ(shape.logical_block_size, 4096u);
    EXPECT_TRUE(shape.volatile_cache);
    EXPECT_TRUE(shape.fua);
    EXPECT_TRUE(shape.discards);
    EXPECT_NE(shape.max_write_zeroes_size, 0u);
}

TEST(cached_disk, does_what_it_is_asked) {
    const auto store = std::make_shared<medium>(8 * block_size, block_size);
    cached_disk disk{store};
    bytes found = of(9, 2);
    EXPECT_TRUE(disk.write(asking(uapi::op::write, 1, 4), of(1, 4)).ok());
    EXPECT_TRUE(disk.discard(asking(uapi::op::discard, 2, 1)).ok());
    EXPECT_TRUE(disk.write_zeroes(asking(uapi::op::write_zeroes, 4, 1)).ok());
    EXPECT_TRUE(disk.read(asking(uapi::op::read, 3, 2), found).ok());
    EXPECT_EQ(content(*store, 1), of(1));
    EXPECT_EQ(content(*store, 2), of(0));
    bytes expected = of(1);
    expected.resize(2 * block_size);
    EXPECT_EQ(found, expected);
}

TEST(cached_disk, keeps_what_was_flushed_or_written_through) {
    using operation = void (*)(cached_disk&);
    const auto after = [](operation then) {
        return outcomes([&](medium& m) {
            cached_disk disk{std::shared_ptr<medium>{&m, [](medium*) {}}};
            (void)disk.write(asking(uapi::op::write, 0, 1), of(1));
            then(disk);
        });
    };
    EXPECT_EQ(after([](cached_disk&) {}), (std::set<int>{0, 1}));
    EXPECT_EQ(after([](cached_disk& d) { (void)d.flush(asking(uapi::op::flush, 0, 0)); }),
              (std::set<int>{1}));
    EXPECT_EQ(
        after([](cached_disk& d) { (void)d.write(asking(uapi::op::write, 0, 1, true), of(2)); }),
        (std::set<int>{2}));
    EXPECT_EQ(after([](cached_disk& d) {
                  (void)d.write_zeroes(asking(uapi::op::write_zeroes, 0, 1, true));
              }),
              (std::set<int>{0}));
}

}  // namespace
}  // namespace medium_test
