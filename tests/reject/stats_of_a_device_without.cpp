// SPDX-License-Identifier: MIT
// expect: ublk: this device counts nothing: take ublk::with<ublk::per_cpu, ublk::stats> as its
//         queue policy

#include "disk.hpp"

#ifdef UBLK_REJECT
using policy = ublk::per_cpu;
#else
using policy = ublk::with<ublk::per_cpu, ublk::stats>;
#endif

std::uint64_t requests() {
    ublk::device<disk, policy> device{disk{}};
    device.start();
    return device.stats().sum().sum().requests();
}
