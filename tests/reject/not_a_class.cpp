// SPDX-License-Identifier: MIT
// expect: ublk: a backend needs: std::uint64_t size() const noexcept;

#include "disk.hpp"

#ifdef UBLK_REJECT
template void serve<int>();
#else
template void serve<disk>();
#endif
