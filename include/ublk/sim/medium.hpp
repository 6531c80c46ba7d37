// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/random.hpp>
#include <ublk/sim/zeroed.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <stdexcept>
#include <vector>

namespace ublk::inline v0::sim {

/// Bytes behind a volatile cache, for backends that are tried in the simulator. Blocks are whole:
/// after a power cut each holds one of the versions that it had since the last `sync`.
///
/// For a single thread, as everything simulated. Requires, wherever there is an offset and a
/// length: they are multiples of the block size and lie on the medium.
class medium {
public:
    medium(std::uint64_t bytes, std::uint32_t block_size)
        : size_{bytes}, block_size_{block_size}, bytes_{bytes}, undo_of_{block_size == 0
                                                                             ? 0
                                                                             : bytes / block_size} {
        if (block_size == 0 || bytes % block_size != 0 ||
            bytes / block_size > std::numeric_limits<std::uint32_t>::max()) {
            throw std::invalid_argument{"ublk: no medium of this geometry"};
        }
    }

    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
    [[nodiscard]] std::uint32_t block_size() const noexcept { return block_size_; }

    void read(std::uint64_t offset, std::span<std::byte> out) const noexcept {
        if (!out.empty()) {
            std::memcpy(out.data(), bytes_.data() + offset, out.size());
        }
    }

    void write(std::uint64_t offset, std::span<const std::byte> in) {
        if (!frozen_ && !in.empty()) {
            remember(offset, in.size());
            std::memcpy(bytes_.data() + offset, in.data(), in.size());
        }
    }

    /// A write that is durable at once.
    void write_through(std::uint64_t offset, std::span<const std::byte> in) {
        if (!frozen_ && !in.empty()) {
            std::memcpy(bytes_.data() + offset, in.data(), in.size());
            forget(offset, in.size());
        }
    }

    void zero(std::uint64_t offset, std::uint64_t length) {
        if (!frozen_ && length != 0) {
            remember(offset, length);
            std::memset(bytes_.data() + offset, 0, length);
        }
    }

    /// Zeroes that are durable at once.
    void zero_through(std::uint64_t offset, std::uint64_t length) {
        if (!frozen_ && length != 0) {
            std::memset(bytes_.data() + offset, 0, length);
            forget(offset, length);
        }
    }

    /// Makes everything durable.
    void sync() noexcept {
        if (!frozen_) {
            settle();
        }
    }

    /// Each block that was written since the last `sync` falls back to what it held then, or to
    /// something it held since, or keeps what it has. Nobody writes to a disk without power: it is
    /// frozen from here on.
    void power_cut(random& dice) noexcept {
        for (const undo& u : undos_) {
            const std::uint64_t choice = dice.below(u.count + std::uint64_t{1});
            if (choice < u.count) {
                std::memcpy(bytes_.data() + u.block * std::uint64_t{block_size_},
                            saved_.data() + u.slots[choice] * std::uint64_t{block_size_},
                            block_size_);
            }
        }
        settle();
        frozen_ = true;
    }

    /// From here until `thaw`, nothing that would change the medium has an effect: the code of a
    /// dead server may still run a little in the simulator.
    void freeze() noexcept { frozen_ = true; }
    void thaw() noexcept { frozen_ = false; }
    [[nodiscard]] bool frozen() const noexcept { return frozen_; }

private:
    static constexpr std::size_t depth = 3;  // the durable version and the latest few after it

    struct undo {
        std::uint32_t block = 0;
        std::uint32_t count = 0;
        std::array<std::uint32_t, depth>
            slots{};  // places in `saved_`; the first is the durable one
    };

    void settle() noexcept {
        for (const undo& u : undos_) {
            undo_of_[u.block] = 0;
        }
        undos_.clear();
        saved_.clear();
        free_.clear();
    }

    /// Keeps what is about to be overwritten.
    void remember(std::uint64_t offset, std::uint64_t length) {
        for (std::uint64_t at = offset; at < offset + length; at += block_size_) {
            const std::uint64_t block = at / block_size_;
            std::uint32_t& place = undo_of_[block];
            if (place == 0) {
                undos_.push_back({static_cast<std::uint32_t>(block), 0, {}});
                place = static_cast<std::uint32_t>(undos_.size());
            }
            undo& u = undos_[place - 1];
            if (u.count == depth) {
                std::rotate(u.slots.begin() + 1, u.slots.begin() + 2, u.slots.end());
            } else {
                u.slots[u.count] = new_slot();
                ++u.count;
            }
            std::memcpy(saved_.data() + u.slots[u.count - 1] * std::uint64_t{block_size_},
                        bytes_.data() + block * block_size_, block_size_);
        }
    }

    /// What is there now is durable.
    void forget(std::uint64_t offset, std::uint64_t length) {
        for (std::uint64_t at = offset; at < offset + length; at += block_size_) {
            std::uint32_t& place = undo_of_[at / block_size_];
            if (place == 0) {
                continue;
            }
            undo& u = undos_[place - 1];
            free_.insert(free_.end(), u.slots.begin(), u.slots.begin() + u.count);
            undo_of_[undos_.back().block] = place;  // the last takes the place of this one
            u = undos_.back();
            undos_.pop_back();
            place = 0;
        }
    }

    std::uint32_t new_slot() {
        if (!free_.empty()) {
            const std::uint32_t slot = free_.back();
            free_.pop_back();
            return slot;
        }
        saved_.resize(saved_.size() + block_size_);
        return static_cast<std::uint32_t>(saved_.size() / block_size_ - 1);
    }

    std::uint64_t size_;
    std::uint32_t block_size_;
    bool frozen_ = false;
    zeroed<std::byte> bytes_;
    zeroed<std::uint32_t> undo_of_;  // 0: clean, else one more than a place in `undos_`
    std::vector<undo> undos_;
    std::vector<std::byte> saved_;
    std::vector<std::uint32_t> free_;  // places in `saved_`
};

}  // namespace ublk::inline v0::sim
