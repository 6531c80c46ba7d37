// SPDX-License-Identifier: MIT
// expect: ublk: with<...> both measures and does not

#include "disk.hpp"

#ifdef UBLK_REJECT
using policy = ublk::with<ublk::shared, ublk::stats, ublk::no_stats>;
#else
using policy = ublk::with<ublk::shared, ublk::stats, ublk::waits::spin>;
#endif

template void serve<disk, policy>();
