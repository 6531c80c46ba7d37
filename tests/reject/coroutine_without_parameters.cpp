// SPDX-License-Identifier: MIT
// expect: ublk: a coroutine that returns ublk::task needs a parameter ublk::io&, in whose
//         memory its frame lives

#include "disk.hpp"

#ifdef UBLK_REJECT
ublk::task nothing() {
    co_return ublk::ok;
}
#else
ublk::task nothing(ublk::io&) {
    co_return ublk::ok;
}
#endif
