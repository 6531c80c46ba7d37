// SPDX-License-Identifier: MIT
// expect: ublk: with driver_batches the driver picks the thread for each request

#include "disk.hpp"

#ifdef UBLK_REJECT
template void serve<disk, ublk::interleaved, ublk::driver_batches>();
#else
template void serve<disk, ublk::interleaved, ublk::per_wakeup>();
#endif
