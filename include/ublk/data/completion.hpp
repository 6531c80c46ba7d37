// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/error.hpp>
#include <ublk/request.hpp>
#include <ublk/result.hpp>

namespace ublk::inline v0 {

/// What the driver is told of a request. Only ever the full length or an errno: it completes the
/// whole of a request that was answered with less (kernel 7.3, __ublk_complete_rq).
[[nodiscard]] inline int driver_answer(const request& r, result answer) noexcept {
    if (!answer.ok()) [[unlikely]] {
        return -answer.error();
    }
    return r.carries_data() ? static_cast<int>(r.length()) : 0;
}

}  // namespace ublk::inline v0
