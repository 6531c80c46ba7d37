// SPDX-License-Identifier: MIT
// Stands before liburing's io_uring_queue_init_params, so that a test can be a kernel that grants
// less. For one translation unit of a program.
#pragma once

#include <dlfcn.h>
#include <liburing.h>

#include <functional>

/// Given the flags asked for: 0 lets the kernel decide, else -errno.
inline std::function<int(unsigned flags)> ring_setup_verdict;

extern "C" inline __attribute__((used)) int
io_uring_queue_init_params(unsigned entries, io_uring* ring, io_uring_params* params) {
    if (ring_setup_verdict) {
        if (const int verdict = ring_setup_verdict(params->flags); verdict != 0) {
            return verdict;
        }
    }
    using function = int (*)(unsigned, io_uring*, io_uring_params*);
    static const auto real =
        reinterpret_cast<function>(::dlsym(RTLD_NEXT, "io_uring_queue_init_params"));
    return real(entries, ring, params);
}
