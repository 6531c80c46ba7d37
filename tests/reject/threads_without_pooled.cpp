// SPDX-License-Identifier: MIT
// expect: ublk: a device on a thread set has the queue policy ublk::pooled

#include "disk.hpp"

#ifdef UBLK_REJECT
using policy = ublk::per_cpu;
#else
using policy = ublk::pooled;
#endif

void serve_pooled() {
    const ublk::thread_set threads;
    ublk::device<disk, policy> device{disk{}, threads};
    device.start();
}
