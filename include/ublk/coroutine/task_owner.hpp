// SPDX-License-Identifier: MIT
#pragma once

namespace ublk::inline v0::detail {

/// Who hears of the end of a task that nobody awaits.
struct task_owner {
    task_owner* next_ended = nullptr;
    task_owner** ended = nullptr;  ///< the list that it joins

    void notify() noexcept {
        next_ended = *ended;
        *ended = this;
    }
};

}  // namespace ublk::inline v0::detail
