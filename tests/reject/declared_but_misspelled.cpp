// SPDX-License-Identifier: MIT
// expect: ublk: implements and the backend differ in: ublk::result flush(const ublk::request&)
//         noexcept;

#include "disk.hpp"

struct backend : disk {
#ifdef UBLK_REJECT
    static constexpr ublk::functions implements = ublk::functions::flush;
    ublk::result flsuh(const ublk::request&) noexcept {
        return ublk::ok;
    }
#else
    static constexpr ublk::functions implements = ublk::functions::flush;
    ublk::result flush(const ublk::request&) noexcept {
        return ublk::ok;
    }
#endif
};

template void serve<backend>();
