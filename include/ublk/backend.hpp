// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/error.hpp>
#include <ublk/params.hpp>
#include <ublk/request.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

/// A backend is what the disk stores. Required members:
///
/// | expression                                            | meaning                              |
/// |-------------------------------------------------------|--------------------------------------|
/// | `b.size()` -> std::uint64_t                           | bytes; read once, at start           |
/// | `b.read(const request&, std::span<std::byte>)`        | fill the whole span                  |
/// | `b.write(const request&, std::span<const std::byte>)` | store the whole span                 |
///
/// `write` may be left out where `read_only` is a constant true. Operations return `ublk::result`.
/// Optional members, of which the device derives what it advertises:
///
/// | if you have it                   | then                           | else                   |
/// |----------------------------------|--------------------------------|------------------------|
/// | `b.flush(const request&)`        | a volatile cache is advertised | writes count as durable |
/// | `b.discard(const request&)`      | discard is advertised          | clients get EOPNOTSUPP |
/// | `b.write_zeroes(const request&)` | the kernel sends no zero bytes | it writes zeroes       |
///
/// | constant or const member function    | default                                              |
/// |--------------------------------------|------------------------------------------------------|
/// | `bool read_only`, `rotational`       | false                                                |
/// | `bool volatile_cache`                | whether there is a `flush`                           |
/// | `bool fua`                           | false: the kernel sends a FLUSH after such a write   |
/// | `std::uint32_t logical_block_size`   | 512                                                  |
/// | `std::uint32_t physical_block_size`  | the logical block size                               |
/// | `std::uint32_t minimum_io_size`, `optimal_io_size` | the physical block size                |
/// | `std::uint32_t discard_granularity`  | the physical block size                              |
/// | `std::uint32_t discard_alignment`    | 0                                                    |
/// | `std::uint64_t max_discard_size`, `max_write_zeroes_size` | 4 GiB, as much as a bio holds   |
///
/// The operations are called from the queue threads: several at once where the queue policy has
/// several threads, never two at once for the same tag. An exception becomes EIO for its request.
namespace ublk::inline v0 {

namespace detail {

template <class B>
concept has_size = requires(const B& b) {
    { b.size() } -> std::convertible_to<std::uint64_t>;
};
template <class B>
concept has_read = requires(B& b, const request& r, std::span<std::byte> out) {
    { b.read(r, out) } -> std::same_as<result>;
};
template <class B>
concept has_write = requires(B& b, const request& r, std::span<const std::byte> in) {
    { b.write(r, in) } -> std::same_as<result>;
};
template <class B>
concept has_flush = requires(B& b, const request& r) {
    { b.flush(r) } -> std::same_as<result>;
};
template <class B>
concept has_discard = requires(B& b, const request& r) {
    { b.discard(r) } -> std::same_as<result>;
};
template <class B>
concept has_write_zeroes = requires(B& b, const request& r) {
    { b.write_zeroes(r) } -> std::same_as<result>;
};

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
UBLK_DETAIL_TRAIT(std::uint32_t, logical_block_size)
UBLK_DETAIL_TRAIT(std::uint32_t, physical_block_size)
UBLK_DETAIL_TRAIT(std::uint32_t, minimum_io_size)
UBLK_DETAIL_TRAIT(std::uint32_t, optimal_io_size)
UBLK_DETAIL_TRAIT(std::uint32_t, discard_granularity)
UBLK_DETAIL_TRAIT(std::uint32_t, discard_alignment)
UBLK_DETAIL_TRAIT(std::uint64_t, max_discard_size)
UBLK_DETAIL_TRAIT(std::uint64_t, max_write_zeroes_size)

UBLK_DETAIL_NAMES(flush)
UBLK_DETAIL_NAMES(discard)
UBLK_DETAIL_NAMES(write_zeroes)

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

template <class B>
consteval bool constantly_read_only() {
    if constexpr (requires { typename std::bool_constant<B::read_only>; }) {
        return B::read_only;
    } else {
        return false;
    }
}

}  // namespace detail

/// The least that a disk needs; `check_backend` says in words what is missing.
template <class B>
concept backend = detail::has_size<B> && detail::has_read<B> &&
    (detail::has_write<B> || detail::constantly_read_only<B>());

/// Compile-time review of a backend: each message is the line to write.
template <class B>
consteval bool check_backend() {
    static_assert(detail::has_size<B>,
                  "ublk: a backend needs: std::uint64_t size() const noexcept;  // bytes");
    static_assert(detail::has_read<B>,
                  "ublk: a backend needs: "
                  "ublk::result read(const ublk::request&, std::span<std::byte> out) noexcept;");
    static_assert(
        detail::has_write<B> || detail::constantly_read_only<B>(),
        "ublk: a backend needs: "
        "ublk::result write(const ublk::request&, std::span<const std::byte> in) noexcept; "
        "or: static constexpr bool read_only = true;");
    static_assert(!detail::names_flush<B>() || detail::has_flush<B>,
                  "ublk: a backend's flush must be: "
                  "ublk::result flush(const ublk::request&) noexcept;");
    static_assert(!detail::names_discard<B>() || detail::has_discard<B>,
                  "ublk: a backend's discard must be: "
                  "ublk::result discard(const ublk::request&) noexcept;");
    static_assert(!detail::names_write_zeroes<B>() || detail::has_write_zeroes<B>,
                  "ublk: a backend's write_zeroes must be: "
                  "ublk::result write_zeroes(const ublk::request&) noexcept;");
    detail::refuse_misspellings<B>();
    static_assert(!(detail::names_volatile_cache<B>() || detail::names_fua<B>()) ||
                      detail::has_flush<B>,
                  "ublk: a backend with volatile_cache or fua also needs: "
                  "ublk::result flush(const ublk::request&) noexcept;");
    return true;
}

/// What the device advertises, derived from what the backend has.
template <class B>
[[nodiscard]] disk_attributes attributes_of(const B& b) {
    constexpr std::uint64_t bio_max = std::numeric_limits<std::uint32_t>::max();
    disk_attributes disk;
    disk.size = b.size();
    disk.logical_block_size = detail::logical_block_size_or(b, sector_size);
    disk.physical_block_size = detail::physical_block_size_or(b, disk.logical_block_size);
    disk.minimum_io_size = detail::minimum_io_size_or(b, disk.physical_block_size);
    disk.optimal_io_size = detail::optimal_io_size_or(b, disk.physical_block_size);
    disk.read_only = detail::read_only_or(b, false);
    disk.rotational = detail::rotational_or(b, false);
    disk.volatile_cache = detail::volatile_cache_or(b, detail::has_flush<B>);
    disk.fua = detail::fua_or(b, false);
    disk.discards = detail::has_discard<B>;
    disk.discard_granularity = detail::discard_granularity_or(b, disk.physical_block_size);
    disk.discard_alignment = detail::discard_alignment_or(b, 0);
    disk.max_discard_size = detail::has_discard<B> ? detail::max_discard_size_or(b, bio_max) : 0;
    disk.max_write_zeroes_size =
        detail::has_write_zeroes<B> ? detail::max_write_zeroes_size_or(b, bio_max) : 0;
    return disk;
}

namespace detail {

/// Calls a backend and turns what it throws into EIO; a noexcept one has no landing pad at all.
template <class Call>
[[nodiscard, gnu::always_inline]] inline result guarded(Call&& call) noexcept {
    if constexpr (noexcept(call())) {
        return call();
    } else {
        try {
            return call();
        } catch (...) {
            return std::errc::io_error;
        }
    }
}

}  // namespace detail

/// The one table from operation to backend function. `payload` holds `r.length()` bytes for reads
/// and writes and is empty for all others.
template <class B>
[[nodiscard, gnu::always_inline]] inline result dispatch(B& b, const request& r,
                                                         std::span<std::byte> payload) noexcept {
    switch (r.op()) {
    case uapi::op::read:
        return detail::guarded(
            [&]() noexcept(noexcept(b.read(r, payload))) { return b.read(r, payload); });
    case uapi::op::write:
        if constexpr (detail::has_write<B>) {
            const std::span<const std::byte> in{payload};
            return detail::guarded(
                [&]() noexcept(noexcept(b.write(r, in))) { return b.write(r, in); });
        }
        return std::errc::operation_not_permitted;
    case uapi::op::flush:
        if constexpr (detail::has_flush<B>) {
            return detail::guarded([&]() noexcept(noexcept(b.flush(r))) { return b.flush(r); });
        }
        return ok;  // nothing is volatile
    case uapi::op::discard:
        if constexpr (detail::has_discard<B>) {
            return detail::guarded([&]() noexcept(noexcept(b.discard(r))) { return b.discard(r); });
        }
        break;
    case uapi::op::write_zeroes:
        if constexpr (detail::has_write_zeroes<B>) {
            return detail::guarded(
                [&]() noexcept(noexcept(b.write_zeroes(r))) { return b.write_zeroes(r); });
        }
        break;
    default:
        break;
    }
    return std::errc::operation_not_supported;
}

}  // namespace ublk::inline v0
