// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/loop_flags.hpp>
#include <ublk/data/queue.hpp>
#include <ublk/error.hpp>
#include <ublk/kernel/user_data.hpp>
#include <ublk/request.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace ublk::inline v0::detail {

/// So that the compiler lays out each of several conditions for where it is false.
[[nodiscard, gnu::always_inline]] inline bool seldom(bool condition) noexcept {
    return __builtin_expect(condition, false);
}

/// What a loop needs with each request, for variables of its own. From the loop it would be
/// loaded anew after each store of a backend: the compiler cannot tell that those leave it alone.
template <class Port, bool SingleQueue>
struct loop_context {
    static constexpr bool the_only_queue = SingleQueue;

    Port& port;
    queue* queues;
    const std::atomic<unsigned>& flags;

    [[nodiscard]] queue& at(std::uint16_t queue_index) const noexcept {
        return queues[SingleQueue ? 0 : queue_index];
    }

    [[nodiscard]] tag_ref tag_at(std::uint16_t queue_index, tag t) const noexcept {
        const queue& q = at(queue_index);
        const std::size_t first = SingleQueue ? 0 : queue_index * q.tag_states.size();
        return {q, t, static_cast<std::uint16_t>(first + t.value())};
    }

    /// Offers every tag of the first `count` queues to the driver.
    template <class Path, class State>
    void fetch_all(std::size_t count, State& state) const noexcept {
        for (std::uint16_t i = 0; i < count; ++i) {
            queue& q = queues[i];
            for (unsigned n = q.first; n < q.tag_states.size(); n += q.step) {
                const tag t{static_cast<std::uint16_t>(n)};
                state.offer(q.tag_states[n]);
                port.fetch(q.id, t, Path::address(tag_at(i, t)), user_data::io(i, t));
            }
        }
    }

    [[nodiscard]] bool has_flag(unsigned bits) const noexcept {
        return (flags.load(std::memory_order_relaxed) & bits) != 0;
    }
};

/// What the loop of `Server` passes the port for its events.
template <class Server, class Context>
struct event_handler {
    Server& of;
    Context context;

    /// A request.
    [[gnu::always_inline]] void operator()(std::uint16_t queue_index, tag t) const noexcept {
        of.serve(*this, Context::the_only_queue ? std::uint16_t{0} : queue_index, t);
    }

    /// For `promise`.
    [[gnu::always_inline]] void complete(std::uint16_t queue_index, const request& r,
                                         result answer) const noexcept {
        of.complete(context, queue_index, r, answer);
    }

    /// Any event.
    [[gnu::always_inline]] void operator()(user_data ud, int answer) const noexcept {
        if (ud.is_io() && answer == uapi::io_res_ok) [[likely]] {
            (*this)(ud.queue_index(), ud.tag());
        } else if (!of.expected(context, ud, answer)) {
            of.unusual(ud, answer);
        }
    }
};

}  // namespace ublk::inline v0::detail
