// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/error.hpp>
#include <ublk/policy/queue_policy.hpp>
#include <ublk/request.hpp>
#include <ublk/result.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace ublk::inline v0 {

namespace detail {

/// The clock is all that a meter may ask its thread's port for.
struct any_clock {
    [[nodiscard]] static std::chrono::steady_clock::time_point now() noexcept { return {}; }
};

}  // namespace detail

/// What a device keeps count of while it serves.
///
/// | expression                                | meaning                                          |
/// |-------------------------------------------|--------------------------------------------------|
/// | `M::on`                                   | `axis::measuring`                                |
/// | `M::make_record(shares)`                  | what one thread writes to and others may read;   |
/// |                                           | made before the thread, kept until the next      |
/// |                                           | start; may be null                               |
/// | `M::meter`                                | the thread's hand on it; of its members none     |
/// |                                           | throws, allocates or locks                       |
/// | `meter{record, tags}`                     | made by the thread; `tags` of all queues         |
/// | `meter.turn_begins(clock)`, `turn_ends()` | a look at the events; between these:             |
/// | `meter.took(queue_index, index)`          | a request came: `queue_index` of the queue, and  |
/// |                                           | `index` of the tag, among the thread's           |
/// | `meter.answered(clock, queue_index,       | its answer is queued for the driver              |
/// | index, r, result)`                        |                                                  |
///
/// `clock.now()` is a steady_clock::time_point.
template <class M>
concept measuring_policy = requires(typename M::meter& meter, const thread_shares& shares,
                                    void* record, std::size_t tags, const detail::any_clock& clock,
                                    std::uint16_t queue_index, const request& r, result answer) {
    requires std::same_as<const axis, decltype(M::on)>;
    requires M::on == axis::measuring;
    { M::make_record(shares) } -> std::same_as<std::shared_ptr<void>>;
    typename M::meter;
    requires std::constructible_from<typename M::meter, void*, std::size_t>;
    { meter.turn_begins(clock) }
    noexcept;
    { meter.took(queue_index, queue_index) }
    noexcept;
    { meter.answered(clock, queue_index, queue_index, r, answer) }
    noexcept;
    { meter.turn_ends() }
    noexcept;
};

/// Nothing is counted, which takes no memory and no instruction.
struct no_stats {
    static constexpr axis on = axis::measuring;

    [[nodiscard]] static std::shared_ptr<void> make_record(const thread_shares&) noexcept {
        return nullptr;
    }

    struct meter {
        constexpr meter(void*, std::size_t) noexcept {}
        template <class Clock>
        static constexpr void turn_begins(const Clock&) noexcept {}
        static constexpr void took(std::uint16_t, std::uint16_t) noexcept {}
        template <class Clock>
        static constexpr void answered(const Clock&, std::uint16_t, std::uint16_t, const request&,
                                       result) noexcept {}
        static constexpr void turn_ends() noexcept {}
    };
};

static_assert(measuring_policy<no_stats>);

}  // namespace ublk::inline v0
