// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/mapping.hpp>
#include <ublk/error.hpp>
#include <ublk/payload.hpp>
#include <ublk/request.hpp>
#include <ublk/result.hpp>
#include <ublk/units.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace ublk::inline v0::backends {

/// How a memory disk presents itself.
struct memory_geometry {
    std::uint32_t logical_block_size = sector_size;
    bool read_only = false;

    /// Asks for transparent huge pages: fewer misses of the TLB on a disk that gets full, and up to
    /// 2 MiB of memory for the first 4 KiB that are written. False: none, whatever the system's
    /// setting is, so that a disk takes what was written to it.
    bool huge_pages = false;
};

/// A RAM disk of anonymous memory. Pages come into being with the first write to them, so the disk
/// may be larger than memory; discarding or zeroing gives whole pages back, unless they are locked
/// (mlockall): then they are cleared. Queues run concurrently
/// without a lock: requests that overlap in flight have no order on any disk.
class memory {
public:
    /// Throws: `error` where the address space has no room for `bytes`.
    explicit memory(std::uint64_t bytes, memory_geometry shape = {})
        : bytes_{bytes}, shape_{shape}, page_{static_cast<std::size_t>(::sysconf(_SC_PAGESIZE))} {
        if (bytes != 0) {
            store_ = detail::mapping{static_cast<std::size_t>(bytes),
                                     PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                                     -1,
                                     0,
                                     "allocating the memory disk"};
            // A kernel without transparent huge pages refuses either, and has nothing to be told.
            (void)::madvise(store_.data(), store_.size(),
                            shape.huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
        }
    }

    [[nodiscard]] std::uint64_t size() const noexcept { return bytes_; }
    [[nodiscard]] std::uint32_t logical_block_size() const noexcept {
        return shape_.logical_block_size;
    }
    [[nodiscard]] std::uint32_t physical_block_size() const noexcept {
        return static_cast<std::uint32_t>(page_);
    }
    [[nodiscard]] bool read_only() const noexcept { return shape_.read_only; }

    result read(const request& r, std::span<std::byte> out) noexcept {
        std::memcpy(out.data(), at(r), out.size());
        return ok;
    }

    result write(const request& r, std::span<const std::byte> in) noexcept {
        std::memcpy(at(r), in.data(), in.size());
        return ok;
    }

    result read(const request& r, user_copy out) noexcept { return out.put(0, memory_for(r)); }
    result write(const request& r, user_copy in) noexcept { return in.get(0, memory_for(r)); }

    std::span<std::byte> memory_for(const request& r) noexcept {
        return {at(r), static_cast<std::size_t>(r.length())};
    }

    result discard(const request& r) noexcept { return forget(r); }

    /// The same, with or without NOUNMAP: memory that is overcommitted holds no space to keep.
    result write_zeroes(const request& r) noexcept { return forget(r); }

private:
    [[nodiscard]] std::byte* at(const request& r) const noexcept {
        return store_.data() + r.offset();
    }

    /// Whole pages go back to the system and read as zeroes; parts of pages are cleared.
    result forget(const request& r) noexcept {
        const std::uint64_t end = r.offset() + r.length();
        const std::uint64_t first = std::min(round_up(r.offset(), page_), end);
        const std::uint64_t last = std::max(round_down(end, page_), first);
        std::byte* const base = store_.data();
        std::memset(base + r.offset(), 0, first - r.offset());
        std::memset(base + last, 0, end - last);
        if (last > first && ::madvise(base + first, last - first, MADV_DONTNEED) != 0) {
            std::memset(base + first, 0, last - first);
        }
        return ok;
    }

    std::uint64_t bytes_;
    memory_geometry shape_;
    std::size_t page_;
    detail::mapping store_;
};

}  // namespace ublk::inline v0::backends
