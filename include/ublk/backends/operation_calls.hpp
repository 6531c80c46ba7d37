// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backend.hpp>
#include <ublk/data/dispatch.hpp>
#include <ublk/io.hpp>

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <type_traits>

/// What a backend needs to know of those that it stands on.
namespace ublk::inline v0::detail {

/// What a `read` or `write` may take.
template <class P>
concept payload = std::is_same_v<P, std::span<std::byte>> ||
    std::is_same_v<P, std::span<const std::byte>> || std::is_same_v<P, user_copy> ||
    std::is_same_v<P, registered_buffer> || std::is_same_v<P, client_pages>;

template <class P>
using filled =
    std::conditional_t<std::is_same_v<P, std::span<const std::byte>>, std::span<std::byte>, P>;

/// How B answers as one of the disks below another: with a payload that serves all its reads and
/// writes.
template <class Op, class B, class... P>
inline constexpr answers answers_below = [] {
    constexpr bool writes = !std::is_same_v<Op, operations::write> || !constantly_read_only<B>();
    return writes && (accepts<B, filled<P>> && ...) ? Op::template mode<B, P...> : answers::never;
}();

/// An operation of a backend that answers it now, or that has none: then nothing is to be done,
/// since what stands on it offers only operations that it has, and FLUSH. Throws what it throws.
template <class Op, class B, class... P>
[[nodiscard]] result call_operation_now(B& b, const request& r, P... payload) {
    if constexpr (Op::template mode<B, P...> == answers::never) {
        return ok;
    } else {
        return Op::call(b, r, payload...);
    }
}

/// A request that outlives the tasks that are made while this stands, without an owner: it lies
/// below their frames in the tag's stack, which takes its place back only together with theirs.
class kept_request {
public:
    kept_request(io& with, const request& r) noexcept {
        if (void* const place = with.frames().allocate(sizeof(request))) {
            kept_ = ::new (place) request{r};
        }
    }
    kept_request(const kept_request&) = delete;
    kept_request& operator=(const kept_request&) = delete;
    ~kept_request() {
        if (kept_ != nullptr) {
            frame_memory::release(kept_);
        }
    }

    /// Null where the stack is full.
    [[nodiscard]] const request* get() const noexcept { return kept_; }

    /// What one takes of the stack, together with the header that each frame has there.
    static constexpr std::size_t stack_bytes = 64;

private:
    request* kept_ = nullptr;
};

template <class B>
inline constexpr bool answers_later =
    asynchronous<B, std::span<std::byte>> || asynchronous<B, user_copy> ||
    asynchronous<B, registered_buffer> || asynchronous<B, client_pages>;

/// Operations that one request has with the kernel at a time, and bytes of its frames: none where
/// the backend answers at once.
template <class B>
inline constexpr unsigned operations_of = answers_later<B> ? ublk::operations_in_flight<B> : 0;
template <class B>
inline constexpr std::size_t frames_of = answers_later<B> ? ublk::task_bytes<B> : 0;

}  // namespace ublk::inline v0::detail
