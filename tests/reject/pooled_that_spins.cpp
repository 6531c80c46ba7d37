// SPDX-License-Identifier: MIT
// expect: ublk: the threads of a set wait and run as the set has them

#include "disk.hpp"

#ifdef UBLK_REJECT
using policy = ublk::with<ublk::pooled, ublk::waits::spin>;
#else
using policy = ublk::with<ublk::pooled>;
#endif

void serve_pooled() {
    const ublk::thread_set threads;
    ublk::device<disk, policy> device{disk{}, threads};
    device.start();
}
