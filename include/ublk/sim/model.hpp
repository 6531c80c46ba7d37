// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/block_history.hpp>
#include <ublk/sim/block_table.hpp>
#include <ublk/sim/content.hpp>
#include <ublk/sim/disk_window.hpp>
#include <ublk/sim/words.hpp>
#include <ublk/uapi.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace ublk::inline v0::sim {

/// One request as a client sends it, in logical blocks. `fua` says something of writes and write
/// zeroes; a flush has no blocks.
struct io {
    uapi::op op = uapi::op::read;  ///< read, write, flush, discard or write_zeroes
    std::uint64_t block = 0;
    std::uint32_t blocks = 0;
    bool fua = false;
};

/// What a disk may answer: a client tells it all that it sends and gets, and hears of every answer
/// that no correct disk would give. `block_history` says what a correct disk is.
class model {
public:
    using ticket = std::uint32_t;

    /// Range: `block_size` a multiple of 64.
    model(std::uint64_t blocks, std::uint32_t block_size, bool volatile_cache)
        : model{disk_window{blocks}, block_size, volatile_cache} {}
    /// Of a part of the disk, beyond which nobody may reach.
    model(disk_window known, std::uint32_t block_size, bool volatile_cache)
        : window_{std::move(known)}, block_size_{block_size}, table_{window_.blocks(),
                                                                     volatile_cache} {
        if (window_.blocks() > std::numeric_limits<std::uint32_t>::max() || block_size == 0 ||
            block_size % 64 != 0) {
            throw std::invalid_argument{"ublk: no model for a disk of this geometry"};
        }
    }

    /// A request goes to the disk. For a write fills `data` with content that no other write has;
    /// for a read spoils it, if it is there, so that an old answer in it is not taken for a new
    /// one.
    ticket begin(const io& intent, std::span<std::byte> data) {
        check(intent, data);
        const ticket issued = issue(intent);
        request& r = requests_[issued & index_mask];
        if (intent.op == uapi::op::flush) {
            table_.start_flush(r.began);
        } else if (intent.op == uapi::op::read) {
            for (std::size_t at = 0; at < data.size(); at += block_size_) {
                data[at] = ~data[at];
            }
            each_block(intent, [&](std::uint64_t block) { table_.start_reading(index_of(block)); });
        } else {
            r.write = intent.op == uapi::op::write ? r.began : content::zeroes;
            each_block(intent, [&](std::uint64_t block) {
                table_.start_writing(index_of(block), r.write);
                if (r.write != content::zeroes) {
                    content::fill(piece(data, block - intent.block), {r.write, number(block)});
                }
            });
        }
        return issued;
    }

    /// It was answered with 0 or a positive errno. Checks what a successful read found. Returns a
    /// complaint in words, or an empty string.
    [[nodiscard]] std::string end(ticket answered, int error, std::span<const std::byte> data) {
        const ticket index = answered & index_mask;
        if (index >= requests_.size() || !requests_[index].in_flight ||
            requests_[index].generation != answered >> index_bits) {
            return "an answer to request " + std::to_string(answered) + ", which is not in flight";
        }
        ++clock_;
        std::string complaint;
        if (requests_[index].intent.op == uapi::op::read && error == 0) {
            complaint = check_read(requests_[index], data);
        }
        retire(index, error == 0);
        return complaint;
    }

    /// Power failed: requests in flight are forgotten, their tickets are void, and what was not
    /// flushed may or may not be there.
    void power_cut() {
        server_died();
        table_.power_cut(clock_);
        ++clock_;
    }

    /// The server died, the disk kept its power: requests in flight are forgotten, their tickets
    /// are void, and each may or may not have been carried out.
    void server_died() {
        ++clock_;
        for (ticket index = 0; index < requests_.size(); ++index) {
            if (requests_[index].in_flight) {
                retire(index, false);
            }
        }
    }

    /// What it knows of the disk.
    [[nodiscard]] const disk_window& window() const noexcept { return window_; }

    [[nodiscard]] std::size_t in_flight() const { return requests_.size() - free_.size(); }

private:
    // A ticket is a place in `requests_` and how often it was taken before.
    static constexpr std::uint32_t index_bits = 20;
    static constexpr std::uint32_t index_mask = (1u << index_bits) - 1;

    struct request {
        io intent;
        moment began = 0;
        content::id write = content::zeroes;  // what its blocks hold afterwards
        std::uint32_t generation = 0;
        bool in_flight = false;
    };

    [[nodiscard]] static std::uint32_t number(std::uint64_t block) noexcept {
        return static_cast<std::uint32_t>(block);
    }
    [[nodiscard]] std::uint64_t index_of(std::uint64_t block) const noexcept {
        return window_.index_of(block);
    }
    template <class Byte>
    [[nodiscard]] std::span<Byte> piece(std::span<Byte> data, std::uint64_t block) const noexcept {
        return data.subspan(block * block_size_, block_size_);
    }
    template <class Each>
    static void each_block(const io& intent, Each&& each) {
        for (std::uint64_t block = intent.block; block < intent.block + intent.blocks; ++block) {
            each(block);
        }
    }

    void check(const io& intent, std::span<std::byte> data) const {
        const bool sized = data.size() == std::uint64_t{intent.blocks} * block_size_;
        if (intent.op != uapi::op::flush && !window_.holds(intent.block, intent.blocks)) {
            throw std::out_of_range{"ublk: a request beyond what the model knows"};
        }
        if (!sized &&
            (intent.op == uapi::op::write || (intent.op == uapi::op::read && !data.empty()))) {
            throw std::invalid_argument{"ublk: a request with data of another size"};
        }
    }

    ticket issue(const io& intent) {
        if (clock_ >= block_table::last_moment || requests_.size() > index_mask) {
            throw std::length_error{"ublk: too many requests for one model"};
        }
        if (free_.empty()) {
            free_.push_back(static_cast<ticket>(requests_.size()));
            requests_.emplace_back();
        }
        const ticket index = free_.back();
        free_.pop_back();
        request& r = requests_[index];
        r = {intent, ++clock_, content::zeroes, r.generation, true};
        return r.generation << index_bits | index;
    }

    /// The request is over: it was answered, or nobody will ever know.
    void retire(ticket index, bool succeeded) {
        request& r = requests_[index];
        const auto oldest = [this] { return oldest_read(); };
        if (r.intent.op == uapi::op::flush) {
            table_.stop_flush(r.began, succeeded);
        } else if (r.intent.op == uapi::op::read) {
            each_block(r.intent,
                       [&](std::uint64_t block) { table_.stop_reading(index_of(block), oldest); });
        } else {
            const block_history::outcome given{succeeded && r.intent.op != uapi::op::discard,
                                               r.intent.fua || table_.writes_through()};
            each_block(r.intent, [&](std::uint64_t block) {
                table_.stop_writing(index_of(block), {r.write, r.began}, clock_, given, oldest);
            });
        }
        r.in_flight = false;
        r.generation = (r.generation + 1) & (~ticket{0} >> index_bits);
        free_.push_back(index);
    }

    [[nodiscard]] moment oldest_read() const noexcept {
        moment oldest = not_yet;
        for (const request& r : requests_) {
            if (r.in_flight && r.intent.op == uapi::op::read) {
                oldest = std::min(oldest, r.began);
            }
        }
        return oldest;
    }

    [[nodiscard]] std::string words(const io& intent) const {
        return in_words(intent.op, intent.block * block_size_,
                        std::uint64_t{intent.blocks} * block_size_, intent.fua);
    }

    std::string check_read(const request& r, std::span<const std::byte> data) {
        if (data.size() != std::uint64_t{r.intent.blocks} * block_size_) {
            return words(r.intent) + " was answered with " + std::to_string(data.size()) + " bytes";
        }
        for (std::uint32_t i = 0; i < r.intent.blocks; ++i) {
            const std::uint64_t block = r.intent.block + i;
            if (!table_.accept(index_of(block), number(block), piece(data, i), r.began, clock_)) {
                return words(r.intent) + ": the block at " + std::to_string(block * block_size_) +
                       " holds " + content::describe(piece(data, i), number(block), clock_) +
                       ", but may only hold " + table_.admissible(index_of(block), r.began);
            }
        }
        return {};
    }

    disk_window window_;
    std::uint32_t block_size_;
    moment clock_ = block_table::first_moment;
    block_table table_;
    std::vector<request> requests_;
    std::vector<ticket> free_;
};

}  // namespace ublk::inline v0::sim
