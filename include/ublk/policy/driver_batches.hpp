// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/policy/batch_policy.hpp>

namespace ublk::inline v0 {

/// Requests come and completions go in the driver's own batches (UBLK_F_BATCH_IO, Linux 7.0): one
/// event tells of up to 128 requests, one command answers a whole turn of the loop. The least work
/// for a request among many. Where the driver has none of that, the same program runs as with
/// `per_wakeup`; `device_info::driver_batches` tells.
struct driver_batches {
    static constexpr bool by_driver = true;
    static constexpr bool never = true;
    [[nodiscard]] static constexpr bool due(unsigned) noexcept { return false; }
};

static_assert(batch_policy<driver_batches> && batches_by_driver<driver_batches>);

}  // namespace ublk::inline v0
