// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>

namespace ublk::inline v0 {

/// The times that policies go by, as asked for in `options`.
struct loop_timing {
    std::chrono::nanoseconds spin{};         ///< how long to look for events before sleeping
    std::chrono::nanoseconds batch_delay{};  ///< how long a completion is held back at most
};

}  // namespace ublk::inline v0
