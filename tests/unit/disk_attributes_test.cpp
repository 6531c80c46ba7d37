// SPDX-License-Identifier: MIT
#include <ublk/disk_attributes.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <string>

namespace disk_attributes_test {
namespace {

using ublk::disk_attributes;
using ublk::to_params;
namespace uapi = ublk::uapi;
namespace attr = ublk::uapi::attr;
namespace param_type = ublk::uapi::param_type;

constexpr std::uint32_t page = 4096;
constexpr std::uint64_t gib = 1ull << 30;

disk_attributes good() {
    disk_attributes disk;
    disk.size = gib;
    return disk;
}

// What a change of a good disk is refused with; empty where it is taken.
std::string refusal(const std::function<void(disk_attributes&)>& change,
                    std::uint32_t page_size = page) {
    disk_attributes disk = good();
    change(disk);
    try {
        ublk::validate(disk, page_size);
    } catch (const ublk::error& e) {
        EXPECT_EQ(e.errno_value(), EINVAL);
        EXPECT_EQ(e.command(), "checking the backend's attributes");
        EXPECT_FALSE(e.remedy().empty());
        return std::string{e.cause()};
    }
    return {};
}

TEST(validate_attributes, takes_a_plain_disk) {
    EXPECT_EQ(refusal([](auto&) {}), "");
}

TEST(validate_attributes, takes_what_the_driver_takes_at_its_limits) {
    EXPECT_EQ(refusal([](auto& d) {
                  d.logical_block_size = page;
                  d.physical_block_size = 1u << 28;
                  d.minimum_io_size = 1u << 28;
                  d.optimal_io_size = page;
                  d.discards = true;
                  d.discard_granularity = 1u << 28;
                  d.max_discard_size = 1u << 28;
                  d.size = (1ull << 63) - page;
              }),
              "");
    EXPECT_EQ(refusal(
                  [](auto& d) {
                      d.logical_block_size = d.physical_block_size = d.minimum_io_size =
                          d.optimal_io_size = 65536;
                  },
                  65536),
              "");
}

TEST(validate_attributes, refuses_block_sizes_by_name) {
    for (const std::uint32_t bad : {0u, 1u, 256u, 513u, 4097u, 8192u}) {
        EXPECT_EQ(refusal([=](auto& d) { d.logical_block_size = bad; }),
                  "logical_block_size is " + std::to_string(bad));
    }
    for (const std::uint32_t bad : {0u, 256u, 1000u, 1u << 29, 0xffffffffu}) {
        EXPECT_EQ(refusal([=](auto& d) { d.physical_block_size = bad; }),
                  "physical_block_size is " + std::to_string(bad));
        EXPECT_EQ(refusal([=](auto& d) { d.minimum_io_size = bad; }),
                  "minimum_io_size is " + std::to_string(bad));
        EXPECT_EQ(refusal([=](auto& d) { d.optimal_io_size = bad; }),
                  "optimal_io_size is " + std::to_string(bad));
    }
}

TEST(validate_attributes, refuses_a_block_size_below_the_logical_one) {
    const auto with = [](std::uint32_t disk_attributes::*which) {
        return refusal([=](disk_attributes& d) {
            d.logical_block_size = d.physical_block_size = 4096;
            d.minimum_io_size = d.optimal_io_size = 4096;
            d.*which = 512;
        });
    };
    EXPECT_EQ(with(&disk_attributes::physical_block_size), "physical_block_size is 512");
    EXPECT_EQ(with(&disk_attributes::minimum_io_size), "minimum_io_size is 512");
    EXPECT_EQ(with(&disk_attributes::optimal_io_size), "optimal_io_size is 512");
}

TEST(validate_attributes, the_remedy_names_the_range) {
    disk_attributes disk = good();
    disk.logical_block_size = 3;
    try {
        ublk::validate(disk, page);
        FAIL();
    } catch (const ublk::error& e) {
        EXPECT_EQ(e.remedy(), "return a power of two from 512 to 4096");
    }
}

TEST(validate_attributes, refuses_sizes_that_are_no_whole_blocks) {
    EXPECT_EQ(refusal([](auto& d) { d.size = 0; }), "size is 0 bytes");
    EXPECT_EQ(refusal([](auto& d) { d.size = gib + 1; }), "size is 1073741825 bytes");
    EXPECT_EQ(refusal([](auto& d) {
                  d.size = gib + 512;
                  d.logical_block_size = d.physical_block_size = 4096;
                  d.minimum_io_size = d.optimal_io_size = 4096;
              }),
              "size is 1073742336 bytes");
}

TEST(validate_attributes, refuses_sizes_beyond_a_signed_offset) {
    EXPECT_EQ(refusal([](auto& d) { d.size = 1ull << 63; }), "size is beyond 2^63 - 1 bytes");
    EXPECT_EQ(refusal([](auto& d) { d.size = ~0ull - 511; }), "size is beyond 2^63 - 1 bytes");
}

TEST(validate_attributes, refuses_fua_without_a_volatile_cache) {
    EXPECT_EQ(refusal([](auto& d) { d.fua = true; }), "fua without a volatile cache");
    EXPECT_EQ(refusal([](auto& d) { d.fua = d.volatile_cache = true; }), "");
}

TEST(validate_attributes, looks_at_the_granularity_where_the_section_is_sent) {
    for (const std::uint32_t bad : {0u, 256u, 768u, 1u << 29}) {
        const std::string text = "discard_granularity is " + std::to_string(bad);
        EXPECT_EQ(refusal([=](auto& d) {
                      d.discards = true;
                      d.max_discard_size = gib;
                      d.discard_granularity = bad;
                  }),
                  text);
        EXPECT_EQ(refusal([=](auto& d) {
                      d.max_write_zeroes_size = gib;
                      d.discard_granularity = bad;
                  }),
                  text);
        EXPECT_EQ(refusal([=](auto& d) { d.discard_granularity = bad; }), "");
    }
}

// They would be rounded down to "not offered" in silence.
TEST(validate_attributes, refuses_limits_smaller_than_one_unit) {
    EXPECT_EQ(refusal([](auto& d) {
                  d.discards = true;
                  d.discard_granularity = 4096;
                  d.max_discard_size = 4095;
              }),
              "max_discard_size is 4095");
    EXPECT_EQ(refusal([](auto& d) { d.max_write_zeroes_size = 511; }),
              "max_write_zeroes_size is 511");
}

TEST(validate_attributes, takes_the_alignments_that_the_driver_takes) {
    for (const std::uint32_t good_one : {0u, 1u, 2u, 4u, 512u, 4096u}) {
        EXPECT_EQ(refusal([=](auto& d) { d.dma_alignment = good_one; }), "");
    }
    for (const std::uint32_t bad : {3u, 6u, 513u, 8192u, 0xffffffffu}) {
        EXPECT_EQ(refusal([=](auto& d) { d.dma_alignment = bad; }),
                  "dma_alignment is " + std::to_string(bad));
    }
    EXPECT_EQ(refusal([](auto& d) { d.dma_alignment = 65536; }, 65536), "");
}

// An older driver refuses sections that it does not know.
TEST(to_params, an_alignment_has_a_section_of_its_own_and_only_where_it_is_asked_for) {
    disk_attributes disk = good();
    EXPECT_EQ(to_params(disk, page).types & param_type::dma_align, 0u);
    EXPECT_EQ(to_params(disk, page).dma.alignment, 0u);
    for (const std::uint32_t bytes : {1u, 4u, 512u, 4096u}) {
        disk.dma_alignment = bytes;
        const uapi::params p = to_params(disk, page);
        EXPECT_EQ(p.types, param_type::basic | param_type::dma_align);
        EXPECT_EQ(p.dma.alignment, bytes - 1);  // the driver wants a mask
    }
}

TEST(validate_attributes, takes_the_segments_that_the_driver_takes) {
    for (const std::uint64_t good_one : {0ull, 4096ull, 65536ull, 1ull << 40}) {
        EXPECT_EQ(refusal([=](auto& d) { d.segment_boundary = good_one; }), "");
    }
    for (const std::uint64_t bad : {1ull, 2048ull, 4095ull, 12288ull}) {
        EXPECT_EQ(refusal([=](auto& d) { d.segment_boundary = bad; }),
                  "segment_boundary is " + std::to_string(bad));
    }
    EXPECT_EQ(refusal([](auto& d) { d.max_segment_size = 4095; }), "max_segment_size is 4095");
    EXPECT_EQ(refusal([](auto& d) { d.max_segment_size = 5000; }), "");
    EXPECT_EQ(refusal([](auto& d) { d.max_segments = 1; }), "");
}

TEST(to_params, limits_of_segments_have_a_section_of_their_own) {
    EXPECT_EQ(to_params(good(), page).types & param_type::segment, 0u);
    disk_attributes disk = good();
    disk.max_segments = 32;
    uapi::params p = to_params(disk, page);
    EXPECT_EQ(p.types, param_type::basic | param_type::segment);
    EXPECT_EQ(p.seg.max_segments, 32u);
    EXPECT_EQ(p.seg.max_segment_size, 0xffff'ffffu) << "no limit";
    EXPECT_EQ(p.seg.seg_boundary_mask, 0xffff'ffffull);
    disk = good();
    disk.segment_boundary = 65536;
    disk.max_segment_size = 32768;
    p = to_params(disk, page);
    EXPECT_EQ(p.seg.max_segments, 0xffffu);
    EXPECT_EQ(p.seg.max_segment_size, 32768u);
    EXPECT_EQ(p.seg.seg_boundary_mask, 65535u);
}

TEST(to_params, a_plain_disk_has_the_basic_section_only) {
    const uapi::params p = to_params(good(), 256u << 10);
    EXPECT_EQ(p.len, sizeof p);
    EXPECT_EQ(p.types, param_type::basic);
    EXPECT_EQ(p.basic.attrs, 0u);
    EXPECT_EQ(p.basic.logical_bs_shift, 9u);
    EXPECT_EQ(p.basic.physical_bs_shift, 9u);
    EXPECT_EQ(p.basic.io_min_shift, 9u);
    EXPECT_EQ(p.basic.io_opt_shift, 9u);
    EXPECT_EQ(p.basic.max_sectors, 512u);
    EXPECT_EQ(p.basic.chunk_sectors, 0u);
    EXPECT_EQ(p.basic.dev_sectors, gib / 512);
    EXPECT_EQ(p.basic.virt_boundary_mask, 0u);
    EXPECT_EQ(p.discard.max_discard_segments, 0u);
}

TEST(to_params, each_block_size_has_its_own_field) {
    disk_attributes disk = good();
    disk.logical_block_size = 1024;
    disk.physical_block_size = 4096;
    disk.minimum_io_size = 16384;
    disk.optimal_io_size = 1u << 20;
    const uapi::param_basic basic = to_params(disk, 32u << 20).basic;
    EXPECT_EQ(basic.logical_bs_shift, 10u);
    EXPECT_EQ(basic.physical_bs_shift, 12u);
    EXPECT_EQ(basic.io_min_shift, 14u);
    EXPECT_EQ(basic.io_opt_shift, 20u);
    EXPECT_EQ(basic.max_sectors, 65536u);
}

TEST(to_params, each_attribute_has_its_own_bit) {
    const auto bits = [](bool disk_attributes::*which) {
        disk_attributes disk = good();
        disk.*which = true;
        return to_params(disk, page).basic.attrs;
    };
    EXPECT_EQ(bits(&disk_attributes::read_only), attr::read_only);
    EXPECT_EQ(bits(&disk_attributes::rotational), attr::rotational);
    EXPECT_EQ(bits(&disk_attributes::volatile_cache), attr::volatile_cache);
    EXPECT_EQ(bits(&disk_attributes::fua), attr::fua);
    EXPECT_EQ(bits(&disk_attributes::discards), 0u);
}

TEST(to_params, the_largest_request_is_whole_logical_blocks) {
    disk_attributes disk = good();
    disk.logical_block_size = 4096;
    EXPECT_EQ(to_params(disk, 4096 * 3 + 512).basic.max_sectors, 24u);
}

TEST(to_params, discards_have_a_section_of_their_own) {
    disk_attributes disk = good();
    disk.discards = true;
    disk.discard_granularity = 65536;
    disk.discard_alignment = 4096;
    disk.max_discard_size = 10 * 65536 + 512;
    const uapi::params p = to_params(disk, page);
    EXPECT_EQ(p.types, param_type::basic | param_type::discard);
    EXPECT_EQ(p.discard.discard_granularity, 65536u);
    EXPECT_EQ(p.discard.discard_alignment, 4096u);
    EXPECT_EQ(p.discard.max_discard_sectors, 10u * 128);
    EXPECT_EQ(p.discard.max_write_zeroes_sectors, 0u);
    EXPECT_EQ(p.discard.max_discard_segments, 1u);
}

TEST(to_params, write_zeroes_travels_in_the_same_section) {
    disk_attributes disk = good();
    disk.max_write_zeroes_size = gib + 1;
    disk.max_discard_size = gib;  // not offered, whatever the limit
    const uapi::params p = to_params(disk, page);
    EXPECT_EQ(p.types, param_type::basic | param_type::discard);
    EXPECT_EQ(p.discard.max_write_zeroes_sectors, gib / 512);
    EXPECT_EQ(p.discard.max_discard_sectors, 0u);
    EXPECT_NE(p.discard.discard_granularity, 0u);
}

// A limit that wrapped would be tiny, or zero and so "not offered".
TEST(to_params, limits_end_where_a_bio_does_and_never_wrap) {
    constexpr std::uint32_t bio_sectors = 0xffffffffu >> 9;
    for (const std::uint64_t most :
         {(1ull << 32) - 1, 1ull << 32, (1ull << 32) + 1, 1ull << 41, 1ull << 63, ~0ull}) {
        disk_attributes disk = good();
        disk.discards = true;
        disk.max_discard_size = disk.max_write_zeroes_size = most;
        const uapi::params p = to_params(disk, page);
        EXPECT_EQ(p.discard.max_discard_sectors, bio_sectors) << most;
        EXPECT_EQ(p.discard.max_write_zeroes_sectors, bio_sectors) << most;
        disk.discard_granularity = 1u << 28;
        EXPECT_EQ(to_params(disk, page).discard.max_discard_sectors, 15u << 19) << most;
    }
}

TEST(to_params, huge_disks_do_not_wrap) {
    disk_attributes disk = good();
    for (const std::uint64_t size : {1ull << 32, (1ull << 41) + 512, (1ull << 63) - 512}) {
        disk.size = size;
        EXPECT_EQ(to_params(disk, page).basic.dev_sectors, size / 512);
    }
}

}  // namespace
}  // namespace disk_attributes_test
