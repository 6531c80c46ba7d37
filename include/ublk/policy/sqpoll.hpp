// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/policy/batch_policy.hpp>

namespace ublk::inline v0 {

/// A thread of the kernel's takes each completion as soon as it is queued (IORING_SETUP_SQPOLL),
/// and the driver's copies are made there: the server makes no system call but to sleep, and with
/// `waits::spin` none at all. The kernel's thread keeps a CPU busy until it has had nothing to do
/// for `options::sqpoll_idle`.
struct sqpoll {
    static constexpr bool by_kernel_thread = true;
    [[nodiscard]] static constexpr bool due(unsigned) noexcept { return true; }
};

static_assert(batch_policy<sqpoll>);

}  // namespace ublk::inline v0
