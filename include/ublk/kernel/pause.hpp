// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/kernel/host.hpp>

#include <chrono>
#include <mutex>

namespace ublk::inline v0::detail {

/// Lets that much time pass.
template <host Host>
void pause(const Host& running, std::chrono::milliseconds time) {
    typename Host::mutex nobodys;
    typename Host::condition never;
    std::unique_lock lock{nobodys};
    (void)never.wait_until(lock, running.now() + time, [] { return false; });
}

}  // namespace ublk::inline v0::detail
