// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/payload.hpp>
#include <ublk/request.hpp>
#include <ublk/result.hpp>
#include <ublk/task.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

/// Which functions a backend has, and whether they answer now or are coroutines.
namespace ublk::inline v0::detail {

template <class B>
concept has_size = requires(const B& b) {
    { b.size() } -> std::convertible_to<std::uint64_t>;
};

/// What `write` gets where `read` gets P.
template <class P>
struct written {
    using type = P;
};
template <>
struct written<std::span<std::byte>> {
    using type = std::span<const std::byte>;
};

// An operation answers now (a result), or later (a task).
template <class B, class P>
concept reads_now = requires(B& b, const request& r, P out) {
    { b.read(r, out) } -> std::same_as<result>;
};
template <class B, class P>
concept reads_later = requires(B& b, io& i, const request& r, P out) {
    { b.read(i, r, out) } -> std::same_as<task>;
};
template <class B, class P>
concept writes_now = requires(B& b, const request& r, typename written<P>::type in) {
    { b.write(r, in) } -> std::same_as<result>;
};
template <class B, class P>
concept writes_later = requires(B& b, io& i, const request& r, typename written<P>::type in) {
    { b.write(i, r, in) } -> std::same_as<task>;
};
template <class B>
concept flushes_now = requires(B& b, const request& r) {
    { b.flush(r) } -> std::same_as<result>;
};
template <class B>
concept flushes_later = requires(B& b, io& i, const request& r) {
    { b.flush(i, r) } -> std::same_as<task>;
};
template <class B>
concept discards_now = requires(B& b, const request& r) {
    { b.discard(r) } -> std::same_as<result>;
};
template <class B>
concept discards_later = requires(B& b, io& i, const request& r) {
    { b.discard(i, r) } -> std::same_as<task>;
};
template <class B>
concept zeroes_now = requires(B& b, const request& r) {
    { b.write_zeroes(r) } -> std::same_as<result>;
};
template <class B>
concept zeroes_later = requires(B& b, io& i, const request& r) {
    { b.write_zeroes(i, r) } -> std::same_as<task>;
};

template <class B, class P>
concept has_read = reads_now<B, P> || reads_later<B, P>;
template <class B, class P>
concept has_write = writes_now<B, P> || writes_later<B, P>;
template <class B>
concept has_flush = flushes_now<B> || flushes_later<B>;
template <class B>
concept has_discard = discards_now<B> || discards_later<B>;
template <class B>
concept has_write_zeroes = zeroes_now<B> || zeroes_later<B>;
template <class B>
concept gets_data = requires(B& b, const request& r) {
    { b.memory_for(r) }
    noexcept->std::same_as<std::span<std::byte>>;
};

using memory_span = std::span<std::byte>;

template <class B>
consteval bool constantly_read_only() {
    if constexpr (requires { typename std::bool_constant<B::read_only>; }) {
        return B::read_only;
    } else {
        return false;
    }
}

}  // namespace ublk::inline v0::detail
