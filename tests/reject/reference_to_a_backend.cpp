// SPDX-License-Identifier: MIT
// expect: ublk: a device keeps its backend: hand over a std::shared_ptr<Backend> of what others
//         refer to as well

#include "disk.hpp"

#ifdef UBLK_REJECT
template class ublk::device<disk&>;
#else
template class ublk::device<disk>;
#endif
