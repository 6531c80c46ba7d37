// SPDX-License-Identifier: MIT
// expect: ublk: with batch_io the driver picks the thread for each request

#include "disk.hpp"

#ifdef UBLK_REJECT
template void serve<disk, ublk::interleaved, ublk::batch_io>();
#else
template void serve<disk, ublk::interleaved, ublk::per_wakeup>();
#endif
