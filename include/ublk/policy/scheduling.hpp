// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/kernel_version.hpp>

namespace ublk::inline v0 {

/// How the scheduler treats a queue thread when a request wakes it up.
enum class scheduling {
    /// `batch` where it was measured to pay: from Linux 7.2 on; else `inherited`.
    automatic,
    /// As the thread that calls start.
    inherited,
    /// SCHED_BATCH: the thread does not preempt its client on the same CPU, which goes on to submit
    /// what it has, so that one wakeup finds many requests. Needs no privilege and keeps the nice
    /// value. A thread that inherits another policy than SCHED_OTHER (chrt) keeps that.
    batch
};

namespace detail {

/// What `requested` means on that kernel; never `automatic`.
[[nodiscard]] constexpr scheduling scheduling_on(kernel_version running,
                                                 scheduling requested) noexcept {
    // On 6.12 a thread of SCHED_BATCH waits for its turn where others keep the CPU busy: with 16
    // requests in flight half of them then took ten times as long. 6.18 lets no thread preempt
    // another early, so that nothing is gained. 7.2 and 7.3 do again, but not on a busy CPU: their
    // requests take as long as before there.
    constexpr kernel_version pays{7, 2};
    if (requested != scheduling::automatic) {
        return requested;
    }
    return running >= pays ? scheduling::batch : scheduling::inherited;
}

/// Of the calling thread, which goes on to serve queues.
template <class Kernel>
void apply_scheduling(const Kernel& kernel, scheduling requested) noexcept {
    if (scheduling_on(kernel.version(), requested) == scheduling::batch) {
        kernel.use_sched_batch();
    }
}

}  // namespace detail

}  // namespace ublk::inline v0
