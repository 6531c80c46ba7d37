// SPDX-License-Identifier: MIT
// expect: ublk: a queue policy needs: static std::vector<ublk::thread_shares>
//         threads(const ublk::queue_facts&);

#include "disk.hpp"

#ifdef UBLK_REJECT
template void serve<disk, ublk::per_wakeup, ublk::per_cpu>();
#else
template void serve<disk, ublk::per_cpu, ublk::per_wakeup>();
#endif
