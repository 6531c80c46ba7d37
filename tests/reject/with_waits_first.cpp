// SPDX-License-Identifier: MIT
// expect: ublk: with<...> begins with which thread serves what: per_cpu, shared, pooled or

#include "disk.hpp"

#ifdef UBLK_REJECT
using policy = ublk::with<ublk::waits::spin, ublk::per_cpu>;
#else
using policy = ublk::with<ublk::per_cpu, ublk::waits::spin>;
#endif

template void serve<disk, policy>();
