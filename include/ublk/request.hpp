// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/uapi.hpp>
#include <ublk/units.hpp>

#include <cstdint>

namespace ublk::inline v0 {

/// One request as the driver describes it: a small value. The payload says where its bytes are.
class request {
public:
    constexpr request(const uapi::io_desc& descriptor, queue_id queue, ublk::tag t) noexcept
        : start_sector_{descriptor.start_sector}, op_flags_{descriptor.op_flags},
          sectors_{descriptor.nr_sectors}, queue_{queue}, tag_{t} {}

    /// Whether bytes travel with it: a read or a write.
    [[nodiscard]] constexpr bool carries_data() const noexcept {
        return op() == uapi::op::read || op() == uapi::op::write;
    }

    /// A part of it as a request of its own, for a backend that passes it on: `bytes` long, at
    /// `place` of another disk. All are multiples of the sector size.
    [[nodiscard]] constexpr request part(std::uint64_t place, std::uint64_t bytes) const noexcept {
        request other = *this;
        other.start_sector_ = bytes_to_sectors(place);
        other.sectors_ = static_cast<std::uint32_t>(bytes_to_sectors(bytes));
        return other;
    }

    [[nodiscard]] constexpr uapi::op op() const noexcept { return uapi::op_of(op_flags_); }

    /// First byte on the disk, in bytes; a multiple of the logical block size. FLUSH has none, and
    /// the kernel puts a number there that means nothing.
    [[nodiscard]] constexpr std::uint64_t offset() const noexcept {
        return sectors_to_bytes(start_sector_);
    }

    /// Bytes asked for; a multiple of the logical block size. 0 for FLUSH. Reads and writes never
    /// exceed `device_info::max_io_bytes`; discards and write-zeroes may be far longer.
    [[nodiscard]] constexpr std::uint64_t length() const noexcept {
        return sectors_to_bytes(sectors_);
    }

    /// The request's slot in its queue, 0 to depth - 1; no two requests in flight share one.
    [[nodiscard]] constexpr ublk::tag tag() const noexcept { return tag_; }

    /// The hardware queue that carried the request.
    [[nodiscard]] constexpr queue_id queue() const noexcept { return queue_; }

    /// Of a write: it must be on stable storage before it completes (FUA). Only sent to a backend
    /// with `fua`; for others the kernel sends a FLUSH after the write.
    [[nodiscard]] constexpr bool fua() const noexcept { return has(uapi::io_flag::fua); }

    /// Of write zeroes: keep the blocks allocated.
    [[nodiscard]] constexpr bool no_unmap() const noexcept { return has(uapi::io_flag::nounmap); }

    /// Metadata of a file system: a hint for priority.
    [[nodiscard]] constexpr bool meta() const noexcept { return has(uapi::io_flag::meta); }

    /// Swap traffic: memory is short, so do not allocate.
    [[nodiscard]] constexpr bool swap() const noexcept { return has(uapi::io_flag::swap); }

    /// The client prefers an error now to a retry of the device, the transport or the driver.
    [[nodiscard]] constexpr bool failfast_device() const noexcept {
        return has(uapi::io_flag::failfast_dev);
    }
    [[nodiscard]] constexpr bool failfast_transport() const noexcept {
        return has(uapi::io_flag::failfast_transport);
    }
    [[nodiscard]] constexpr bool failfast_driver() const noexcept {
        return has(uapi::io_flag::failfast_driver);
    }

    /// All flag bits of the descriptor, unshifted: compare with `uapi::io_flag`.
    [[nodiscard]] constexpr std::uint32_t flags() const noexcept { return op_flags_ & ~0xffu; }

private:
    [[nodiscard]] constexpr bool has(std::uint32_t flag) const noexcept {
        return (op_flags_ & flag) != 0;
    }

    std::uint64_t start_sector_;
    std::uint32_t op_flags_;
    std::uint32_t sectors_;
    queue_id queue_;
    ublk::tag tag_;
};

}  // namespace ublk::inline v0
