// SPDX-License-Identifier: MIT
#pragma once

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace ublk::inline v0::detail {

/// sched_attr of sched_setattr(2), as Linux had it first: glibc has none before 2.41.
struct sched_attributes {
    std::uint32_t size = sizeof(sched_attributes);
    std::uint32_t policy = 0;
    std::uint64_t flags = 0;
    std::int32_t nice = 0;
    std::uint32_t priority = 0;
    std::uint64_t runtime = 0;
    std::uint64_t deadline = 0;
    std::uint64_t period = 0;
};
static_assert(sizeof(sched_attributes) == 48);

/// Makes SCHED_BATCH of the calling thread's SCHED_OTHER; all else (nice value, time slice) stays
/// as it is, and so does a thread of another policy, which somebody chose. Where the kernel or a
/// filter of system calls refuses, the thread serves as it is: nothing depends on it but speed.
inline void take_sched_batch() noexcept {
    sched_attributes mine;
    if (::syscall(SYS_sched_getattr, 0, &mine, sizeof mine, 0) == 0 && mine.policy == SCHED_OTHER) {
        mine.policy = SCHED_BATCH;
        (void)::syscall(SYS_sched_setattr, 0, &mine, 0);
    }
}

}  // namespace ublk::inline v0::detail
