// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/disk_attributes.hpp>
#include <ublk/uapi.hpp>
#include <ublk/units.hpp>

#include <cstdint>
#include <string>

/// Whether a backend can serve a disk that another server has started: clients have seen what that
/// one advertised, and go on by it.
namespace ublk::inline v0::detail {

[[nodiscard]] inline std::string differs(const char* name, std::uint64_t of_disk,
                                         std::uint64_t of_backend) {
    return "the disk has " + std::string{name} + " " + std::to_string(of_disk) +
           ", and the backend " + std::to_string(of_backend);
}

/// A limit in one section of the parameters, by which clients go; 0 is none.
[[nodiscard]] constexpr bool exceeds(std::uint64_t of_disk, std::uint64_t of_backend) noexcept {
    return of_backend != 0 && (of_disk == 0 || of_disk > of_backend);
}

[[nodiscard]] inline std::string cache_misfit(std::uint32_t disk, std::uint32_t backend) {
    using namespace uapi;
    if ((disk & attr::read_only) == 0 && (backend & attr::read_only) != 0) {
        return "the disk can be written to, and the backend is read-only";
    }
    if ((disk & attr::volatile_cache) == 0 && (backend & attr::volatile_cache) != 0) {
        return "the backend has a volatile cache, and clients of the disk send no flush";
    }
    const bool durable = (backend & (attr::volatile_cache | attr::fua)) != attr::volatile_cache;
    if ((disk & attr::fua) != 0 && !durable) {
        return "clients of the disk write with FUA, and the backend does not know it";
    }
    return {};
}

[[nodiscard]] inline std::string discard_misfit(const uapi::params& disk,
                                                const uapi::params& backend) {
    const uapi::param_discard& theirs = disk.discard;
    const uapi::param_discard& ours = backend.discard;
    const bool offered = (disk.types & uapi::param_type::discard) != 0;
    if (!offered) {
        return {};
    }
    if (theirs.max_discard_sectors > ours.max_discard_sectors) {
        return differs("discards of at most so many sectors:", theirs.max_discard_sectors,
                       ours.max_discard_sectors);
    }
    if (theirs.max_write_zeroes_sectors > ours.max_write_zeroes_sectors) {
        return differs("WRITE_ZEROES of at most so many sectors:", theirs.max_write_zeroes_sectors,
                       ours.max_write_zeroes_sectors);
    }
    if (theirs.max_discard_sectors != 0 &&
        (theirs.discard_granularity < ours.discard_granularity ||
         theirs.discard_granularity % ours.discard_granularity != 0)) {
        return differs("discard_granularity", theirs.discard_granularity, ours.discard_granularity);
    }
    return {};
}

[[nodiscard]] inline std::string memory_misfit(const uapi::params& disk,
                                               const uapi::params& backend) {
    constexpr std::uint32_t of_driver = 3;  // the mask where nothing is said
    const auto mask = [](const uapi::params& of) {
        const bool said = (of.types & uapi::param_type::dma_align) != 0;
        return said ? of.dma.alignment : of_driver;
    };
    if (mask(disk) < mask(backend)) {
        return differs("dma_alignment", mask(disk) + 1, mask(backend) + 1);
    }
    if ((backend.types & uapi::param_type::segment) == 0) {
        return {};
    }
    const uapi::param_segment none{};
    const uapi::param_segment& theirs =
        (disk.types & uapi::param_type::segment) != 0 ? disk.seg : none;
    if (exceeds(theirs.seg_boundary_mask, backend.seg.seg_boundary_mask) ||
        exceeds(theirs.max_segment_size, backend.seg.max_segment_size) ||
        exceeds(theirs.max_segments, backend.seg.max_segments)) {
        return "the backend asks for shorter or fewer segments than clients of the disk send";
    }
    return {};
}

/// Why a backend that shows `backend` cannot serve a disk with the parameters `disk`; "" where it
/// can. `max_io_bytes` is the device's. Hints on what is fast may differ.
[[nodiscard]] inline std::string misfit(const uapi::params& disk, const disk_attributes& backend,
                                        std::uint32_t max_io_bytes) {
    const uapi::params ours = to_params(backend, max_io_bytes);
    const std::uint64_t bytes = sectors_to_bytes(disk.basic.dev_sectors);
    if (bytes != backend.size) {
        return differs("bytes:", bytes, backend.size);
    }
    if (disk.basic.logical_bs_shift != ours.basic.logical_bs_shift) {
        return differs("logical_block_size", std::uint64_t{1} << disk.basic.logical_bs_shift,
                       backend.logical_block_size);
    }
    if (disk.basic.physical_bs_shift < ours.basic.physical_bs_shift) {
        return differs("physical_block_size", std::uint64_t{1} << disk.basic.physical_bs_shift,
                       backend.physical_block_size);
    }
    std::string reason = cache_misfit(disk.basic.attrs, ours.basic.attrs);
    reason = reason.empty() ? discard_misfit(disk, ours) : reason;
    return reason.empty() ? memory_misfit(disk, ours) : reason;
}

}  // namespace ublk::inline v0::detail
