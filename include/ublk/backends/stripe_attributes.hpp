// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/disk_attributes.hpp>
#include <ublk/units.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

/// What a stripe of disks shows, from what these show.
namespace ublk::inline v0::detail {

[[noreturn, gnu::cold]] inline void bad_stripe(const std::string& cause, const char* remedy) {
    fail(EINVAL, "making a stripe", std::nullopt, cause, remedy);
}

inline void check_stripe(const std::vector<disk_attributes>& members, std::uint64_t chunk) {
    if (members.empty()) {
        bad_stripe("it has no members", "give it at least one");
    }
    if (!is_power_of_two(chunk) || chunk < sector_size) {
        bad_stripe("the chunk size is " + std::to_string(chunk),
                   "choose a power of two, at least a sector, such as 65536");
    }
    for (std::size_t i = 0; i < members.size(); ++i) {
        const std::uint32_t block =
            std::max(members[i].logical_block_size, members[i].dma_alignment);
        if (chunk < block) {
            bad_stripe("the chunk size is " + std::to_string(chunk) + ", and member " +
                           std::to_string(i) + " has blocks of " + std::to_string(block),
                       "choose a chunk of at least the members' block size");
        }
        if (members[i].size < chunk) {
            bad_stripe("member " + std::to_string(i) + " has " + std::to_string(members[i].size) +
                           " bytes, less than a chunk of " + std::to_string(chunk),
                       "choose a smaller chunk, or leave that member out");
        }
        constexpr auto most = std::numeric_limits<std::int64_t>::max();
        if (members[i].size > static_cast<std::uint64_t>(most) / members.size()) {
            bad_stripe("it has more than 2^63 - 1 bytes", "use smaller or fewer members");
        }
    }
}

/// The largest request of which no member gets more than `most`: all windows of a round, which is a
/// chunk of each member, have a chunk of each.
[[nodiscard]] inline std::uint64_t striped_limit(std::uint64_t most, std::uint64_t chunk,
                                                 std::size_t members) noexcept {
    constexpr std::uint64_t top = std::numeric_limits<std::int64_t>::max();
    const std::uint64_t whole = round_down(std::min(most, top), chunk);
    if (whole == 0) {
        return most;
    }
    return whole > top / members ? top : whole * members;
}

/// Of two limits, of which 0 is none.
template <class T>
[[nodiscard]] constexpr T lower_limit(T a, T b) noexcept {
    return a == 0 ? b : b == 0 ? a : std::min(a, b);
}

/// What a stripe shows of members that show this.
/// Throws: `error` where it cannot be made of them.
[[nodiscard]] inline disk_attributes striped(const std::vector<disk_attributes>& members,
                                             std::uint64_t chunk) {
    check_stripe(members, chunk);
    disk_attributes all = members.front();
    bool durable_by_fua = true;
    for (const disk_attributes& one : members) {
        // Requests are cut at blocks, and where one is cut a member's memory has to begin.
        all.logical_block_size =
            std::max({all.logical_block_size, one.logical_block_size, one.dma_alignment});
        all.size = std::min(all.size, round_down(one.size, chunk));
        all.physical_block_size = std::max(all.physical_block_size, one.physical_block_size);
        all.minimum_io_size = std::max(all.minimum_io_size, one.minimum_io_size);
        all.read_only |= one.read_only;
        all.rotational |= one.rotational;
        all.idempotent &= one.idempotent;
        all.volatile_cache |= one.volatile_cache;
        durable_by_fua &= one.fua || !one.volatile_cache;
        all.dma_alignment = std::max(all.dma_alignment, one.dma_alignment);
        all.segment_boundary = lower_limit(all.segment_boundary, one.segment_boundary);
        all.max_segment_size = lower_limit(all.max_segment_size, one.max_segment_size);
        all.max_segments = lower_limit(all.max_segments, one.max_segments);
        all.discard_granularity = std::max(all.discard_granularity, one.discard_granularity);
        all.max_discard_size = std::min(all.max_discard_size, one.max_discard_size);
        all.max_write_zeroes_size = std::min(all.max_write_zeroes_size, one.max_write_zeroes_size);
    }
    const std::size_t count = members.size();
    for (const disk_attributes& one : members) {
        if (all.dma_alignment != 0 && one.dma_alignment == 0) {
            all.dma_alignment = std::max<std::uint32_t>(all.dma_alignment, 4);  // the driver's
        }
    }
    all.size *= count;
    all.physical_block_size = std::max(all.physical_block_size, all.logical_block_size);
    all.minimum_io_size = std::max(all.minimum_io_size, all.logical_block_size);
    all.fua = all.volatile_cache && durable_by_fua;
    all.optimal_io_size = all.minimum_io_size;
    for (const std::uint64_t best : {chunk, chunk * count}) {
        if (is_power_of_two(best) && best <= block_size_max && best >= all.minimum_io_size) {
            all.optimal_io_size = static_cast<std::uint32_t>(best);
        }
    }
    all.discard_granularity = std::max(all.discard_granularity, all.logical_block_size);
    all.discard_alignment = 0;  // nobody's alignment is everybody's
    all.max_discard_size = striped_limit(all.max_discard_size, chunk, count);
    if (all.max_discard_size < all.discard_granularity) {
        all.max_discard_size = 0;
    }
    all.discards = all.max_discard_size != 0;
    all.max_write_zeroes_size = striped_limit(all.max_write_zeroes_size, chunk, count);
    if (all.max_write_zeroes_size < all.logical_block_size) {
        all.max_write_zeroes_size = 0;
    }
    return all;
}

}  // namespace ublk::inline v0::detail
