// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/result.hpp>
#include <ublk/task.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace ublk::inline v0 {

class request;

/// How a backend answers an operation: it has no such function, it returns a `result`, or a `task`.
enum class answers : std::uint8_t { never, now, later };

namespace detail {

template <class Op, class B, class... P>
consteval answers answers_of() {
    if constexpr (requires(B & b, io & with, const request& r, P... payload) {
                      { Op::call(b, with, r, payload...) } -> std::same_as<task>;
                  }) {
        return answers::later;
    } else if constexpr (requires(B & b, const request& r, P... payload) {
                             { Op::call(b, r, payload...) } -> std::same_as<result>;
                         }) {
        return answers::now;
    } else {
        return answers::never;
    }
}

}  // namespace detail

/// The operations of a backend as types, for what is the same for all of them.
///
/// | expression                                       | meaning                                   |
/// |--------------------------------------------------|-------------------------------------------|
/// | `Op::mode<B>`, `Op::mode<B, P>`                  | how B answers; P is what its `read` or    |
/// |                                                  | `write` takes                             |
/// | `Op::call(b, r, payload...)`, `(b, io, r, ...)`  | calls that function of B                  |
namespace operations {

#define UBLK_DETAIL_OPERATION(name)                                                                \
    struct name {                                                                                  \
        template <class B, class... A>                                                             \
        [[gnu::always_inline]] static auto call(B& b, A&... a) noexcept(noexcept(b.name(a...)))    \
            -> decltype(b.name(a...)) {                                                            \
            return b.name(a...);                                                                   \
        }                                                                                          \
        template <class B, class... P>                                                             \
        static constexpr answers mode = detail::answers_of<name, B, P...>();                       \
    };

UBLK_DETAIL_OPERATION(read)
UBLK_DETAIL_OPERATION(write)
UBLK_DETAIL_OPERATION(flush)
UBLK_DETAIL_OPERATION(discard)
UBLK_DETAIL_OPERATION(write_zeroes)

#undef UBLK_DETAIL_OPERATION

}  // namespace operations

/// Which functions a backend has.
namespace detail {

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

template <class P>
using written_t = typename written<P>::type;

template <class B, class P>
concept has_read = (operations::read::mode<B, P> != answers::never);
template <class B, class P>
concept has_write = (operations::write::mode<B, written_t<P>> != answers::never);
template <class B>
concept has_flush = (operations::flush::mode<B> != answers::never);
template <class B>
concept has_discard = (operations::discard::mode<B> != answers::never);
template <class B>
concept has_write_zeroes = (operations::write_zeroes::mode<B> != answers::never);
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

}  // namespace detail

}  // namespace ublk::inline v0
