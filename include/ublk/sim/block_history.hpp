// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/content.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace ublk::inline v0::sim {

/// Counts what happens to a model: every beginning and every answer has a moment of its own, and a
/// write is named by the moment it began.
using moment = std::uint32_t;
inline constexpr moment not_yet = std::numeric_limits<moment>::max();

/// A block that nothing is doubtful about: what it holds, and which older versions a power cut may
/// still bring back. 16 bytes, as there is one for every block; zero bytes are a block of zeroes.
struct calm_block {
    static constexpr std::uint32_t zero_flag = 1u << 31;

    content::id now;
    std::uint32_t before;  ///< 0: none, else the oldest unflushed write, and whether zeroes too
    moment since;          ///< `now` was answered and `before` superseded by then
    std::uint32_t users;   ///< belongs to the table

    [[nodiscard]] content::id oldest() const noexcept { return before & ~zero_flag; }

    /// `now` joins those that were before.
    void supersede(content::id by, moment at) noexcept {
        const content::id old = oldest();
        if (now == content::zeroes) {
            before |= zero_flag;
        } else if (old == 0 || now < old) {
            before = (before & zero_flag) | now;
        }
        now = by;
        since = at;
    }
};

/// What one block may hold, exactly, for all that a `calm_block` has no room for: requests that
/// overlap, failed ones, discards, and what a power cut left.
///
/// A correct disk carries out a request on each of its blocks at one or several moments between its
/// beginning and its answer. Hence two rules. A write that succeeded rules out every version whose
/// own write was answered before it began. A read that found something rules out all others whose
/// writes were answered before the read began. What is ruled out for reads stays possible after a
/// power cut until a write known to be later is known to be on the medium.
class block_history {
public:
    /// Takes over from a calm block. Versions that a power cut cannot bring back are to be left
    /// out.
    void take(const calm_block& calm) {
        versions_.clear();
        ruled_out_ = 0;
        versions_.push_back({calm.now, calm.now, calm.since});
        if (calm.oldest() != 0) {
            versions_.push_back({calm.oldest(), calm.since, calm.since, calm.since, calm.since});
        }
        if ((calm.before & calm_block::zero_flag) != 0 && calm.now != content::zeroes) {
            versions_.push_back(
                {content::zeroes, content::zeroes, calm.since, calm.since, calm.since});
        }
    }

    /// A write to this block goes to the disk.
    void start(content::id write) {
        // Zeroes cannot be told apart, so all writes of zeroes are one version, as old as the
        // latest.
        version* own = write == content::zeroes ? exactly(write) : nullptr;
        if (own == nullptr) {
            own = &versions_.emplace_back(version{write, write});
        }
        own->answered = own->gone = own->buried = not_yet;
        ++own->in_flight;
    }

    struct outcome {
        /// The block had this version at some moment; a discard or failure leaves it open.
        bool certain;
        bool durable;  ///< and it was on the medium then
    };

    /// The write was answered.
    void finish(content::id write, moment began, moment now, outcome given) {
        version& own = *exactly(write);
        if (--own.in_flight == 0) {
            own.answered = now;
        }
        own.certain = own.certain && given.certain;
        if (!given.certain) {
            return;
        }
        for (version& v : versions_) {
            if (v.answered < began) {
                v.gone = std::min(v.gone, now);
                v.buried = std::min(v.buried, given.durable ? 0 : now);
            }
        }
    }

    /// Whether a read that began then may find this.
    [[nodiscard]] bool admits(content::id found, moment began) const noexcept {
        return find(found, began) != nullptr;
    }

    /// A read from `began` to `now` found this. Requires: it is admitted.
    void observe(content::id found, moment began, moment now) {
        version seen = *find(found, began);
        if (seen.first != seen.last) {  // one out of many
            seen.first = seen.last = found;
            versions_.push_back(seen);
        }
        const bool seen_certain = seen.certain && seen.in_flight == 0;
        for (version& v : versions_) {
            if (v.is(found) || v.answered >= began) {
                continue;
            }
            v.gone = std::min({v.gone, now, seen.answered});
            // A failed write may turn up after a power cut even though it was not to be seen
            // before.
            if (v.certain && seen_certain) {
                v.buried = std::min(v.buried, std::max(v.answered, seen.answered));
            }
        }
    }

    /// The block holds what the medium held, for good. Requires: no write is in flight.
    void power_cut(moment flushed, moment now) {
        std::erase_if(versions_, [&](const version& v) { return v.buried < flushed; });
        for (version& v : versions_) {
            v = {v.first, v.last, now};
        }
    }

    /// Drops what is not possible any more: what flushes that began up to `flushed` have buried,
    /// and no read that began from `oldest_read` on may find.
    void prune(moment flushed, moment oldest_read) {
        std::erase_if(versions_, [&](const version& v) {
            const bool drop = v.gone < oldest_read && v.buried < flushed;
            ruled_out_ = drop ? std::max(ruled_out_, v.last) : ruled_out_;
            return drop;
        });
    }

    /// Puts versions in the same state together, with all writes between them, so that neither
    /// memory nor time grow without bound on a block that never comes to rest. May admit too much.
    void squeeze() {
        std::vector<version> kept;
        for (const version& v : versions_) {
            const auto same = std::find_if(kept.begin(), kept.end(), [&](const version& other) {
                return v.merges() && other.merges() && v.lives() == other.lives() &&
                       (v.buried == not_yet) == (other.buried == not_yet);
            });
            if (same == kept.end()) {
                kept.push_back(v);
            } else {
                same->absorb(v);
            }
        }
        versions_.swap(kept);
    }

    [[nodiscard]] std::size_t size() const noexcept { return versions_.size(); }

    /// This block as a calm one, if that loses nothing. Requires: nothing is in flight and `prune`
    /// was called. `flush` is when the latest flush that is in flight began, 0 for none: it may
    /// bury some of the older versions and not others, which a calm block could not tell apart.
    [[nodiscard]] std::optional<calm_block> calm(moment flush) const {
        const version* now = nullptr;
        moment first = not_yet;
        calm_block made{};
        for (const version& v : versions_) {
            if (v.lives()) {
                if (now != nullptr || v.first != v.last) {
                    return std::nullopt;
                }
                now = &v;
            } else if (v.buried == not_yet) {
                return std::nullopt;
            } else {
                made.now = v.first;
                made.supersede(content::zeroes, std::max(made.since, v.buried));
                first = std::min(first, v.buried);
            }
        }
        if (now == nullptr || (made.oldest() != 0 && made.oldest() <= ruled_out_)) {
            return std::nullopt;
        }
        made.now = now->first;
        made.since = std::max(made.since, now->answered);
        return first < flush && first < made.since ? std::nullopt : std::optional{made};
    }

    /// What a read that began then may find, in words.
    [[nodiscard]] std::string admissible(moment began) const {
        std::string text;
        for (const version& v : versions_) {
            if (v.gone >= began) {
                text += text.empty() ? "" : ", ";
                text += content::describe({v.first, 0}, 0, not_yet, 0);
                text += v.first == v.last ? "" : " to " + std::to_string(v.last);
            }
        }
        return text;
    }

private:
    /// One write, or all from one to another.
    struct version {
        content::id first;
        content::id last;
        moment answered = not_yet;  ///< the disk cannot carry it out later than this
        moment gone = not_yet;      ///< a read that begins later cannot find it
        moment buried = not_yet;    ///< a flush that begins later keeps it from coming back
        std::uint32_t in_flight = 0;
        bool certain = true;  ///< the block held it, as far as it was answered

        [[nodiscard]] bool is(content::id write) const noexcept {
            return first == write && last == write;
        }
        [[nodiscard]] bool lives() const noexcept { return gone == not_yet; }
        [[nodiscard]] bool merges() const noexcept {
            return first != content::zeroes && in_flight == 0;
        }
        void absorb(const version& other) noexcept {
            first = std::min(first, other.first);
            last = std::max(last, other.last);
            answered = std::max(answered, other.answered);
            gone = std::max(gone, other.gone);
            buried = std::max(buried, other.buried);
            certain = certain && other.certain;
        }
    };

    [[nodiscard]] version* exactly(content::id write) noexcept {
        const auto own = std::find_if(versions_.begin(), versions_.end(),
                                      [&](const version& v) { return v.is(write); });
        return own == versions_.end() ? nullptr : &*own;
    }

    /// The version that a read which began then may have found: that very one before a range.
    [[nodiscard]] const version* find(content::id found, moment began) const noexcept {
        const version* best = nullptr;
        for (const version& v : versions_) {
            if (v.first <= found && found <= v.last && v.gone >= began &&
                (best == nullptr || v.is(found))) {
                best = &v;
            }
        }
        return best;
    }

    std::vector<version> versions_;
    content::id ruled_out_ = 0;  // the latest write that was dropped
};

}  // namespace ublk::inline v0::sim
