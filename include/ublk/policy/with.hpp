// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/policy/measuring.hpp>
#include <ublk/policy/placement.hpp>
#include <ublk/policy/queue_policies.hpp>
#include <ublk/policy/queue_policy.hpp>
#include <ublk/policy/wait.hpp>

#include <concepts>
#include <type_traits>

namespace ublk::inline v0 {

namespace detail {

template <class T>
concept part = requires {
    requires std::same_as<const axis, decltype(T::on)>;
};

/// The one of `Given` on that axis, or `Otherwise`.
template <axis On, class Otherwise, class... Given>
struct part_of {
    using type = Otherwise;
};
template <axis On, class Otherwise, class First, class... Rest>
struct part_of<On, Otherwise, First, Rest...>
    : std::conditional_t<First::on == On, std::type_identity<First>,
                         part_of<On, Otherwise, Rest...>> {};

template <axis On, class... Given>
inline constexpr bool at_most_one = (0 + ... + (Given::on == On ? 1 : 0)) <= 1;

}  // namespace detail

/// A queue policy with some of its axes chosen, in any order:
///
///     ublk::with<ublk::per_cpu, ublk::waits::spin_then_block, ublk::places::one_l3>
///
/// What is not named stays as `Threading` has it.
template <class Threading, class... Parts>
struct with : Threading {
    static_assert(queue_policy<Threading>,
                  "ublk: with<...> begins with which thread serves what: per_cpu, shared, pooled "
                  "or interleaved");
    static_assert((detail::part<Parts> && ...),
                  "ublk: after that, with<...> takes one of ublk::waits, one of ublk::places, and "
                  "ublk::stats or ublk::no_stats; one of these is none of them");
    static_assert(detail::at_most_one<axis::waiting, Parts...>,
                  "ublk: with<...> has two ways to wait; a thread has one");
    static_assert(detail::at_most_one<axis::placement, Parts...>,
                  "ublk: with<...> has two placements; a thread has one");
    static_assert(detail::at_most_one<axis::measuring, Parts...>,
                  "ublk: with<...> both measures and does not");

    using waiting =
        typename detail::part_of<axis::waiting, typename queue_policy_traits<Threading>::waiting,
                                 Parts...>::type;
    using placement = typename detail::part_of<
        axis::placement, typename queue_policy_traits<Threading>::placement, Parts...>::type;
    using measuring = typename detail::part_of<
        axis::measuring, typename queue_policy_traits<Threading>::measuring, Parts...>::type;
};

}  // namespace ublk::inline v0
