// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace ublk::inline v0::sim {

/// Everything that a simulation decides comes from one of these, so that a seed is a whole world.
///
/// splitmix64: one addition and one mix a number, and a state of 8 bytes that needs no warming up.
/// std::mt19937_64 would fill 2.5 KB for each of thousands of worlds a second; its quality buys
/// nothing here. The distributions of <random> are left out on purpose: they give other numbers on
/// other standard libraries, and a seed from a report has to lead to the same world everywhere.
class random {
public:
    explicit constexpr random(std::uint64_t seed) noexcept : state_{seed} {}

    constexpr std::uint64_t operator()() noexcept {
        state_ += 0x9e37'79b9'7f4a'7c15;
        std::uint64_t mixed = state_;
        mixed = (mixed ^ (mixed >> 30)) * 0xbf58'476d'1ce4'e5b9;
        mixed = (mixed ^ (mixed >> 27)) * 0x94d0'49bb'1331'11eb;
        return mixed ^ (mixed >> 31);
    }

    /// 0 to n - 1. Requires: n is at least 1. The bias is below n / 2^32 for a small n, and n /
    /// 2^64 for one above 2^32: far below what a simulation could notice.
    constexpr std::uint64_t below(std::uint64_t n) noexcept {
        const std::uint64_t drawn = (*this)();
        if (n <= std::uint64_t{1} << 32) {
            return ((drawn >> 32) * n) >> 32;  // no division
        }
        return drawn % n;
    }

    /// True once in so many times; never for 0, always for 1.
    constexpr bool chance(std::uint32_t one_in) noexcept {
        return one_in != 0 && below(one_in) == 0;
    }

    /// An independent stream: what is drawn from it leaves this one alone, so that one part of a
    /// world can decide more or less without changing what all others do. The streams are pieces of
    /// one cycle of 2^64 at places that have nothing to do with each other.
    constexpr random fork() noexcept { return random{(*this)() ^ 0x6a09'e667'f3bc'c909}; }

private:
    std::uint64_t state_;
};

}  // namespace ublk::inline v0::sim
