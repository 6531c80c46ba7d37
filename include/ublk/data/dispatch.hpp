// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backend.hpp>
#include <ublk/io.hpp>

#include <utility>

namespace ublk::inline v0::detail {

/// Hears of no exception.
struct nobody_told {
    void operator()(const request&) const noexcept {}
};

/// Keeps an exception with the request's coroutines, until its answer is given.
struct note_in_frames {
    io& with;
    [[gnu::cold, gnu::noinline]] void operator()(const request&) const noexcept {
        with.frames().note_exception();
    }
};

/// Calls a backend and turns what it throws into EIO, of which `told` hears while the exception is
/// there; a noexcept one has no landing pad at all.
template <class Told, class Call>
[[nodiscard, gnu::always_inline]] inline auto guarded(const Told& told, const request& r,
                                                      Call&& call) noexcept -> decltype(call()) {
    if constexpr (noexcept(call())) {
        return call();
    } else {
        try {
            return call();
        } catch (...) {
            told(r);
            return std::errc::io_error;
        }
    }
}

/// From operation to backend function, for a backend that answers now. `payload` holds `r.length()`
/// bytes for reads and writes and is empty for all others. `told(r)` is called where it throws.
//
// Spelled out: through one function for all operations g++ 12 takes nine instructions more for a
// read of null.
template <class B, class P, class Told = nobody_told>
[[nodiscard, gnu::always_inline]] inline result dispatch(B& b, const request& r, P payload,
                                                         const Told& told = {}) noexcept {
    using namespace operations;
    switch (r.op()) {
    case uapi::op::read:
        if constexpr (read::mode<B, P> == answers::now) {
            return guarded(told, r, [&]() noexcept(noexcept(b.read(r, payload))) {
                return b.read(r, payload);
            });
        }
        break;
    case uapi::op::write:
        if constexpr (write::mode<B, written_t<P>> == answers::now) {
            const written_t<P> in{payload};
            return guarded(told, r,
                           [&]() noexcept(noexcept(b.write(r, in))) { return b.write(r, in); });
        }
        return std::errc::operation_not_permitted;
    case uapi::op::flush:
        if constexpr (flush::mode<B> == answers::now) {
            return guarded(told, r, [&]() noexcept(noexcept(b.flush(r))) { return b.flush(r); });
        }
        return ok;  // nothing is volatile
    case uapi::op::discard:
        if constexpr (discard::mode<B> == answers::now) {
            return guarded(told, r,
                           [&]() noexcept(noexcept(b.discard(r))) { return b.discard(r); });
        }
        break;
    case uapi::op::write_zeroes:
        if constexpr (write_zeroes::mode<B> == answers::now) {
            return guarded(
                told, r, [&]() noexcept(noexcept(b.write_zeroes(r))) { return b.write_zeroes(r); });
        }
        break;
    default:
        break;
    }
    return std::errc::operation_not_supported;
}

/// One operation of a backend of either kind; `otherwise` where it has no such function. What
/// answers now is a task that has ended. `r` outlives the task.
template <class Op, class B, class... P>
[[nodiscard]] task call_operation(result otherwise, B& b, io& with, const request& r,
                                  P... payload) noexcept {
    const note_in_frames told{with};
    if constexpr (Op::template mode<B, P...> == answers::later) {
        return guarded(told, r, [&]() noexcept(noexcept(Op::call(b, with, r, payload...))) {
            return Op::call(b, with, r, payload...);
        });
    } else if constexpr (Op::template mode<B, P...> == answers::now) {
        return guarded(told, r, [&]() noexcept(noexcept(Op::call(b, r, payload...))) {
            return Op::call(b, r, payload...);
        });
    } else {
        return otherwise;
    }
}

/// The same as the other `dispatch`, for a backend of which at least one function is asynchronous.
/// `r` outlives the task.
template <class B, class P>
[[nodiscard]] task dispatch(B& b, io& with, const request& r, P payload) noexcept {
    using namespace operations;
    constexpr result unsupported{std::errc::operation_not_supported};
    switch (r.op()) {
    case uapi::op::read:
        return call_operation<read>(unsupported, b, with, r, payload);
    case uapi::op::write:
        return call_operation<write>(std::errc::operation_not_permitted, b, with, r,
                                     written_t<P>{payload});
    case uapi::op::flush:
        return call_operation<flush>(ok, b, with, r);
    case uapi::op::discard:
        return call_operation<discard>(unsupported, b, with, r);
    case uapi::op::write_zeroes:
        return call_operation<write_zeroes>(unsupported, b, with, r);
    default:
        return unsupported;
    }
}

}  // namespace ublk::inline v0::detail
