// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/mapping.hpp>
#include <ublk/detail/written_units.hpp>
#include <ublk/error.hpp>
#include <ublk/payload.hpp>
#include <ublk/request.hpp>
#include <ublk/result.hpp>
#include <ublk/uapi.hpp>
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
/// (mlockall): then they are cleared. Queues run concurrently without a lock: requests that overlap
/// in flight have no order on any disk.
///
/// A disk larger than `tracked_above` knows which units of 256 KiB were never written, or discarded
/// as a whole since: a read of those takes no page fault, and no page tables. What it knows takes a
/// page for each GiB that is written to. With the data path `get_data` a discard frees memory, but
/// its units count as written from then on.
class memory {
public:
    /// 1 GiB, in bytes. In less there is little to gain: there are as many faults as pages, once.
    static constexpr std::uint64_t tracked_above = std::uint64_t{1} << 30;

    static constexpr bool idempotent = true;

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
            begin_ = reinterpret_cast<std::uintptr_t>(store_.data());
        }
        if (bytes > tracked_above) {
            track();
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
        const std::uintptr_t from = begin_ + r.offset();
        if (is_address(from)) [[likely]] {
            std::memcpy(out.data(), reinterpret_cast<const std::byte*>(from), out.size());
        } else {
            read_tracked(out.data(), from, out.size(), *this);
        }
        return ok;
    }

    result write(const request& r, std::span<const std::byte> in) noexcept {
        const std::uintptr_t to = begin_ + r.offset();
        if (is_address(to)) [[likely]] {
            std::memcpy(reinterpret_cast<std::byte*>(to), in.data(), in.size());
        } else {
            write_tracked(to, in.data(), in.size(), *this);
        }
        return ok;
    }

    result read(const request& r, user_copy out) noexcept { return out.put(0, memory_for(r)); }

    result write(const request& r, user_copy in) noexcept {
        std::uintptr_t to = begin_ + r.offset();
        if (!is_address(to)) [[unlikely]] {
            to &= ~tracked_bit;
        }
        const result done = in.get(0, bytes_at(to, r.length()));
        if (tracked()) [[unlikely]] {
            written_.add(r.offset(), r.length());  // some of it may be there even if it failed
        }
        return done;
    }

    /// For a read of a hole, the place of zeroes that nobody may write to.
    std::span<std::byte> memory_for(const request& r) noexcept {
        const std::uintptr_t place = begin_ + r.offset();
        return is_address(place) ? bytes_at(place, r.length())
                                 : bytes_at(place_tracked(place, r.length(), r.op()), r.length());
    }

    result discard(const request& r) noexcept { return forget(r); }

    /// The same, with or without NOUNMAP: memory that is overcommitted holds no space to keep.
    result write_zeroes(const request& r) noexcept { return forget(r); }

private:
    /// Set in `begin_` of a disk that knows its holes. No address of a program has it, and an
    /// offset is added anyway: the sign of the sum tells the disks apart, by one instruction.
    static constexpr std::uintptr_t tracked_bit = std::uintptr_t{1} << 63;
    static_assert(sizeof(std::uintptr_t) == 8);

    [[nodiscard]] static bool is_address(std::uintptr_t place) noexcept {
        return static_cast<std::intptr_t>(place) >= 0;
    }
    [[nodiscard]] bool tracked() const noexcept { return !is_address(begin_); }

    void track() {
        written_ = detail::written_units{bytes_};
        zeroes_ = detail::mapping{uapi::max_io_buf_bytes,
                                  PROT_READ,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                                  -1,
                                  0,
                                  "allocating the zeroes of the memory disk"};
        begin_ |= tracked_bit;
    }

    [[nodiscard]] static std::span<std::byte> bytes_at(std::uintptr_t place,
                                                       std::uint64_t bytes) noexcept {
        return {reinterpret_cast<std::byte*>(place), static_cast<std::size_t>(bytes)};
    }

    // What only such disks do is not inlined into the loop that serves all. In the place of memcpy
    // it takes the same arguments in the same order, so that no register moves for it.

    [[gnu::noinline]] static void read_tracked(std::byte* out, std::uintptr_t from,
                                               std::size_t bytes, const memory& disk) noexcept {
        const std::uint64_t offset = from - disk.begin_;
        if (disk.written_.in_one_written(offset, bytes)) [[likely]] {
            std::memcpy(out, disk.store_.data() + offset, bytes);
        } else {
            disk.read_runs(offset, out, bytes);
        }
    }

    [[gnu::noinline]] void read_runs(std::uint64_t offset, std::byte* out,
                                     std::size_t bytes) const noexcept {
        const std::byte* const stored = store_.data() + offset;
        for (std::size_t done = 0; done < bytes;) {
            const auto [some, written] = written_.run_at(offset + done, bytes - done);
            if (written) {
                std::memcpy(out + done, stored + done, some);
            } else {
                std::memset(out + done, 0, some);
            }
            done += some;
        }
    }

    [[gnu::noinline]] static void write_tracked(std::uintptr_t to, const std::byte* in,
                                                std::size_t bytes, memory& disk) noexcept {
        const std::uint64_t offset = to - disk.begin_;
        std::memcpy(disk.store_.data() + offset, in, bytes);
        disk.written_.add(offset, bytes);
    }

    [[nodiscard]] bool is_hole(std::uint64_t offset, std::uint64_t bytes) const noexcept {
        const detail::written_units::run all = written_.run_at(offset, bytes);
        return !all.written && all.bytes == bytes;
    }

    [[gnu::noinline]] std::uintptr_t place_tracked(std::uintptr_t place, std::uint64_t bytes,
                                                   uapi::op op) noexcept {
        const std::uint64_t offset = place - begin_;
        if (op == uapi::op::write) {
            written_.add_for_good(offset, bytes);
        } else if (!written_.in_one_written(offset, bytes) && is_hole(offset, bytes)) {
            return reinterpret_cast<std::uintptr_t>(zeroes_.data());
        }
        return reinterpret_cast<std::uintptr_t>(store_.data() + offset);
    }

    /// Whole pages go back to the system and read as zeroes; parts of pages are cleared.
    [[gnu::noinline]] result forget(const request& r) noexcept {
        const std::uint64_t begin = r.offset();
        const std::uint64_t end = begin + r.length();
        const std::uint64_t first = std::min(round_up(begin, page_), end);
        const std::uint64_t last = std::max(round_down(end, page_), first);
        clear(begin, first);
        clear(last, end);
        if (last > first) {
            give_back(first, last);
        }
        return ok;
    }

    /// A part of a page. Where there is none, it stays so.
    void clear(std::uint64_t begin, std::uint64_t end) noexcept {
        if (begin < end && (!tracked() || written_.written(begin))) {
            std::memset(store_.data() + begin, 0, end - begin);
        }
    }

    /// Whole pages.
    void give_back(std::uint64_t begin, std::uint64_t end) noexcept {
        if (tracked()) {
            written_.remove(begin, end);
        }
        if (::madvise(store_.data() + begin, end - begin, MADV_DONTNEED) != 0) {
            if (tracked()) {
                written_.add(begin, end - begin);  // what is written meanwhile stays in these pages
            }
            std::memset(store_.data() + begin, 0, end - begin);
        }
    }

    std::uint64_t bytes_;
    memory_geometry shape_;
    std::size_t page_;
    std::uintptr_t begin_ = 0;
    detail::mapping store_;
    detail::written_units written_;
    detail::mapping zeroes_;  ///< as long as the longest request; where the kernel reads holes
};

}  // namespace ublk::inline v0::backends
