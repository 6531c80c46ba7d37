// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backends/decorator.hpp>
#include <ublk/backends/operation_calls.hpp>

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

namespace ublk::inline v0::detail {

/// Everything may have to wait, so everything answers later. `Payloads` are what reads and writes
/// may take; none: all that B takes.
template <class B, class... Payloads>
struct filter_answers {
    template <class P>
    static constexpr bool takes = sizeof...(Payloads) == 0 ||
                                  (std::is_same_v<filled<P>, Payloads> || ...);
    template <class Op, class... P>
    static constexpr answers of = (takes<P> && ...) && answers_below<Op, B, P...> != answers::never
                                      ? answers::later
                                      : answers::never;
    static constexpr bool read_only = constantly_read_only<B>();
};

}  // namespace ublk::inline v0::detail

namespace ublk::inline v0::backends {

/// The base of a disk on another disk, as an nbdkit filter is: all of B's operations, data paths
/// and attributes are there, and go through one function of Self.
///
///     template <class B>
///     class slow : public ublk::backends::filter<slow<B>, B> {
///     public:
///         using ublk::backends::filter<slow<B>, B>::filter;
///         template <class Op, class... P>
///         ublk::task later(ublk::io& io, const ublk::request& r, P... payload) {
///             (void)co_await io.sleep(1ms);
///             ublk::task below = this->template pass<Op>(io, r, payload...);
///             co_return co_await std::move(below);
///         }
///     };
///
/// `Op` is one of `ublk::operations`. `payload` is empty, or what B's `read` or `write` takes. B
/// may answer now or later; what it answers now is a task that has ended. B's `memory_for` is
/// hidden, since the kernel would copy past Self.
///
/// With `Payloads` Self is asked for these only, and the device for the data paths that go with
/// them: a filter that looks at the bytes names `std::span<std::byte>`.
///
/// Self has a `task_bytes` of its own where the coroutines of its `later` take more than 1 KiB of
/// frames, and an `operations_in_flight` where it awaits several operations at once.
///
/// Thread: as B; `later` is called for several requests at once.
template <class Self, class B, class... Payloads>
class filter : public detail::decorator<Self, detail::filter_answers<B, Payloads...>> {
    static_assert(check_backend<B>());  // or what B misspells would be lost in silence
    using base = detail::decorator<Self, detail::filter_answers<B, Payloads...>>;

public:
    static constexpr unsigned operations_in_flight = std::max(1u, detail::operations_of<B>);
    static constexpr std::size_t task_bytes = 1024 + detail::frames_of<B>;

    /// Shows what `below` shows.
    explicit filter(B below) : base{attributes_of(below)}, below_{std::move(below)} {}

    /// The disk below.
    [[nodiscard]] B& below() noexcept { return below_; }

    /// For the library.
    [[nodiscard]] std::vector<const registered_file*> ring_files() const {
        return attributes_of(below_).ring_files;
    }

protected:
    /// The same operation of B, on any part of the request. `r` outlives the task.
    //
    // Not inlined, or Clang would put the frames of all tasks below into that of the caller, where
    // they do not take turns in the same place.
    template <class Op, class... P>
    [[nodiscard, gnu::noinline]] task pass(io& with, const request& r, P... payload) noexcept {
        return detail::call_operation<Op>(ok, below_, with, r, payload...);
    }

private:
    B below_;
};

}  // namespace ublk::inline v0::backends
