// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data_path.hpp>
#include <ublk/error.hpp>
#include <ublk/uapi.hpp>
#include <ublk/units.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace ublk::inline v0 {

class registered_file;

/// What a backend says of its disk, as plain values. All sizes are bytes.
struct disk_attributes {
    std::uint64_t size = 0;
    std::uint32_t logical_block_size = sector_size;   ///< unit of addressing, 512 to the page size
    std::uint32_t physical_block_size = sector_size;  ///< unit of atomic writes, >= logical
    std::uint32_t minimum_io_size = sector_size;      ///< smallest request without a penalty
    std::uint32_t optimal_io_size = sector_size;      ///< best size for streaming
    bool read_only = false;
    bool rotational = false;
    bool volatile_cache = false;  ///< the kernel sends FLUSH
    bool fua = false;             ///< the kernel sends writes with FUA instead of write + FLUSH
    bool discards = false;
    std::uint32_t dma_alignment = 0;  ///< where a client's memory may begin; 0: the driver's 4
    // Limits of the pieces of a client's memory that one request carries, for a backend that passes
    // them on to hardware. Drivers before 6.15 do without; 0: no limit.
    std::uint64_t segment_boundary = 0;  ///< bytes, which no piece crosses: a power of two >= 4096
    std::uint32_t max_segment_size = 0;  ///< bytes of a piece, >= 4096
    std::uint16_t max_segments = 0;      ///< pieces of a request
    std::uint32_t discard_granularity = sector_size;
    std::uint32_t discard_alignment = 0;
    std::uint64_t max_discard_size = 0;       ///< bytes in one DISCARD
    std::uint64_t max_write_zeroes_size = 0;  ///< bytes in one WRITE_ZEROES; 0: not offered

    // For the library, not for the driver.
    bool idempotent = false;                           ///< a request may be served twice
    std::optional<data_path> preferred_path{};         ///< which the backend would rather have
    std::vector<const registered_file*> ring_files{};  ///< which the rings are to register
};

namespace detail {

inline constexpr std::uint32_t block_size_max = 1u << 28;  // 256 MiB, ublk_validate_params

[[noreturn, gnu::cold]] inline void bad_attribute(const std::string& cause, const char* remedy) {
    fail(EINVAL, "checking the backend's attributes", std::nullopt, cause, remedy);
}

inline void check_block_size(const char* name, std::uint32_t bytes, std::uint32_t least,
                             std::uint32_t most) {
    if (!is_power_of_two(bytes) || bytes < least || bytes > most) {
        bad_attribute(
            std::string{name} + " is " + std::to_string(bytes),
            ("return a power of two from " + std::to_string(least) + " to " + std::to_string(most))
                .c_str());
    }
}

inline void check_segments(const disk_attributes& disk) {
    constexpr std::uint64_t least = uapi::min_segment_size;
    const std::uint64_t boundary = disk.segment_boundary;
    if (boundary != 0 && (!is_power_of_two(boundary) || boundary < least)) {
        bad_attribute("segment_boundary is " + std::to_string(boundary),
                      "return 0 or a power of two from 4096 on");
    }
    if (disk.max_segment_size != 0 && disk.max_segment_size < least) {
        bad_attribute("max_segment_size is " + std::to_string(disk.max_segment_size),
                      "return 0 or at least 4096");
    }
}

}  // namespace detail

/// Refuses what the driver would refuse with a bare EINVAL, and what it would accept and get wrong.
/// Throws: `error` with EINVAL.
inline void validate(const disk_attributes& disk, std::uint32_t page_size) {
    using detail::bad_attribute;
    using detail::block_size_max;
    detail::check_block_size("logical_block_size", disk.logical_block_size, sector_size, page_size);
    detail::check_block_size("physical_block_size", disk.physical_block_size,
                             disk.logical_block_size, block_size_max);
    detail::check_block_size("minimum_io_size", disk.minimum_io_size, disk.logical_block_size,
                             block_size_max);
    detail::check_block_size("optimal_io_size", disk.optimal_io_size, disk.logical_block_size,
                             block_size_max);
    if (disk.size == 0 || disk.size % disk.logical_block_size != 0) {
        bad_attribute("size is " + std::to_string(disk.size) + " bytes",
                      "return a positive multiple of the logical block size");
    }
    if (disk.size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        bad_attribute("size is beyond 2^63 - 1 bytes", "return a smaller size");
    }
    if (disk.fua && !disk.volatile_cache) {
        bad_attribute("fua without a volatile cache",
                      "leave fua out: without a volatile cache every write is durable anyway");
    }
    if (disk.dma_alignment != 0) {
        detail::check_block_size("dma_alignment", disk.dma_alignment, 1, page_size);
    }
    detail::check_segments(disk);
    if (disk.discards || disk.max_write_zeroes_size != 0) {  // both travel in one section
        detail::check_block_size("discard_granularity", disk.discard_granularity,
                                 disk.logical_block_size, block_size_max);
    }
    if (disk.discards && disk.max_discard_size < disk.discard_granularity) {
        bad_attribute("max_discard_size is " + std::to_string(disk.max_discard_size),
                      "return at least discard_granularity, or leave discard out");
    }
    if (disk.max_write_zeroes_size != 0 && disk.max_write_zeroes_size < disk.logical_block_size) {
        bad_attribute("max_write_zeroes_size is " + std::to_string(disk.max_write_zeroes_size),
                      "return 0 or at least the logical block size");
    }
}

/// The same in the driver's words. `max_io_bytes` is what ADD_DEV granted.
[[nodiscard]] inline uapi::params to_params(const disk_attributes& disk,
                                            std::uint32_t max_io_bytes) noexcept {
    const auto sectors = [](std::uint64_t bytes, std::uint64_t step) {
        // A bio carries at most 2^32 - 1 bytes, so more than that is never asked at once.
        const std::uint64_t most =
            std::min<std::uint64_t>(bytes, std::numeric_limits<std::uint32_t>::max());
        return static_cast<std::uint32_t>(bytes_to_sectors(most - most % step));
    };
    uapi::params params{};
    params.len = sizeof params;
    params.types = uapi::param_type::basic;
    params.basic.attrs = (disk.read_only ? uapi::attr::read_only : 0u) |
                         (disk.rotational ? uapi::attr::rotational : 0u) |
                         (disk.volatile_cache ? uapi::attr::volatile_cache : 0u) |
                         (disk.fua ? uapi::attr::fua : 0u);
    params.basic.logical_bs_shift = shift_of(disk.logical_block_size);
    params.basic.physical_bs_shift = shift_of(disk.physical_block_size);
    params.basic.io_min_shift = shift_of(disk.minimum_io_size);
    params.basic.io_opt_shift = shift_of(disk.optimal_io_size);
    params.basic.max_sectors = sectors(max_io_bytes, disk.logical_block_size);
    params.basic.dev_sectors = bytes_to_sectors(disk.size);
    // Drivers before 6.15 know no such section, and take alignments of 4 for granted.
    if (disk.dma_alignment != 0) {
        params.types |= uapi::param_type::dma_align;
        params.dma.alignment = disk.dma_alignment - 1;
    }
    if (disk.segment_boundary != 0 || disk.max_segment_size != 0 || disk.max_segments != 0) {
        constexpr std::uint64_t usual = 0xffff'ffff;  // BLK_SEG_BOUNDARY_MASK
        params.types |= uapi::param_type::segment;
        params.seg = {
            .seg_boundary_mask = disk.segment_boundary != 0 ? disk.segment_boundary - 1 : usual,
            .max_segment_size = disk.max_segment_size != 0
                                    ? disk.max_segment_size
                                    : std::numeric_limits<std::uint32_t>::max(),
            .max_segments = disk.max_segments != 0 ? disk.max_segments
                                                   : std::numeric_limits<std::uint16_t>::max()};
    }
    if (disk.discards || disk.max_write_zeroes_size != 0) {
        params.types |= uapi::param_type::discard;
        params.discard.discard_alignment = disk.discard_alignment;
        params.discard.discard_granularity = disk.discard_granularity;
        params.discard.max_discard_sectors =
            disk.discards ? sectors(disk.max_discard_size, disk.discard_granularity) : 0;
        params.discard.max_write_zeroes_sectors =
            sectors(disk.max_write_zeroes_size, disk.logical_block_size);
        params.discard.max_discard_segments = 1;  // the driver takes no other number
    }
    return params;
}

}  // namespace ublk::inline v0
