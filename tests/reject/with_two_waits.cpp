// SPDX-License-Identifier: MIT
// expect: ublk: with<...> has two ways to wait; a thread has one

#include "disk.hpp"

#ifdef UBLK_REJECT
using policy = ublk::with<ublk::per_cpu, ublk::waits::spin, ublk::waits::block>;
#else
using policy = ublk::with<ublk::per_cpu, ublk::waits::spin, ublk::places::anywhere>;
#endif

template void serve<disk, policy>();
