// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/uapi.hpp>
#include <ublk/units.hpp>

#include <algorithm>
#include <cstdint>

namespace ublk::inline v0::sim {

/// What a disk can do, as the block layer has it from the driver. Sizes in sectors.
struct disk_limits {
    std::uint64_t capacity = 0;
    std::uint32_t logical_block = 1;
    std::uint32_t physical_block = 1;
    std::uint32_t discard_granularity = 1;
    std::uint32_t max_transfer = 0;
    std::uint32_t chunk = 0;  ///< requests never cross a multiple of it; 0: none
    std::uint32_t max_discard = 0;
    std::uint32_t max_write_zeroes = 0;
    bool volatile_cache = false;
    bool fua = false;
    bool read_only = false;

    [[nodiscard]] static disk_limits of(const uapi::params& p) noexcept {
        disk_limits l;
        l.capacity = p.basic.dev_sectors;
        l.logical_block = 1u << (p.basic.logical_bs_shift - sector_shift);
        l.physical_block = 1u << (p.basic.physical_bs_shift - sector_shift);
        l.max_transfer = round_down_to(p.basic.max_sectors, l.logical_block);
        l.chunk = p.basic.chunk_sectors;
        l.read_only = (p.basic.attrs & uapi::attr::read_only) != 0;
        l.volatile_cache = (p.basic.attrs & uapi::attr::volatile_cache) != 0;
        l.fua = l.volatile_cache && (p.basic.attrs & uapi::attr::fua) != 0;
        if ((p.types & uapi::param_type::discard) != 0) {
            l.discard_granularity = static_cast<std::uint32_t>(
                std::max<std::uint64_t>(bytes_to_sectors(p.discard.discard_granularity), 1));
            l.max_discard = round_down_to(p.discard.max_discard_sectors, l.discard_granularity);
            l.max_write_zeroes = round_down_to(p.discard.max_write_zeroes_sectors, l.logical_block);
        }
        return l;
    }

private:
    [[nodiscard]] static std::uint32_t round_down_to(std::uint32_t n, std::uint32_t unit) noexcept {
        return n - n % unit;
    }
};

}  // namespace ublk::inline v0::sim
