// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>

namespace ublk::inline v0 {

/// The times that policies go by, as asked for in `options`.
struct loop_timing {
    std::chrono::nanoseconds spin{};         ///< looked for events before sleeping
    std::chrono::nanoseconds batch_delay{};  ///< a completion is held back at most
};

}  // namespace ublk::inline v0
