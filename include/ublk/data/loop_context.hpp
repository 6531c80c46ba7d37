// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/loop_flags.hpp>
#include <ublk/data/loop_state.hpp>
#include <ublk/data/path_policy.hpp>
#include <ublk/data/queue.hpp>
#include <ublk/error.hpp>
#include <ublk/kernel/user_data.hpp>
#include <ublk/request.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace ublk::inline v0 {

namespace detail {

/// So that the compiler lays out each of several conditions for where it is false.
[[nodiscard, gnu::always_inline]] inline bool seldom(bool condition) noexcept {
    return __builtin_expect(condition, false);
}

}  // namespace detail

/// What a loop needs with each request, for variables of its own. From the server it would be
/// loaded anew after each store of a backend: the compiler cannot tell that those leave it alone.
template <class Port, bool SingleQueue>
struct at_hand {
    static constexpr bool the_only_queue = SingleQueue;

    Port& port;
    queue* queues;
    const std::atomic<unsigned>& orders;

    [[nodiscard]] queue& at(std::uint16_t place) const noexcept {
        return queues[SingleQueue ? 0 : place];
    }

    [[nodiscard]] tag_place spot(std::uint16_t place, tag which) const noexcept {
        const queue& q = at(place);
        const std::size_t first = SingleQueue ? 0 : place * q.slots.size();
        return {q, which, static_cast<std::uint16_t>(first + which.value())};
    }

    [[nodiscard]] bool told(unsigned what) const noexcept {
        return (orders.load(std::memory_order_relaxed) & what) != 0;
    }
};

/// What the loop of `Server` passes the port for its events.
template <class Server, class Hand>
struct receiver {
    Server& of;
    Hand hand;

    /// A request.
    [[gnu::always_inline]] void operator()(std::uint16_t place, tag which) const noexcept {
        of.serve(*this, Hand::the_only_queue ? std::uint16_t{0} : place, which);
    }

    /// Any event.
    [[gnu::always_inline]] void operator()(token t, int answer) const noexcept {
        if (t.is_io() && answer == uapi::io_res_ok) [[likely]] {
            (*this)(t.place(), t.which());
        } else if (!of.expected(hand, t, answer)) {
            of.unusual(t, answer);
        }
    }

    /// For `promise`.
    [[gnu::always_inline]] void complete(std::uint16_t place, const request& r,
                                         result answer) const noexcept {
        of.complete(hand, place, r, answer);
    }
};

/// Serving what exceeds its buffer would overrun the next tag.
template <class Path>
[[nodiscard, gnu::always_inline]] inline bool exceeds_buffer(const tag_place& here,
                                                             std::size_t bytes) noexcept {
    return has_tag_buffers(Path::id) && bytes > here.of.data.stride();
}

/// Offers every tag of `queues` to the driver.
template <class Path, class Hand>
void fetch_tags(const Hand& with, std::span<queue> queues, ledger& state) noexcept {
    for (std::uint16_t place = 0; place < queues.size(); ++place) {
        queue& q = queues[place];
        for (unsigned i = q.first; i < q.slots.size(); i += q.step) {
            const tag which{static_cast<std::uint16_t>(i)};
            state.offer(q.slots[i]);
            with.port.fetch(q.id, which, Path::address(with.spot(place, which)),
                            token::io(place, which));
        }
    }
}

}  // namespace ublk::inline v0
