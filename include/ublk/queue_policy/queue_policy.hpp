// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/units.hpp>

#include <concepts>
#include <cstdint>
#include <vector>

namespace ublk::inline v0 {

/// Which thread serves which queues.
///
/// | expression               | meaning                                                          |
/// |--------------------------|------------------------------------------------------------------|
/// | `P::threads(queues)`     | for each thread the queues it serves; every queue exactly once   |
/// | `P::one_queue_a_thread`  | constant: the loop need not ask a completion for its queue       |
/// | `P::pinned`              | constant: a thread runs on the CPUs of its queues                |
template <class P>
concept queue_policy = requires(unsigned queues) {
    { P::threads(queues) } -> std::same_as<std::vector<std::vector<queue_id>>>;
    requires std::same_as<const bool, decltype(P::one_queue_a_thread)>;
    requires std::same_as<const bool, decltype(P::pinned)>;
};

}  // namespace ublk::inline v0
