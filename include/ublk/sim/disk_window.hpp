// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ublk::inline v0::sim {

/// The blocks of a disk that clients use and that a model knows, as ranges. Requests stay within
/// one of these. Blocks of all ranges together are numbered by an index, from 0 on.
class disk_window {
public:
    struct range {
        std::uint64_t first = 0;
        std::uint64_t blocks = 0;
        friend bool operator==(const range&, const range&) = default;
    };

    /// All of a disk.
    explicit disk_window(std::uint64_t blocks) : ranges_{{0, blocks}}, blocks_{blocks} {}

    /// All of a disk of up to 512 blocks. Of a larger one the first 128, the last 128, and 128
    /// around the largest power of two below its end: a server that cuts offsets off there, or at
    /// 2 or 4 GiB on the way, mixes them up with the first.
    [[nodiscard]] static disk_window parts_of(std::uint64_t blocks) {
        constexpr std::uint64_t part = 128;
        if (blocks <= 4 * part) {
            return disk_window{blocks};
        }
        const std::uint64_t turn = std::bit_floor(blocks - 1);
        disk_window some{part};
        some.add({std::min(turn - part / 2, blocks - 2 * part), part});
        some.add({blocks - part, part});
        return some;
    }

    /// At most so many blocks at its begin.
    [[nodiscard]] disk_window begin(std::uint64_t blocks) const {
        return disk_window{std::min(blocks, ranges_.front().blocks)};
    }

    [[nodiscard]] std::uint64_t blocks() const noexcept { return blocks_; }
    [[nodiscard]] const std::vector<range>& ranges() const noexcept { return ranges_; }

    /// Where a request of `length` blocks begins that is to begin at that index; earlier where it
    /// would leave its range. Requires: no range is shorter.
    [[nodiscard]] std::uint64_t place(std::uint64_t index, std::uint64_t length) const noexcept {
        for (const range& each : ranges_) {
            if (index < each.blocks) {
                return each.first + std::min(index, each.blocks - length);
            }
            index -= each.blocks;
        }
        return ranges_.back().first + ranges_.back().blocks - length;
    }

    /// Whether these blocks lie within one range.
    [[nodiscard]] bool holds(std::uint64_t block, std::uint64_t length) const noexcept {
        return std::any_of(ranges_.begin(), ranges_.end(), [&](const range& each) {
            return block >= each.first && length <= each.blocks &&
                   block - each.first <= each.blocks - length;
        });
    }

    /// Of a block that it has.
    [[nodiscard]] std::uint64_t index_of(std::uint64_t block) const noexcept {
        std::uint64_t before = 0;
        for (const range& each : ranges_) {
            if (block >= each.first && block - each.first < each.blocks) {
                return before + block - each.first;
            }
            before += each.blocks;
        }
        return blocks_;
    }

private:
    void add(const range& next) {
        ranges_.push_back(next);
        blocks_ += next.blocks;
    }

    std::vector<range> ranges_;
    std::uint64_t blocks_;
};

}  // namespace ublk::inline v0::sim
