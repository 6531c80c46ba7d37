// SPDX-License-Identifier: MIT
// expect: ublk: after that, with<...> takes one of ublk::waits, one of ublk::places, and
//         ublk::stats or ublk::no_stats; one of these is none of them

#include "disk.hpp"

#ifdef UBLK_REJECT
using policy = ublk::with<ublk::per_cpu, ublk::each>;
template void serve<disk, policy>();
#else
template void serve<disk, ublk::with<ublk::per_cpu>, ublk::each>();
#endif
