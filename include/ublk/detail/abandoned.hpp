// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>

namespace ublk::inline v0::detail {

/// Memory that others may use, and nobody can tell for how long: the kernel, which never answered,
/// or a thread of the user's. It is given up on rather than given back.
struct abandoned {
    abandoned* link = nullptr;
};

/// Takes any thread. What is in this list is reachable, so leak checkers do not report it.
[[gnu::cold]] inline void abandon(abandoned* memory) noexcept {
    static std::atomic<abandoned*> all{nullptr};
    memory->link = all;
    while (!all.compare_exchange_weak(memory->link, memory)) {
    }
}

}  // namespace ublk::inline v0::detail
