// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/machine.hpp>
#include <ublk/uapi.hpp>
#include <ublk/units.hpp>

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace ublk::inline v0::sim {

/// Bytes of `struct ublk_params` as that kernel has it.
[[nodiscard]] inline std::size_t params_size(const machine& on) noexcept {
    return on.since(7, 0) ? sizeof(uapi::params) : on.since(6, 15) ? 136 : 112;
}

/// The sections that it knows; the others are dropped in silence.
[[nodiscard]] inline std::uint32_t params_known(const machine& on) noexcept {
    using namespace uapi::param_type;
    return basic | uapi::param_type::discard | devt | zoned |
           (on.since(6, 15) ? dma_align | uapi::param_type::segment : 0u) |
           (on.since(7, 0) ? integrity : 0u);
}

namespace detail {

inline constexpr std::uint8_t block_shift_max = 28;  // 256 MiB

[[nodiscard]] inline bool basic_is_fine(const uapi::param_basic& p, const uapi::dev_info& info,
                                        std::uint32_t page_size, const machine& on) noexcept {
    const bool shifts_bounded =
        !on.since(7, 0) || (p.physical_bs_shift <= block_shift_max &&
                            p.io_min_shift <= block_shift_max && p.io_opt_shift <= block_shift_max);
    const bool zoned = (info.flags & uapi::feature::zoned) != 0;
    // Debian's 6.12.107 asks for any size, its 6.12.111 and all that followed for powers of two.
    const bool zones_are_even = on.since(7, 0) || on.backported({6, 12, 111});
    return p.logical_bs_shift >= sector_shift && p.logical_bs_shift <= shift_of(page_size) &&
           shifts_bounded && p.logical_bs_shift <= p.physical_bs_shift &&
           p.max_sectors <= bytes_to_sectors(info.max_io_buf_bytes) &&
           p.max_sectors >= bytes_to_sectors(page_size) &&
           (!zoned || (zones_are_even ? is_power_of_two(p.chunk_sectors) : p.chunk_sectors != 0));
}

[[nodiscard]] inline bool zoned_is_fine(const uapi::params& p) noexcept {
    // As the driver counts, also where a zone's size is no power of two (on older kernels).
    const std::uint64_t zones = p.basic.dev_sectors >> (std::bit_width(p.basic.chunk_sectors) - 1);
    return p.zoned.max_zone_append_sectors != 0 && p.zoned.max_active_zones <= zones &&
           p.zoned.max_open_zones <= zones;
}

[[nodiscard]] inline bool segment_is_fine(const uapi::param_segment& p) noexcept {
    // A mask of all ones wraps to zero, which is no power of two.
    return is_power_of_two(p.seg_boundary_mask + 1) &&
           p.seg_boundary_mask + 1 >= uapi::min_segment_size &&
           p.max_segment_size >= uapi::min_segment_size;
}

/// 0 or -errno.
[[nodiscard]] inline int check_integrity(const uapi::param_integrity& p, const uapi::dev_info& info,
                                         std::uint8_t logical_shift) noexcept {
    constexpr std::uint32_t known = uapi::integrity_flag::capable | uapi::integrity_flag::reftag;
    const auto kind = static_cast<unsigned>(p.csum);
    if ((info.flags & uapi::feature::integrity) == 0 || (p.flags & ~known) != 0) {
        return -EINVAL;
    }
    unsigned tuple = 0;
    switch (kind) {
    case 0:
        break;
    case 1:
    case 2:
        tuple = 8;
        break;
    case 4:
        tuple = 16;
        break;
    default:
        return -EINVAL;
    }
    const bool tag_without_sum = kind == 0 && (p.flags & uapi::integrity_flag::reftag) != 0;
    const bool fine = p.metadata_size != 0 && !tag_without_sum &&
                      p.pi_offset + tuple <= p.metadata_size && p.interval_exp >= sector_shift &&
                      p.interval_exp <= logical_shift;
    return fine ? 0 : -EINVAL;
}

}  // namespace detail

/// What SET_PARAMS says to these: 0 or -errno.
[[nodiscard]] inline int check_params(const uapi::params& p, const uapi::dev_info& info,
                                      std::uint32_t page_size, const machine& on) noexcept {
    using namespace uapi;
    const auto has = [&p](std::uint32_t section) { return (p.types & section) != 0; };
    if (!has(param_type::basic) || !detail::basic_is_fine(p.basic, info, page_size, on)) {
        return -EINVAL;
    }
    if (has(param_type::discard) &&
        ((p.discard.max_discard_sectors != 0 && p.discard.max_discard_segments != 1) ||
         p.discard.discard_granularity == 0)) {
        return -EINVAL;
    }
    if (has(param_type::devt)) {
        return -EINVAL;
    }
    // The driver returns here, so that the sections below go unchecked on zoned devices.
    const bool zoned = (info.flags & feature::zoned) != 0;
    if (has(param_type::zoned)) {
        return zoned && detail::zoned_is_fine(p) ? 0 : -EINVAL;
    }
    if (zoned) {
        return -EINVAL;
    }
    if (has(param_type::dma_align) &&
        (p.dma.alignment >= page_size || !is_power_of_two(std::uint64_t{p.dma.alignment} + 1))) {
        return -EINVAL;
    }
    if (has(param_type::segment) && !detail::segment_is_fine(p.seg)) {
        return -EINVAL;
    }
    return has(param_type::integrity)
               ? detail::check_integrity(p.integrity, info, p.basic.logical_bs_shift)
               : 0;
}

}  // namespace ublk::inline v0::sim
