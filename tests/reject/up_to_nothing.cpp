// SPDX-License-Identifier: MIT
// expect: ublk: up_to<N> needs N >= 1

#include "disk.hpp"

#ifdef UBLK_REJECT
constexpr unsigned batch = 0;
#else
constexpr unsigned batch = 1;
#endif

template void serve<disk, ublk::per_cpu, ublk::up_to<batch>>();
