// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/block_history.hpp>
#include <ublk/sim/content.hpp>
#include <ublk/sim/zeroed.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ublk::inline v0::sim {

/// A write on its way to the blocks of a disk. All writes of zeroes leave the same content.
struct write_under_way {
    content::id write = content::zeroes;
    moment began = 0;
};

/// What every block of a disk may hold, and which flush covered what.
///
/// Almost all blocks are calm at almost all times: at most readers or a single writer in flight,
/// and no doubt about the content. They are dealt with here, in place; the others have a history.
class block_table {
public:
    /// Writes are named by numbers below this.
    static constexpr moment last_moment = (1u << 30) - 1;
    static constexpr moment first_moment = 1;  // later than what a durable write buries

    block_table(std::uint64_t blocks, bool volatile_cache)
        : blocks_{blocks}, flushed_{volatile_cache ? first_moment : not_yet}, calm_{blocks} {}

    void start_flush(moment now) noexcept {
        last_flush_ = now;
        ++flushes_;
    }

    void stop_flush(moment began, bool succeeded) noexcept {
        --flushes_;
        flushed_ = succeeded ? std::max(flushed_, began) : flushed_;
    }

    /// Whether every write is durable when it is answered.
    [[nodiscard]] bool writes_through() const noexcept { return flushed_ == not_yet; }

    void start_reading(std::uint64_t block) {
        calm_block& calm = calm_[block];
        if (calm.users < writer) {
            ++calm.users;
        } else {
            ++history_of(calm).users;
        }
    }

    void start_writing(std::uint64_t block, content::id write) {
        calm_block& calm = calm_[block];
        if (calm.users == 0) {
            calm.users = writer | write;
        } else {
            slot& s = history_of(calm);
            ++s.users;
            s.past.start(write);
        }
    }

    /// A read that lasted from `began` to `now` found this: whether a correct disk may say so.
    /// `number` is what the content calls that block.
    bool accept(std::uint64_t block, std::uint32_t number, std::span<const std::byte> found,
                moment began, moment now) {
        calm_block& calm = calm_[block];
        if (!has_history(calm)) {
            return content::holds(found, {calm.now, number});
        }
        content::origin from = content::claimed(found);
        from.block = from.write == content::zeroes ? number : from.block;
        block_history& past = history_of(calm).past;
        if (from.block != number || !past.admits(from.write, began) ||
            !content::holds(found, from)) {
            return false;
        }
        past.observe(from.write, began, now);
        return true;
    }

    /// What `accept` would have taken, in words.
    [[nodiscard]] std::string admissible(std::uint64_t block, moment began) const {
        const calm_block& calm = calm_[block];
        return has_history(calm) ? slots_[calm.users & ~history].past.admissible(began)
                                 : content::describe({calm.now, 0}, 0, not_yet, 0);
    }

    /// `oldest_read()` is when the oldest read in flight began, `not_yet` for none. It is asked
    /// seldom, so it may be slow.
    template <class OldestRead>
    void stop_reading(std::uint64_t block, const OldestRead& oldest_read) {
        calm_block& calm = calm_[block];
        if (has_history(calm)) {
            leave(calm, oldest_read);
        } else {
            --calm.users;
        }
    }

    template <class OldestRead>
    void stop_writing(std::uint64_t block, write_under_way w, moment now,
                      block_history::outcome given, const OldestRead& oldest_read) {
        calm_block& calm = calm_[block];
        if (!has_history(calm) && stop_calmly(calm, w, now, given)) {
            return;
        }
        history_of(calm).past.finish(w.write, w.began, now, given);
        leave(calm, oldest_read);
    }

    /// While nothing is in flight. Later moments begin after `now`.
    void power_cut(moment now) {
        for (std::uint64_t block = 0; block < blocks_; ++block) {
            calm_block& calm = calm_[block];
            if (has_history(calm) || forget_buried(calm)) {
                history_of(calm).past.power_cut(flushed_, now);
                settle(calm);
            }
        }
        flushed_ = std::max(flushed_, now + 1);
    }

private:
    // calm_block::users is a number of readers, or one of these with a write or a place in
    // `slots_`.
    static constexpr std::uint32_t writer = 1u << 30;
    static constexpr std::uint32_t history = 1u << 31;

    struct slot {
        block_history past;
        std::uint32_t users = 0;
    };

    [[nodiscard]] static bool has_history(const calm_block& calm) noexcept {
        return (calm.users & history) != 0;
    }

    /// Ends the only request of a calm block. Returns false where the block is not calm afterwards.
    bool stop_calmly(calm_block& calm, write_under_way w, moment now,
                     block_history::outcome given) {
        const bool doubt = forget_buried(calm);
        if (w.write == content::zeroes && calm.now == content::zeroes && !doubt) {
            calm.since = now;  // zeroes before and after, whatever became of it
        } else if (!given.certain || (doubt && !given.durable && flush_since(calm.since))) {
            return false;
        } else {
            calm.supersede(w.write, now);
            calm.before = given.durable ? 0 : calm.before;
        }
        calm.users = 0;
        return true;
    }

    /// Returns whether a power cut may bring back older content.
    bool forget_buried(calm_block& calm) const noexcept {
        calm.before = calm.since < flushed_ ? 0 : calm.before;
        return calm.before != 0;
    }

    /// Whether a flush is under way that may bury what was superseded by then and nothing newer.
    [[nodiscard]] bool flush_since(moment then) const noexcept {
        return flushes_ != 0 && last_flush_ > then;
    }

    /// The history of a block, which begins here if it has none.
    slot& history_of(calm_block& calm) {
        if (has_history(calm)) {
            return slots_[calm.users & ~history];
        }
        if (free_slots_.empty()) {
            free_slots_.push_back(static_cast<std::uint32_t>(slots_.size()));
            slots_.emplace_back();
        }
        const std::uint32_t index = free_slots_.back();
        free_slots_.pop_back();
        slot& s = slots_[index];
        forget_buried(calm);
        s.past.take(calm);
        s.users = calm.users;
        if ((calm.users & writer) != 0) {
            s.past.start(calm.users & ~writer);
            s.users = 1;
        }
        calm.users = history | index;
        return s;
    }

    template <class OldestRead>
    void leave(calm_block& calm, const OldestRead& oldest_read) {
        constexpr std::size_t many = 16;
        slot& s = history_of(calm);
        if (--s.users == 0) {
            settle(calm);
        } else if (s.past.size() > many) {
            s.past.prune(flushed_, oldest_read());
            if (s.past.size() > 2 * many) {
                s.past.squeeze();
            }
        }
    }

    /// A block that nobody uses is calm again if it can be.
    void settle(calm_block& calm) {
        block_history& past = history_of(calm).past;
        past.prune(flushed_, not_yet);
        if (const auto calmed = past.calm(flushes_ != 0 ? last_flush_ : 0)) {
            free_slots_.push_back(calm.users & ~history);
            calm = *calmed;
        }
    }

    std::uint64_t blocks_;
    moment flushed_;  // what was buried before it cannot come back; not_yet: nothing ever can
    moment last_flush_ = 0;      // when the latest began
    std::uint32_t flushes_ = 0;  // in flight
    zeroed<calm_block> calm_;
    std::vector<slot> slots_;
    std::vector<std::uint32_t> free_slots_;
};

}  // namespace ublk::inline v0::sim
