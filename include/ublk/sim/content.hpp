// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

/// What the blocks of a disk under test hold. Every word of a block follows from the write and the
/// number of the block, and either can be had back from any word. So a block says itself which
/// write it comes from and where it belongs, and no part of it can be swapped for a part of
/// another.
///
/// Word i of a block is `scrambled(write, block) + i * step`. The scrambling is one to one, so two
/// blocks agree in no word at all.
namespace ublk::inline v0::sim::content {

/// Which write a block comes from; 0 is a block of zeroes.
using id = std::uint32_t;
inline constexpr id zeroes = 0;

struct origin {
    id write = zeroes;
    std::uint32_t block = 0;
    friend bool operator==(const origin&, const origin&) = default;
};

namespace detail {

inline constexpr std::uint64_t factor = 0x9e37'79b9'7f4a'7c15;
inline constexpr std::uint64_t inverse = 0xf1de'83e1'9937'733d;
static_assert(factor * inverse == 1);
inline constexpr std::uint64_t step = 0xd1b5'4a32'd192'ed03;
inline constexpr std::size_t chunk = 8;  // words; a fixed number, for compilers to vectorise
using words = std::array<std::uint64_t, chunk>;

constexpr std::uint64_t scrambled(origin from) noexcept {
    std::uint64_t mixed = (std::uint64_t{from.block} << 32 | from.write) * factor;
    mixed ^= mixed >> 32;
    return mixed * factor;
}

constexpr origin unscrambled(std::uint64_t mixed) noexcept {
    mixed *= inverse;
    mixed ^= mixed >> 32;
    mixed *= inverse;
    return {static_cast<id>(mixed), static_cast<std::uint32_t>(mixed >> 32)};
}
static_assert(unscrambled(scrambled({7, 9})) == origin{7, 9});

inline std::uint64_t word_at(std::span<const std::byte> block, std::size_t index) noexcept {
    std::uint64_t word = 0;
    std::memcpy(&word, block.data() + index * sizeof word, sizeof word);
    return word;
}

/// Calls `each(place, words)` for every chunk of a block as it ought to be, until it says false.
template <class Each>
inline bool expect(std::size_t bytes, origin from, Each&& each) {
    std::uint64_t first = scrambled(from);
    const std::uint64_t stride = from.write == zeroes ? 0 : step;
    first = from.write == zeroes ? 0 : first;
    words expected{};
    for (std::size_t i = 0; i < chunk; ++i) {
        expected[i] = first + i * stride;
    }
    for (std::size_t place = 0; place < bytes; place += sizeof expected) {
        if (!each(place, expected)) {
            return false;
        }
        for (std::size_t i = 0; i < chunk; ++i) {
            expected[i] += chunk * stride;
        }
    }
    return true;
}

}  // namespace detail

/// Requires, here and below: blocks are a multiple of 64 bytes.
inline void fill(std::span<std::byte> block, origin from) noexcept {
    detail::expect(block.size(), from, [&](std::size_t place, const detail::words& expected) {
        std::memcpy(block.data() + place, expected.data(), sizeof expected);
        return true;
    });
}

/// Whether every byte of the block is what `fill` made of it.
[[nodiscard]] inline bool holds(std::span<const std::byte> block, origin from) noexcept {
    return detail::expect(block.size(), from, [&](std::size_t at, const detail::words& expected) {
        detail::words found;
        std::memcpy(found.data(), block.data() + at, sizeof found);
        std::uint64_t difference = 0;
        for (std::size_t i = 0; i < detail::chunk; ++i) {
            difference |= found[i] ^ expected[i];
        }
        return difference == 0;
    });
}

/// Where a block comes from if its word `index` is to be believed.
[[nodiscard]] inline origin claimed(std::span<const std::byte> block,
                                    std::size_t index = 0) noexcept {
    const std::uint64_t word = detail::word_at(block, index);
    return word == 0 ? origin{} : detail::unscrambled(word - index * detail::step);
}

/// In words, for a block that should be block `number`; `newest` is the last write there was.
[[nodiscard]] inline std::string describe(origin from, std::uint32_t number, id newest,
                                          std::uint64_t block_size) {
    if (from.write == zeroes) {
        return from == origin{} ? "zeroes" : "bytes that nobody wrote";
    }
    if (from.write > newest) {
        return "bytes that nobody wrote";
    }
    std::string text = "write " + std::to_string(from.write);
    if (from.block != number) {
        text += " of the block at " + std::to_string(from.block * block_size);
    }
    return text;
}

/// The same for a whole block, which may be put together from several.
[[nodiscard]] inline std::string describe(std::span<const std::byte> block, std::uint32_t number,
                                          id newest) {
    const origin head = claimed(block);
    std::string text = describe(head, number, newest, block.size());
    for (std::size_t i = 1; i < block.size() / sizeof(std::uint64_t); ++i) {
        const origin here = claimed(block, i);
        if (here != head) {
            return text + " and from byte " + std::to_string(i * sizeof(std::uint64_t)) + " on " +
                   describe(here, number, newest, block.size());
        }
    }
    return text;
}

}  // namespace ublk::inline v0::sim::content
