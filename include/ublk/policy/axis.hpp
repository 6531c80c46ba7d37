// SPDX-License-Identifier: MIT
#pragma once

namespace ublk::inline v0 {

/// What a part of a queue policy decides, beside which thread serves what.
enum class axis {
    waiting,    ///< how a thread waits for requests
    placement,  ///< on which CPUs it runs
    measuring   ///< what it keeps count of
};

}  // namespace ublk::inline v0
