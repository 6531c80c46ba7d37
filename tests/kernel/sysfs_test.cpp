// SPDX-License-Identifier: MIT

// What a device was asked to be is what the rest of the system sees of it in sysfs.

#include "client.hpp"
#include "shell.hpp"

#include <ublk/backends/null.hpp>
#include <ublk/ublk.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>

namespace sysfs_test {
namespace {

using ublk_test::read_line;

constexpr std::uint64_t mebibyte = std::uint64_t{1} << 20;

// The largest bio, in whole sectors, and in whole pages as discards are counted.
constexpr std::uint64_t bio_sectors_bytes = 0xffff'fe00;
constexpr std::uint64_t bio_pages_bytes = 0xffff'f000;

template <class Device>
std::string attribute(const Device& disk, const std::string& name) {
    return read_line("/sys/block/ublkb" + std::to_string(disk.id()) + "/" + name);
}

template <class Device>
std::string queue_attribute(const Device& disk, const std::string& name) {
    return attribute(disk, "queue/" + name);
}

/// Start touches all tag buffers, which takes its time under emulation.
ublk::options few_tags() {
    ublk::options requested = ublk_test::patient();
    requested.depth = 4;
    return requested;
}

/// The parameters as the driver has them.
template <class Device>
ublk::uapi::params told(const Device& disk) {
    ublk::detail::control_commands<ublk::detail::linux_kernel> control{ublk::detail::linux_kernel{},
                                                                       ublk_test::patience};
    return control.get_params(disk.id());
}

template <class Device>
std::size_t hardware_queues(const Device& disk) {
    std::size_t count = 0;
    for (const auto& each : std::filesystem::directory_iterator{
             "/sys/block/ublkb" + std::to_string(disk.id()) + "/mq"}) {
        count += each.is_directory() ? 1u : 0u;
    }
    return count;
}

std::string text(std::uint64_t number) {
    return std::to_string(number);
}

/// The least that a disk can be.
struct plain {
    std::uint64_t size() const noexcept { return 16 * mebibyte; }
    ublk::result read(const ublk::request&, std::span<std::byte> out) noexcept {
        std::memset(out.data(), 0, out.size());
        return ublk::ok;
    }
    ublk::result write(const ublk::request&, std::span<const std::byte>) noexcept {
        return ublk::ok;
    }
};

struct in_segments : plain {
    static constexpr std::uint64_t segment_boundary = 65536;
    static constexpr std::uint32_t max_segment_size = 32768;
    static constexpr std::uint16_t max_segments = 7;
};

/// All that a disk can be, in run-time values.
struct everything : plain {
    std::uint32_t logical_block_size() const noexcept { return 1024; }
    std::uint32_t physical_block_size() const noexcept { return 8192; }
    std::uint32_t minimum_io_size() const noexcept { return 16384; }
    std::uint32_t optimal_io_size() const noexcept { return 65536; }
    bool read_only() const noexcept { return true; }
    bool rotational() const noexcept { return true; }
    bool volatile_cache() const noexcept { return true; }
    bool fua() const noexcept { return true; }
    std::uint32_t discard_granularity() const noexcept { return 32768; }
    std::uint32_t discard_alignment() const noexcept { return 8192; }
    std::uint64_t max_discard_size() const noexcept { return mebibyte; }
    std::uint64_t max_write_zeroes_size() const noexcept { return 2 * mebibyte; }
    ublk::result flush(const ublk::request&) noexcept { return ublk::ok; }
    ublk::result discard(const ublk::request&) noexcept { return ublk::ok; }
    ublk::result write_zeroes(const ublk::request&) noexcept { return ublk::ok; }
};

/// Values that fit nothing well: each is rounded down, never up.
struct odd : plain {
    std::uint64_t size() const noexcept { return 16 * mebibyte + 512; }
    static constexpr std::uint32_t physical_block_size = 4096;
    static constexpr std::uint32_t minimum_io_size = 512;  // below the physical block
    static constexpr std::uint32_t optimal_io_size = 1u << 28;
    static constexpr std::uint32_t discard_granularity = 65536;
    static constexpr std::uint64_t max_discard_size = 3 * 65536 + 4096 + 1;
    static constexpr std::uint64_t max_write_zeroes_size = 12345;
    ublk::result discard(const ublk::request&) noexcept { return ublk::ok; }
    ublk::result write_zeroes(const ublk::request&) noexcept { return ublk::ok; }
};

/// Offers one of the two operations that share a section of the parameters.
struct only_zeroes : plain {
    ublk::result write_zeroes(const ublk::request&) noexcept { return ublk::ok; }
};
struct only_discards : plain {
    ublk::result discard(const ublk::request&) noexcept { return ublk::ok; }
};

struct discards_pages : only_discards {
    static constexpr std::uint32_t discard_granularity = 4096;
};

struct cached : plain {
    ublk::result flush(const ublk::request&) noexcept { return ublk::ok; }
};

struct durable_at_once : cached {
    static constexpr bool volatile_cache = false;
};

struct pages_only : plain {
    static constexpr std::uint32_t logical_block_size = 4096;
};

class Sysfs : public ublk_test::on_a_clean_system {};

TEST_F(Sysfs, APlainBackendIsAPlainDisk) {
    ublk::device<plain> disk{plain{}, few_tags()};
    ASSERT_NO_THROW(disk.start());
    EXPECT_EQ(attribute(disk, "size"), text(16 * mebibyte / 512));
    EXPECT_EQ(attribute(disk, "ro"), "0");
    EXPECT_EQ(queue_attribute(disk, "logical_block_size"), "512");
    EXPECT_EQ(queue_attribute(disk, "physical_block_size"), "512");
    EXPECT_EQ(queue_attribute(disk, "minimum_io_size"), "512");
    EXPECT_EQ(queue_attribute(disk, "optimal_io_size"), "512");
    EXPECT_EQ(queue_attribute(disk, "rotational"), "0");
    EXPECT_EQ(queue_attribute(disk, "write_cache"), "write through");
    EXPECT_EQ(queue_attribute(disk, "fua"), "0");
    EXPECT_EQ(queue_attribute(disk, "discard_max_bytes"), "0");
    EXPECT_EQ(queue_attribute(disk, "discard_max_hw_bytes"), "0");
    EXPECT_EQ(queue_attribute(disk, "write_zeroes_max_bytes"), "0");
    // The device's own limit; what the kernel makes of it by default is never more.
    EXPECT_EQ(queue_attribute(disk, "max_hw_sectors_kb"), "256");
    EXPECT_EQ(queue_attribute(disk, "max_sectors_kb"), "256");
}

TEST_F(Sysfs, EveryTraitArrives) {
    ublk::device<everything> disk{everything{}, few_tags()};
    ASSERT_NO_THROW(disk.start());
    EXPECT_EQ(attribute(disk, "size"), text(16 * mebibyte / 512));
    EXPECT_EQ(attribute(disk, "ro"), "1");
    EXPECT_EQ(queue_attribute(disk, "logical_block_size"), "1024");
    EXPECT_EQ(queue_attribute(disk, "physical_block_size"), "8192");
    EXPECT_EQ(queue_attribute(disk, "minimum_io_size"), "16384");
    EXPECT_EQ(queue_attribute(disk, "optimal_io_size"), "65536");
    EXPECT_EQ(queue_attribute(disk, "rotational"), "1");
    EXPECT_EQ(queue_attribute(disk, "write_cache"), "write back");
    EXPECT_EQ(queue_attribute(disk, "fua"), "1");
    EXPECT_EQ(queue_attribute(disk, "discard_granularity"), "32768");
    // For a whole disk the kernel's attribute of that name shows another value (the alignment
    // offset), so the driver is asked what it was told.
    EXPECT_EQ(told(disk).discard.discard_alignment, 8192u);
    EXPECT_EQ(queue_attribute(disk, "discard_max_bytes"), text(mebibyte));
    EXPECT_EQ(queue_attribute(disk, "write_zeroes_max_bytes"), text(2 * mebibyte));
}

TEST_F(Sysfs, SegmentsAreLimitedAsTheBackendSays) {
    ublk::device<in_segments> disk{in_segments{}, few_tags()};
    disk.start();
    if (disk.info().driver_features &
        ublk::uapi::feature::auto_buf_reg) {  // 6.16; these are 6.15's
        EXPECT_EQ(queue_attribute(disk, "max_segments"), "7");
        EXPECT_EQ(queue_attribute(disk, "max_segment_size"), "32768");
        EXPECT_EQ(told(disk).seg.seg_boundary_mask, 65535u);
    } else {
        EXPECT_EQ(queue_attribute(disk, "max_segments"), "65535") << "as if nothing had been said";
    }
    disk.stop();
}

TEST_F(Sysfs, DescriptorsAreAsLargeAsAskedWhereTheDriverCan) {
    ublk::options requested = few_tags();
    requested.io_desc_size = 64;
    ublk::device<plain> disk{plain{}, requested};
    disk.start();
    const bool can = (disk.info().driver_features & ublk::uapi::feature::io_desc_size) != 0;
    EXPECT_EQ(disk.info().io_desc_size, can ? 64u : 24u);
    EXPECT_EQ(disk.info().fallbacks.size(), can ? 0u : 1u);
    disk.stop();
}

TEST_F(Sysfs, OddValuesAreRoundedDownAndNeverUp) {
    ublk::device<odd> disk{odd{}, few_tags()};
    ASSERT_NO_THROW(disk.start());
    EXPECT_EQ(attribute(disk, "size"), text(16 * mebibyte / 512 + 1));
    EXPECT_EQ(queue_attribute(disk, "physical_block_size"), "4096");
    // The block layer itself lifts it to the physical block.
    EXPECT_EQ(queue_attribute(disk, "minimum_io_size"), "4096");
    EXPECT_EQ(queue_attribute(disk, "optimal_io_size"), text(1u << 28));
    EXPECT_EQ(queue_attribute(disk, "discard_granularity"), "65536");
    EXPECT_EQ(queue_attribute(disk, "discard_max_bytes"), text(3 * 65536));
    EXPECT_EQ(queue_attribute(disk, "write_zeroes_max_bytes"), text(12288));
}

TEST_F(Sysfs, ABackendThatOnlyWritesZeroesOffersNoDiscard) {
    ublk::device<only_zeroes> disk{only_zeroes{}, few_tags()};
    ASSERT_NO_THROW(disk.start());
    EXPECT_EQ(queue_attribute(disk, "discard_max_bytes"), "0");
    EXPECT_EQ(queue_attribute(disk, "write_zeroes_max_bytes"), text(bio_sectors_bytes));
}

TEST_F(Sysfs, ABackendThatOnlyDiscardsOffersNoWriteZeroes) {
    ublk::device<only_discards> disk{only_discards{}, few_tags()};
    ASSERT_NO_THROW(disk.start());
    EXPECT_EQ(queue_attribute(disk, "discard_max_bytes"), text(bio_sectors_bytes));
    EXPECT_EQ(queue_attribute(disk, "write_zeroes_max_bytes"), "0");
}

TEST_F(Sysfs, DiscardsEndAtWholeGranules) {
    ublk::device<ublk::backends::null> disk{ublk::backends::null{16 * mebibyte}, few_tags()};
    ASSERT_NO_THROW(disk.start());
    EXPECT_EQ(queue_attribute(disk, "discard_max_bytes"), text(bio_sectors_bytes));
    disk.stop();

    ublk::device<discards_pages> coarse{discards_pages{}, few_tags()};
    ASSERT_NO_THROW(coarse.start());
    EXPECT_EQ(queue_attribute(coarse, "discard_granularity"), "4096");
    EXPECT_EQ(queue_attribute(coarse, "discard_max_bytes"), text(bio_pages_bytes));
}

TEST_F(Sysfs, AFlushFunctionMakesAWriteBackCacheUnlessTheBackendSaysNo) {
    ublk::device<cached> disk{cached{}, few_tags()};
    ASSERT_NO_THROW(disk.start());
    EXPECT_EQ(queue_attribute(disk, "write_cache"), "write back");
    EXPECT_EQ(queue_attribute(disk, "fua"), "0");
    ublk::device<durable_at_once> durable{durable_at_once{}, few_tags()};
    ASSERT_NO_THROW(durable.start());
    EXPECT_EQ(queue_attribute(durable, "write_cache"), "write through");
}

TEST_F(Sysfs, TheLogicalBlockSizeIsThePhysicalOneWhereNobodySaysOtherwise) {
    ublk::device<pages_only> disk{pages_only{}, few_tags()};
    ASSERT_NO_THROW(disk.start());
    EXPECT_EQ(attribute(disk, "size"), text(16 * mebibyte / 512)) << "sysfs counts 512-byte units";
    EXPECT_EQ(queue_attribute(disk, "logical_block_size"), "4096");
    EXPECT_EQ(queue_attribute(disk, "physical_block_size"), "4096");
    EXPECT_EQ(queue_attribute(disk, "minimum_io_size"), "4096");
    EXPECT_EQ(queue_attribute(disk, "optimal_io_size"), "4096");
}

TEST_F(Sysfs, MaxIoBytesIsTheLimitOfARequest) {
    struct expected {
        std::uint32_t requested;
        std::uint32_t granted;
    };
    for (const expected each :
         {expected{4096, 4096}, expected{65536, 65536}, expected{100'000, 98'304},
          expected{1u << 20, 1u << 20}, expected{32u << 20, 32u << 20}}) {
        SCOPED_TRACE(each.requested);
        ublk::options requested = ublk_test::patient();
        requested.max_io_bytes = each.requested;
        requested.queues = 1;
        requested.depth = 2;
        ublk::device<plain> disk{plain{}, requested};
        ASSERT_NO_THROW(disk.start());
        EXPECT_EQ(disk.info().max_io_bytes, each.granted);
        EXPECT_EQ(queue_attribute(disk, "max_hw_sectors_kb"), text(each.granted / 1024));
        const std::uint64_t soft = std::stoull(queue_attribute(disk, "max_sectors_kb"));
        // Above this limit of its own the block layer splits unless an administrator raises it:
        // 1280 KiB until 6.15, 4 MiB since.
        EXPECT_LE(soft, each.granted / 1024);
        EXPECT_GE(soft, std::min(each.granted / 1024, 1280u));
    }
}

TEST_F(Sysfs, QueuesAndDepthAreThoseThatWereGranted) {
    for (const unsigned queues : {1u, 2u, 4u}) {
        for (const unsigned depth : {1u, 3u, 128u}) {
            SCOPED_TRACE(testing::Message() << queues << " queues of " << depth);
            ublk::options requested = ublk_test::patient();
            requested.queues = queues;
            requested.depth = depth;
            requested.max_io_bytes = 4096;
            ublk::device<plain> disk{plain{}, requested};
            ASSERT_NO_THROW(disk.start());
            EXPECT_EQ(disk.info().queues, std::min(queues, ublk::detail::online_cpus()));
            EXPECT_EQ(disk.info().depth, depth);
            EXPECT_EQ(hardware_queues(disk), disk.info().queues);
            EXPECT_EQ(attribute(disk, "mq/0/nr_tags"), text(depth));
        }
    }
}

TEST_F(Sysfs, TheRequestsOfTheBlockLayerAreTheTagsOfAQueue) {
    ublk::options requested = ublk_test::patient();
    requested.queues = 2;
    requested.depth = 33;
    requested.max_io_bytes = 4096;
    ublk::device<plain> disk{plain{}, requested};
    ASSERT_NO_THROW(disk.start());
    ASSERT_TRUE(ublk_test::write_text(
        "/sys/block/ublkb" + std::to_string(disk.id()) + "/queue/scheduler", "none"));
    EXPECT_EQ(queue_attribute(disk, "nr_requests"), "33");
}

TEST_F(Sysfs, EachQueueCarriesItsOwnCpus) {
    if (ublk::detail::online_cpus() < 2) {
        GTEST_SKIP() << "one CPU has but one queue";
    }
    ublk::options requested = ublk_test::patient();
    requested.queues = 2;
    requested.depth = 4;
    ublk::device<plain> disk{plain{}, requested};
    ASSERT_NO_THROW(disk.start());
    const std::string first = attribute(disk, "mq/0/cpu_list");
    const std::string second = attribute(disk, "mq/1/cpu_list");
    EXPECT_FALSE(first.empty());
    EXPECT_FALSE(second.empty());
    EXPECT_NE(first, second);
}

TEST_F(Sysfs, AStoppedDeviceIsGone) {
    ublk::device<plain> disk{plain{}, few_tags()};
    ASSERT_NO_THROW(disk.start());
    const std::string directory = "/sys/block/ublkb" + std::to_string(disk.id());
    EXPECT_TRUE(std::filesystem::exists(directory));
    ASSERT_NO_THROW(disk.stop());
    EXPECT_FALSE(std::filesystem::exists(directory));
    EXPECT_FALSE(std::filesystem::exists(disk.path()));
    EXPECT_FALSE(std::filesystem::exists(disk.char_path()));
}

}  // namespace
}  // namespace sysfs_test
