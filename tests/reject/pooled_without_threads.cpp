// SPDX-License-Identifier: MIT
// expect: ublk: a device with the queue policy pooled is made with a thread set

#include "disk.hpp"

#ifdef UBLK_REJECT
template void serve<disk, ublk::pooled>();
#else
void serve_pooled() {
    const ublk::thread_set threads;
    ublk::device<disk, ublk::pooled> device{disk{}, threads};
    device.start();
}
#endif
