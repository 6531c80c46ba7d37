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
template <class B, class P, class Told = nobody_told>
[[nodiscard, gnu::always_inline]] inline result dispatch(B& b, const request& r, P payload,
                                                         const Told& told = {}) noexcept {
    switch (r.op()) {
    case uapi::op::read:
        if constexpr (reads_now<B, P>) {
            return guarded(told, r, [&]() noexcept(noexcept(b.read(r, payload))) {
                return b.read(r, payload);
            });
        }
        break;
    case uapi::op::write:
        if constexpr (writes_now<B, P>) {
            const typename written<P>::type in{payload};
            return guarded(told, r,
                           [&]() noexcept(noexcept(b.write(r, in))) { return b.write(r, in); });
        }
        return std::errc::operation_not_permitted;
    case uapi::op::flush:
        if constexpr (flushes_now<B>) {
            return guarded(told, r, [&]() noexcept(noexcept(b.flush(r))) { return b.flush(r); });
        }
        return ok;  // nothing is volatile
    case uapi::op::discard:
        if constexpr (discards_now<B>) {
            return guarded(told, r,
                           [&]() noexcept(noexcept(b.discard(r))) { return b.discard(r); });
        }
        break;
    case uapi::op::write_zeroes:
        if constexpr (zeroes_now<B>) {
            return guarded(
                told, r, [&]() noexcept(noexcept(b.write_zeroes(r))) { return b.write_zeroes(r); });
        }
        break;
    default:
        break;
    }
    return std::errc::operation_not_supported;
}

/// The same for a backend of which at least one function is asynchronous; what answers now is a
/// task that has ended. `r` outlives the task.
template <class B, class P>
[[nodiscard]] task dispatch(B& b, io& with, const request& r, P payload) noexcept {
    const note_in_frames told{with};
    switch (r.op()) {
    case uapi::op::read:
        if constexpr (reads_later<B, P>) {
            return guarded(told, r, [&] { return b.read(with, r, payload); });
        } else if constexpr (reads_now<B, P>) {
            return guarded(told, r, [&] { return b.read(r, payload); });
        }
        break;
    case uapi::op::write:
        if constexpr (writes_later<B, P>) {
            const typename written<P>::type in{payload};
            return guarded(told, r, [&] { return b.write(with, r, in); });
        } else if constexpr (writes_now<B, P>) {
            const typename written<P>::type in{payload};
            return guarded(told, r, [&] { return b.write(r, in); });
        }
        return std::errc::operation_not_permitted;
    case uapi::op::flush:
        if constexpr (flushes_later<B>) {
            return guarded(told, r, [&] { return b.flush(with, r); });
        } else if constexpr (flushes_now<B>) {
            return guarded(told, r, [&] { return b.flush(r); });
        }
        return ok;
    case uapi::op::discard:
        if constexpr (discards_later<B>) {
            return guarded(told, r, [&] { return b.discard(with, r); });
        } else if constexpr (discards_now<B>) {
            return guarded(told, r, [&] { return b.discard(r); });
        }
        break;
    case uapi::op::write_zeroes:
        if constexpr (zeroes_later<B>) {
            return guarded(told, r, [&] { return b.write_zeroes(with, r); });
        } else if constexpr (zeroes_now<B>) {
            return guarded(told, r, [&] { return b.write_zeroes(r); });
        }
        break;
    default:
        break;
    }
    return std::errc::operation_not_supported;
}

}  // namespace ublk::inline v0::detail
