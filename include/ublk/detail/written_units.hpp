// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/mapping.hpp>

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace ublk::inline v0::detail {

/// Which units of a disk's memory may hold anything but zeroes: a mark for each, of one byte.
///
/// A unit is marked after it was written, and unmarked before its pages are given back. A write at
/// the same time that finds the mark has its bytes given back, too; one that does not sets it
/// again. So no bytes stay in a unit without a mark, where the next write to it would uncover them.
/// On x86 the processor needs no fence between bytes and mark: the kernel interrupts every one that
/// may have bytes on the way to a page before it gives that back. Others are not interrupted, and
/// might look for the mark before they have looked for the page.
///
/// Thread: any.
class written_units {
public:
    /// 256 KiB, so that the marks of a TiB are 4 MiB. Smaller units tell apart more, but more
    /// first writes then fault in a page of marks as well: one for each 4096 units.
    static constexpr std::uint64_t unit = std::uint64_t{1} << 18;

    /// Bytes that are all of units with a mark, or all of units without.
    struct run {
        std::uint64_t bytes;
        bool written;
    };

    written_units() noexcept = default;

    /// None of a disk of that many bytes, which are not 0. Throws: `error`.
    explicit written_units(std::uint64_t disk_bytes)
        : disk_bytes_{disk_bytes}, marks_{static_cast<std::size_t>((disk_bytes - 1) / unit + 1),
                                          PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                                          -1,
                                          0,
                                          "allocating the marks of the memory disk"} {
        // Neither is needed. The second maps the page of zeroes, so that no look at a mark faults.
        (void)::madvise(marks_.data(), marks_.size(), MADV_NOHUGEPAGE);
        (void)::madvise(marks_.data(), marks_.size(), MADV_POPULATE_READ);
    }

    /// Whether the unit of that byte has a mark.
    [[nodiscard]] bool written(std::uint64_t offset) const noexcept {
        return mark(offset / unit).load(std::memory_order_relaxed) != none;
    }

    /// Whether all of it is in one unit, which has a mark: the most frequent case, told at once.
    [[nodiscard]] bool in_one_written(std::uint64_t offset, std::uint64_t bytes) const noexcept {
        return offset / unit == (offset + bytes - 1) / unit && written(offset);
    }

    /// What is from `offset` on, at most so many bytes.
    [[nodiscard]] run run_at(std::uint64_t offset, std::uint64_t bytes) const noexcept {
        const bool first = written(offset);
        std::uint64_t end = (offset / unit + 1) * unit;
        while (end < offset + bytes && written(end) == first) {
            end += unit;
        }
        return {std::min(bytes, end - offset), first};
    }

    /// Marks what was written.
    [[gnu::noinline]] void add(std::uint64_t offset, std::uint64_t bytes) noexcept {
#ifdef __x86_64__
        std::atomic_signal_fence(std::memory_order_seq_cst);  // the compiler keeps the order
#else
        std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
        if (in_one_written(offset, bytes)) [[likely]] {
            return;
        }
        for (std::uint64_t n = offset / unit; n * unit < offset + bytes; ++n) {
            if (mark(n).load(std::memory_order_relaxed) == none) {
                std::uint8_t expected = none;
                mark(n).compare_exchange_strong(expected, once);
            }
        }
    }

    /// Marks what will be written at a time that nobody tells. These marks stay.
    void add_for_good(std::uint64_t offset, std::uint64_t bytes) noexcept {
        for (std::uint64_t n = offset / unit; n * unit < offset + bytes; ++n) {
            if (mark(n).load(std::memory_order_relaxed) != always) {
                mark(n).store(always);
            }
        }
    }

    /// Removes the marks of units that are between `begin` and `end` as a whole.
    void remove(std::uint64_t begin, std::uint64_t end) noexcept {
        for (std::uint64_t n = (begin + unit - 1) / unit;
             n * unit < end && std::min((n + 1) * unit, disk_bytes_) <= end; ++n) {
            if (mark(n).load(std::memory_order_relaxed) == once) {
                std::uint8_t expected = once;
                mark(n).compare_exchange_strong(expected, none);
            }
        }
    }

private:
    static constexpr std::uint8_t none = 0;
    static constexpr std::uint8_t once = 1;
    static constexpr std::uint8_t always = 2;

    [[nodiscard]] std::atomic_ref<std::uint8_t> mark(std::uint64_t number) const noexcept {
        return std::atomic_ref{reinterpret_cast<std::uint8_t*>(marks_.data())[number]};
    }

    std::uint64_t disk_bytes_ = 0;
    mapping marks_;
};

}  // namespace ublk::inline v0::detail
