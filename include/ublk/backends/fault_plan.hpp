// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/request.hpp>
#include <ublk/uapi.hpp>
#include <ublk/units.hpp>

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

namespace ublk::inline v0 {

/// What may happen to a request.
enum class fault_kind : std::uint8_t {
    none,
    fail,   ///< it fails, and the backend hears nothing of it
    delay,  ///< it reaches the backend later
    torn,   ///< only its first bytes reach the backend, and it fails
    split,  ///< it reaches the backend in two pieces, one after the other
    die,    ///< the server ends with the request in hand
};

/// One fault, for requests that are counted. Delays of several rules add up; of the other faults
/// that apply to a request the first in the order of the rules is taken.
struct fault_rule {
    fault_kind kind = fault_kind::fail;

    /// Which requests count: all, or those of one operation; that touch any of `length` bytes from
    /// `offset` on. FLUSH touches all.
    std::optional<uapi::op> op{};
    std::uint64_t offset = 0;
    std::uint64_t length = std::numeric_limits<std::uint64_t>::max();

    /// Which of those are hit: `count` of them, from the nth on, beginning with 1.
    std::uint64_t nth = 1;
    std::uint64_t count = 1;

    /// fail and torn: the errno that the request fails with.
    int error = EIO;

    /// delay: for how long.
    std::chrono::nanoseconds delay{};

    /// torn, split and die: bytes that reach the backend before, rounded down to whole blocks.
    /// Empty means drawn from the seed; for die none.
    std::optional<std::uint64_t> cut{};
};

/// How often faults happen by themselves: to one request in so many; 0 is never, 1 always.
struct fault_odds {
    std::uint32_t fail = 0;
    std::uint32_t delay = 0;
    std::uint32_t torn = 0;
    std::uint32_t split = 0;
    std::uint32_t die = 0;
    int error = EIO;                                                   ///< of fail and torn
    std::chrono::nanoseconds longest = std::chrono::milliseconds{10};  ///< of the delays
};

/// Ends the process as a crash would: no destructor runs, nothing is written back.
inline void die_at_once(const request&) {
    ::kill(::getpid(), SIGKILL);
}

/// All that happens to the requests of a `backends::fault`.
struct fault_plan {
    std::uint64_t seed = 0;
    fault_odds odds{};
    std::vector<fault_rule> rules{};

    /// Called on the queue's thread where the server is to die. If it returns, the request fails
    /// with EIO.
    void (*die)(const request&) = die_at_once;
};

namespace detail {

/// What happens to one request.
struct fault_verdict {
    fault_kind kind = fault_kind::none;
    int error = EIO;
    std::chrono::nanoseconds delay{};
    std::uint64_t cut = 0;  ///< bytes that reach the backend first

    [[nodiscard]] bool harmless() const noexcept {
        return kind == fault_kind::none && delay.count() <= 0;
    }
};

/// Decides by a plan, for any number of threads at once: counters are all that they share. What is
/// drawn depends on the seed and on how many requests there were before, so that a run with one
/// queue is the same each time.
class faults {
public:
    /// Cuts are multiples of `unit` bytes, a power of two.
    faults(fault_plan plan, std::uint32_t unit)
        : plan_{std::move(plan)}, unit_{unit}, matched_(plan_.rules.size()) {}

    [[nodiscard]] fault_verdict decide(const request& r) noexcept {
        if (!armed_.load(std::memory_order_relaxed)) {
            return {};
        }
        dice draw{plan_.seed, requests_.fetch_add(1, std::memory_order_relaxed)};
        fault_verdict verdict;
        apply_rules(r, draw, verdict);
        apply_odds(r, draw, verdict);
        if (!verdict.harmless()) {
            injected_.fetch_add(1, std::memory_order_relaxed);
        }
        return verdict;
    }

    void arm(bool on) noexcept { armed_.store(on, std::memory_order_relaxed); }
    [[nodiscard]] std::uint64_t injected() const noexcept {
        return injected_.load(std::memory_order_relaxed);
    }
    void die(const request& r) const { plan_.die(r); }

private:
    /// splitmix64, a stream for each request.
    class dice {
    public:
        dice(std::uint64_t seed, std::uint64_t nth) noexcept
            : state_{mixed(seed) ^ mixed(nth + step)} {}

        /// 0 to n - 1, for an n of at least 1.
        [[nodiscard]] std::uint64_t below(std::uint64_t n) noexcept {
            state_ += step;
            return mixed(state_) % n;
        }
        [[nodiscard]] bool one_in(std::uint32_t so_many) noexcept {
            return so_many != 0 && below(so_many) == 0;
        }

    private:
        static constexpr std::uint64_t step = 0x9e37'79b9'7f4a'7c15;

        [[nodiscard]] static std::uint64_t mixed(std::uint64_t value) noexcept {
            value = (value ^ (value >> 30)) * 0xbf58'476d'1ce4'e5b9;
            value = (value ^ (value >> 27)) * 0x94d0'49bb'1331'11eb;
            return value ^ (value >> 31);
        }

        std::uint64_t state_;
    };

    [[nodiscard]] static bool counts(const fault_rule& rule, const request& r) noexcept {
        if (rule.op && *rule.op != r.op()) {
            return false;
        }
        return r.op() == uapi::op::flush ||
               (r.offset() + r.length() > rule.offset &&
                (r.offset() < rule.offset || r.offset() - rule.offset < rule.length));
    }

    void apply_rules(const request& r, dice& draw, fault_verdict& verdict) noexcept {
        for (std::size_t i = 0; i < plan_.rules.size(); ++i) {
            const fault_rule& rule = plan_.rules[i];
            if (!counts(rule, r)) {
                continue;
            }
            const std::uint64_t nth = matched_[i].fetch_add(1, std::memory_order_relaxed) + 1;
            if (nth < rule.nth || nth - rule.nth >= rule.count) {
                continue;
            }
            if (rule.kind == fault_kind::delay) {
                verdict.delay += rule.delay;
            } else if (verdict.kind == fault_kind::none) {
                verdict.kind = rule.kind;
                verdict.error = rule.error;
                verdict.cut = rule.cut ? round_down(std::min(*rule.cut, bytes_of(r)), unit_)
                                       : drawn_cut(rule.kind, r, draw);
            }
        }
    }

    // Only where no rule has spoken: rules are for tests that know what they want.
    void apply_odds(const request& r, dice& draw, fault_verdict& verdict) noexcept {
        const fault_odds& odds = plan_.odds;
        if (!verdict.harmless()) {
            return;
        }
        if (draw.one_in(odds.delay)) {
            const auto most = std::max<std::int64_t>(odds.longest.count(), 1);
            verdict.delay = std::chrono::nanoseconds{
                static_cast<std::int64_t>(draw.below(static_cast<std::uint64_t>(most))) + 1};
        }
        for (const auto& [kind, so_many] :
             {std::pair{fault_kind::fail, odds.fail}, std::pair{fault_kind::torn, odds.torn},
              std::pair{fault_kind::split, odds.split}, std::pair{fault_kind::die, odds.die}}) {
            if (draw.one_in(so_many)) {
                verdict.kind = kind;
                verdict.error = odds.error;
                verdict.cut = drawn_cut(kind, r, draw);
                return;
            }
        }
    }

    [[nodiscard]] static std::uint64_t bytes_of(const request& r) noexcept {
        return r.op() == uapi::op::flush ? 0 : r.length();
    }

    /// Before the last block, or between two where both pieces have to have some.
    [[nodiscard]] std::uint64_t drawn_cut(fault_kind kind, const request& r,
                                          dice& draw) const noexcept {
        const std::uint64_t blocks = bytes_of(r) / unit_;
        if (kind == fault_kind::torn && blocks != 0) {
            return draw.below(blocks) * unit_;
        }
        if (kind == fault_kind::split && blocks > 1) {
            return (1 + draw.below(blocks - 1)) * unit_;
        }
        return 0;
    }

    fault_plan plan_;
    std::uint32_t unit_;
    std::vector<std::atomic<std::uint64_t>> matched_;  // by each rule
    std::atomic<std::uint64_t> requests_ = 0;
    std::atomic<std::uint64_t> injected_ = 0;
    std::atomic<bool> armed_ = true;
};

}  // namespace detail

}  // namespace ublk::inline v0
