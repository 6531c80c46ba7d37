// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data_path.hpp>
#include <ublk/registered_file.hpp>

#include <concepts>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <vector>

/// What a backend says of itself by optional constants and functions, and what is refused because
/// it only looks like one of them. backend.hpp lists them.
namespace ublk::inline v0::detail {

// Does B have a member of that name, of any kind and access? A class that inherits the name twice
// cannot name it; a final class can only be asked for what has an address.
#define UBLK_DETAIL_NAMES(name)                                                                    \
    struct name##_carrier {                                                                        \
        int name;                                                                                  \
    };                                                                                             \
    template <class B>                                                                             \
    struct name##_twice : B, name##_carrier {};                                                    \
    template <class B>                                                                             \
    consteval bool names_##name() {                                                                \
        if constexpr (std::is_final_v<B> || !std::is_class_v<B>) {                                 \
            return requires {                                                                      \
                &B::name;                                                                          \
            };                                                                                     \
        } else {                                                                                   \
            return !requires {                                                                     \
                &name##_twice<B>::name;                                                            \
            };                                                                                     \
        }                                                                                          \
    }

// A value that a backend may give as a constant or as a member function.
#define UBLK_DETAIL_TRAIT(type, name)                                                              \
    UBLK_DETAIL_NAMES(name)                                                                        \
    template <class B>                                                                             \
    concept has_##name = requires(const B& b) {                                                    \
        { b.name() } -> std::convertible_to<type>;                                                 \
    }                                                                                              \
    || (!std::is_member_function_pointer_v<decltype(&B::name)> && requires(const B& b) {           \
        { b.name } -> std::convertible_to<type>;                                                   \
    });                                                                                            \
    template <class B>                                                                             \
    constexpr type name##_or(const B& b, type fallback) {                                          \
        static_assert(!names_##name<B>() || has_##name<B>,                                         \
                      "ublk: a backend's " #name " must be: " #type " " #name "() const noexcept;" \
                      " or: static constexpr " #type " " #name " = ...;");                         \
        if constexpr (requires { b.name(); }) {                                                    \
            return static_cast<type>(b.name());                                                    \
        } else if constexpr (requires { b.name; }) {                                               \
            return static_cast<type>(b.name);                                                      \
        } else {                                                                                   \
            return fallback;                                                                       \
        }                                                                                          \
    }

UBLK_DETAIL_TRAIT(bool, read_only)
UBLK_DETAIL_TRAIT(bool, rotational)
UBLK_DETAIL_TRAIT(bool, volatile_cache)
UBLK_DETAIL_TRAIT(bool, fua)
UBLK_DETAIL_TRAIT(bool, idempotent)
UBLK_DETAIL_TRAIT(std::optional<data_path>, preferred_path)
UBLK_DETAIL_TRAIT(std::vector<const registered_file*>, ring_files)
UBLK_DETAIL_TRAIT(std::uint32_t, logical_block_size)
UBLK_DETAIL_TRAIT(std::uint32_t, physical_block_size)
UBLK_DETAIL_TRAIT(std::uint32_t, minimum_io_size)
UBLK_DETAIL_TRAIT(std::uint32_t, optimal_io_size)
UBLK_DETAIL_TRAIT(std::uint32_t, dma_alignment)
UBLK_DETAIL_TRAIT(std::uint64_t, segment_boundary)
UBLK_DETAIL_TRAIT(std::uint32_t, max_segment_size)
UBLK_DETAIL_TRAIT(std::uint16_t, max_segments)
UBLK_DETAIL_TRAIT(std::uint32_t, discard_granularity)
UBLK_DETAIL_TRAIT(std::uint32_t, discard_alignment)
UBLK_DETAIL_TRAIT(std::uint64_t, max_discard_size)
UBLK_DETAIL_TRAIT(std::uint64_t, max_write_zeroes_size)

UBLK_DETAIL_NAMES(size)
UBLK_DETAIL_NAMES(read)
UBLK_DETAIL_NAMES(write)
UBLK_DETAIL_NAMES(trim)
UBLK_DETAIL_NAMES(sync)
UBLK_DETAIL_NAMES(flush)
UBLK_DETAIL_NAMES(discard)
UBLK_DETAIL_NAMES(write_zeroes)
UBLK_DETAIL_NAMES(memory_for)

// Near misses of an optional member would otherwise be ignored in silence, and a flush() that is
// never called is lost data. Only names that nobody has for another purpose.
#define UBLK_DETAIL_MISSPELLINGS(X)                                                                \
    X(Flush, "ublk::result flush(const ublk::request&) noexcept;")                                 \
    X(Discard, "ublk::result discard(const ublk::request&) noexcept;")                             \
    X(write_zeros, "ublk::result write_zeroes(const ublk::request&) noexcept;")                    \
    X(write_zero, "ublk::result write_zeroes(const ublk::request&) noexcept;")                     \
    X(writezeroes, "ublk::result write_zeroes(const ublk::request&) noexcept;")                    \
    X(WriteZeroes, "ublk::result write_zeroes(const ublk::request&) noexcept;")                    \
    X(readonly, "bool read_only() const noexcept;")                                                \
    X(is_read_only, "bool read_only() const noexcept;")                                            \
    X(is_rotational, "bool rotational() const noexcept;")                                          \
    X(has_volatile_cache, "bool volatile_cache() const noexcept;")                                 \
    X(has_fua, "bool fua() const noexcept;")                                                       \
    X(logical_blocksize, "std::uint32_t logical_block_size() const noexcept;")                     \
    X(physical_blocksize, "std::uint32_t physical_block_size() const noexcept;")                   \
    X(min_io_size, "std::uint32_t minimum_io_size() const noexcept;")                              \
    X(optimum_io_size, "std::uint32_t optimal_io_size() const noexcept;")
#define UBLK_DETAIL_NAMES_WRONG(wrong, right) UBLK_DETAIL_NAMES(wrong)
#define UBLK_DETAIL_REFUSE(wrong, right)                                                           \
    static_assert(!names_##wrong<B>(), "ublk: not " #wrong " but: " right);

UBLK_DETAIL_MISSPELLINGS(UBLK_DETAIL_NAMES_WRONG)

template <class B>
consteval void refuse_misspellings() {
    UBLK_DETAIL_MISSPELLINGS(UBLK_DETAIL_REFUSE)
}

#undef UBLK_DETAIL_REFUSE
#undef UBLK_DETAIL_NAMES_WRONG
#undef UBLK_DETAIL_MISSPELLINGS
#undef UBLK_DETAIL_TRAIT
#undef UBLK_DETAIL_NAMES

}  // namespace ublk::inline v0::detail
