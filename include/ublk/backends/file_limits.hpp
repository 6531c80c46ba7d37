// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/fd.hpp>
#include <ublk/detail/mapping.hpp>
#include <ublk/disk_attributes.hpp>
#include <ublk/error.hpp>
#include <ublk/time_limit.hpp>
#include <ublk/units.hpp>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <string>

namespace ublk::inline v0::backends {

/// How the file of a disk is opened.
struct file_options {
    /// Past the page cache of this machine (O_DIRECT): nothing is cached twice, and no write-back
    /// is left behind; but small requests cost a round trip to the medium.
    bool direct = false;
    /// Without `direct`, and on tmpfs: reads from the page cache, and writes to it, are system
    /// calls of the queue's thread, which is the cheapest way; what would wait goes to workers of
    /// the kernel. False: all of it goes through the ring.
    bool at_once = true;
    /// A disk that cannot be written, and a file that need not be writable.
    bool read_only = false;
    /// Bytes, a power of two from 512 to the page size. 0: the least that the file allows.
    std::uint32_t logical_block_size = 0;
    /// Locks the file against other servers: flock(2), or O_EXCL on a block device that is written.
    /// False for a file whose users agree by other means: two servers that write one file unaware
    /// of each other destroy what is in it.
    bool lock = true;
    /// How long to wait for whoever else has the file: the kernel closes the files of a server that
    /// was killed a moment after its end.
    time_limit lock_wait = std::chrono::seconds{1};
};

}  // namespace ublk::inline v0::backends

/// What a file or block device says of itself, as the attributes of a disk.
namespace ublk::inline v0::detail {

using file_status = struct ::statx;

// linux/fs.h has these too, but cannot be included beside sys/mount.h with every glibc; and
// linux/stat.h lacks STATX_DIOALIGN (Linux 6.1) in older distributions.
inline constexpr unsigned long blk_read_only = _IO(0x12, 94);
inline constexpr unsigned long blk_logical_block_size = _IO(0x12, 104);
inline constexpr unsigned long blk_size = _IOR(0x12, 114, std::size_t);
inline constexpr unsigned long blk_minimum_io = _IO(0x12, 120);
inline constexpr unsigned long blk_optimal_io = _IO(0x12, 121);
inline constexpr unsigned long blk_physical_block_size = _IO(0x12, 123);
inline constexpr unsigned long blk_rotational = _IO(0x12, 126);
inline constexpr unsigned statx_direct_alignment = 0x2000;

inline constexpr int punch_hole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
inline constexpr int zero_range = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

/// The most that one bio asks for.
inline constexpr std::uint64_t clear_at_once = std::numeric_limits<std::uint32_t>::max();
/// The same where zeroes may have to be written: an answer within seconds, not minutes.
inline constexpr std::uint64_t write_at_once = 64u << 20;

/// An ioctl that gives one number, as `Number`; nothing where the device does not know it.
template <class Number>
[[nodiscard]] std::optional<std::uint64_t> told_by(int device, unsigned long question) noexcept {
    Number answer{};
    if (::ioctl(device, question, &answer) != 0 || answer < 0) {
        return std::nullopt;
    }
    return static_cast<std::uint64_t>(answer);
}

/// The number in a file of sysfs.
[[nodiscard]] inline std::optional<std::uint64_t> number_in(const std::string& path) {
    const fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    char text[32] = {};
    if (!file || ::read(file.get(), text, sizeof text - 1) <= 0 || text[0] < '0' || text[0] > '9') {
        return std::nullopt;
    }
    return std::strtoull(text, nullptr, 10);
}

/// Where sysfs keeps a block device.
[[nodiscard]] inline std::string directory_of_device(unsigned major, unsigned minor) {
    return "/sys/dev/block/" + std::to_string(major) + ':' + std::to_string(minor);
}

/// An attribute of the queue of a device with that directory; a partition has that of its disk.
[[nodiscard]] inline std::optional<std::uint64_t> queue_number(const std::string& directory,
                                                               const char* name) {
    const auto own = number_in(directory + "/queue/" + name);
    return own ? own : number_in(directory + "/../queue/" + name);
}

/// What validate() accepts and comes closest: devices may say 0, or 3 stripes of 64 KiB. Of such
/// a size the largest power of two that divides it is a hint that still holds.
[[nodiscard]] inline std::uint32_t hint(std::optional<std::uint64_t> bytes, std::uint64_t least,
                                        std::uint64_t most) noexcept {
    const std::uint64_t value = bytes.value_or(0);
    return static_cast<std::uint32_t>(std::clamp(value & (~value + 1), least, most));
}

[[nodiscard]] inline std::uint32_t memory_page() noexcept {
    return static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE));
}

/// What O_DIRECT demands of places and lengths in the file, and of memory, in bytes.
struct direct_demands {
    std::uint64_t offset = sector_size;
    std::uint64_t memory = sector_size;
};

/// A kernel or filesystem that does not say is asked by reading. Holes may be read at any place,
/// so the device below has a word, too.
[[nodiscard]] inline direct_demands try_direct_demands(int file, const std::string& directory) {
    const std::uint32_t page = memory_page();
    const mapping trial{page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                        0,    "trying direct I/O"};
    std::uint64_t bytes = queue_number(directory, "logical_block_size").value_or(sector_size);
    while (bytes < page && ::pread(file, trial.data(), bytes, 0) < 0 && errno == EINVAL) {
        bytes *= 2;
    }
    return {bytes, bytes};
}

/// What the kernel says (Linux 6.1), or what a trial says. Zeroes: no direct I/O.
[[nodiscard]] inline direct_demands direct_demands_of(int file, const std::string& directory) {
    // stx_dio_mem_align and stx_dio_offset_align, which older headers call padding.
    constexpr std::size_t memory_at = 0x98, offset_at = 0x9c;
    file_status outcome{};
    if (::statx(file, "", AT_EMPTY_PATH, statx_direct_alignment, &outcome) != 0 ||
        (outcome.stx_mask & statx_direct_alignment) == 0) {
        return try_direct_demands(file, directory);
    }
    std::uint32_t memory = 0, offset = 0;
    std::memcpy(&memory, reinterpret_cast<const char*>(&outcome) + memory_at, sizeof memory);
    std::memcpy(&offset, reinterpret_cast<const char*>(&outcome) + offset_at, sizeof offset);
    return {offset, memory};
}

/// The logical block size that the user asked for, or `least`.
[[nodiscard]] inline std::uint32_t choose_block_size(const std::string& path, std::uint64_t least,
                                                     std::uint32_t requested) {
    const std::string command = "choosing the logical block size of " + path;
    const std::uint32_t page = memory_page();
    if (least > page) {
        fail(EINVAL, command, std::nullopt,
             "it takes only blocks of " + std::to_string(least) +
                 " bytes, which are larger than a page",
             "leave direct I/O out");
    }
    if (requested == 0) {
        return static_cast<std::uint32_t>(least);
    }
    if (!is_power_of_two(requested) || requested < least || requested > page) {
        fail(EINVAL, command, std::nullopt,
             std::to_string(requested) + " is no power of two from " + std::to_string(least) +
                 " to " + std::to_string(page) +
                 ", or smaller than what the file or direct I/O takes",
             "leave it out, which means " + std::to_string(least));
    }
    return requested;
}

/// A block device: its own limits.
[[nodiscard]] inline disk_attributes limits_of_device(int device, const std::string& path,
                                                      const std::string& directory,
                                                      const backends::file_options& requested) {
    disk_attributes disk;
    const std::uint32_t page = memory_page();
    const std::uint64_t least = told_by<int>(device, blk_logical_block_size).value_or(sector_size);
    disk.logical_block_size = choose_block_size(path, least, requested.logical_block_size);
    const std::uint64_t block = disk.logical_block_size;
    disk.size = round_down(told_by<std::int64_t>(device, blk_size).value_or(0), block);
    if (disk.size == 0) {
        fail(EINVAL, "asking " + path + " for its size", std::nullopt,
             "the block device has no blocks: no medium, or nothing attached", "attach something");
    }
    disk.physical_block_size =
        hint(told_by<int>(device, blk_physical_block_size), block, block_size_max);
    const std::uint64_t physical = disk.physical_block_size;
    disk.minimum_io_size = hint(told_by<int>(device, blk_minimum_io), physical, block_size_max);
    disk.optimal_io_size =
        hint(told_by<int>(device, blk_optimal_io), disk.minimum_io_size, block_size_max);
    disk.rotational = told_by<std::int16_t>(device, blk_rotational).value_or(0) != 0;
    if (requested.direct) {
        const auto mask = queue_number(directory, "dma_alignment");
        disk.dma_alignment = hint(mask ? *mask + 1 : least, 4, page);
    }
    // fallocate's hole on a device is a write of zeroes that may unmap: it takes both abilities.
    const bool zeroes = queue_number(directory, "write_zeroes_max_bytes").value_or(0) != 0;
    const bool discards = queue_number(directory, "discard_max_bytes").value_or(0) != 0;
    disk.discard_granularity =
        hint(queue_number(directory, "discard_granularity"), block, block_size_max);
    disk.discard_alignment =
        static_cast<std::uint32_t>(number_in(directory + "/discard_alignment").value_or(0)) %
        disk.discard_granularity;
    disk.max_discard_size = zeroes && discards ? clear_at_once : 0;
    disk.max_write_zeroes_size = zeroes ? clear_at_once : write_at_once;
    return disk;
}

/// Whether the filesystem makes holes. The trial is behind the end, where there is nothing.
[[nodiscard]] inline bool makes_holes(int file, std::uint64_t size) noexcept {
    constexpr std::uint64_t hole = 1u << 20;
    int outcome = 0;
    do {
        outcome = ::fallocate(file, punch_hole, static_cast<off_t>(round_up(size, hole) + hole),
                              static_cast<off_t>(hole));
    } while (outcome != 0 && errno == EINTR);
    return outcome == 0;
}

/// A regular file: what its filesystem says.
[[nodiscard]] inline disk_attributes limits_of_regular(int file, const std::string& path,
                                                       const file_status& status,
                                                       const std::string& directory,
                                                       const backends::file_options& requested) {
    disk_attributes disk;
    const std::uint32_t page = memory_page();
    direct_demands needs;
    if (requested.direct) {
        needs = direct_demands_of(file, directory);
        if (needs.offset == 0) {
            fail(EINVAL, "opening " + path + " with O_DIRECT", std::nullopt,
                 "its filesystem cannot do direct I/O on this file", "leave direct I/O out");
        }
        disk.dma_alignment = hint(needs.memory, 4, page);
    }
    disk.logical_block_size = choose_block_size(
        path, std::max<std::uint64_t>(needs.offset, sector_size), requested.logical_block_size);
    // Up, so that no byte of the file is out of reach.
    disk.size = round_up(status.stx_size, disk.logical_block_size);
    if (disk.size == 0) {
        fail(EINVAL, "asking " + path + " for its size", std::nullopt, "the file is empty",
             "give it the size of the disk: truncate -s 1G " + path);
    }
    // A filesystem on a network says what it likes to transfer at once, which is no block.
    disk.physical_block_size = hint(status.stx_blksize, disk.logical_block_size, page);
    disk.minimum_io_size = disk.physical_block_size;
    disk.optimal_io_size = hint(status.stx_blksize, disk.minimum_io_size, block_size_max);
    disk.rotational = queue_number(directory, "rotational").value_or(0) != 0;
    disk.discard_granularity = disk.physical_block_size;
    if (!requested.read_only) {
        const bool holes = makes_holes(file, status.stx_size);
        disk.max_discard_size = holes ? clear_at_once : 0;
        disk.max_write_zeroes_size = holes ? clear_at_once : write_at_once;
    }
    return disk;
}

/// All that a disk in this open file is. `requested.read_only` is what the file is by now.
[[nodiscard]] inline disk_attributes limits_of_file(int file, const std::string& path,
                                                    const file_status& status,
                                                    const backends::file_options& requested) {
    disk_attributes disk =
        S_ISBLK(status.stx_mode)
            ? limits_of_device(file, path,
                               directory_of_device(status.stx_rdev_major, status.stx_rdev_minor),
                               requested)
            : limits_of_regular(file, path, status,
                                directory_of_device(status.stx_dev_major, status.stx_dev_minor),
                                requested);
    if (requested.read_only) {
        disk.read_only = true;
        disk.max_discard_size = 0;
        disk.max_write_zeroes_size = 0;
    }
    return disk;
}

}  // namespace ublk::inline v0::detail
