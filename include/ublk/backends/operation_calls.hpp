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

/// How a backend that stands on others asks them, whichever way they answer.
namespace ublk::inline v0::detail {

/// How a backend answers to an operation.
enum class answers : std::uint8_t { never, now, later };

[[nodiscard]] constexpr answers answers_if(bool there, bool later) {
    return !there ? answers::never : later ? answers::later : answers::now;
}

// The operations. `how` takes the type that the backend's function takes; bytes that are written
// are const.
template <class P>
using filled =
    std::conditional_t<std::is_same_v<P, std::span<const std::byte>>, std::span<std::byte>, P>;

#define UBLK_DETAIL_CALL(function)                                                                 \
    template <class B, class... A>                                                                 \
    static auto call(B& b, A&... a) noexcept(noexcept(b.function(a...))) {                         \
        return b.function(a...);                                                                   \
    }

struct read_op {
    template <class B, class P>
    static constexpr answers mode = answers_if(accepts<B, P>, reads_later<B, P>);
    UBLK_DETAIL_CALL(read)
};
struct write_op {
    template <class B, class P>
    static constexpr bool there = accepts<B, filled<P>> && !constantly_read_only<B>();
    template <class B, class P>
    static constexpr answers mode = answers_if(there<B, P>, writes_later<B, P>);
    UBLK_DETAIL_CALL(write)
};
struct flush_op {
    template <class B>
    static constexpr answers mode = answers_if(has_flush<B>, flushes_later<B>);
    UBLK_DETAIL_CALL(flush)
};
struct discard_op {
    template <class B>
    static constexpr answers mode = answers_if(has_discard<B>, discards_later<B>);
    UBLK_DETAIL_CALL(discard)
};
struct write_zeroes_op {
    template <class B>
    static constexpr answers mode = answers_if(has_write_zeroes<B>, zeroes_later<B>);
    UBLK_DETAIL_CALL(write_zeroes)
};

#undef UBLK_DETAIL_CALL

/// Asks a backend that answers now, or that has no such function: then nothing is to be done, since
/// what stands on it offers only operations that it has, and FLUSH. Throws what it throws.
template <class Op, class B, class... P>
[[nodiscard]] result call_operation_now(B& b, const request& r, P... payload) {
    if constexpr (Op::template mode<B, P...> == answers::never) {
        return ok;
    } else {
        return Op::call(b, r, payload...);
    }
}

/// Asks a backend of either kind. `r` outlives the task.
template <class Op, class B, class... P>
[[nodiscard]] task call_operation(B& b, io& with, const request& r, P... payload) noexcept {
    const note_in_frames told{with};
    if constexpr (Op::template mode<B, P...> == answers::later) {
        return guarded(told, r, [&]() noexcept(noexcept(Op::call(b, with, r, payload...))) {
            return Op::call(b, with, r, payload...);
        });
    } else {
        return guarded(told, r, [&] { return call_operation_now<Op>(b, r, payload...); });
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
    asynchronous<B, registered_buffer>;

/// Operations that one request has with the kernel at a time, and bytes of its frames: none where
/// the backend answers at once.
template <class B>
inline constexpr unsigned operations_of = answers_later<B> ? ublk::operations_in_flight<B> : 0;
template <class B>
inline constexpr std::size_t frames_of = answers_later<B> ? ublk::task_bytes<B> : 0;

}  // namespace ublk::inline v0::detail
