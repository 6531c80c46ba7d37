// SPDX-License-Identifier: MIT
// expect: ublk: a backend's flush must be: ublk::result flush(const ublk::request&) noexcept;

#include "disk.hpp"

class backend : public disk {
#ifndef UBLK_REJECT
public:
#endif
    ublk::result flush(const ublk::request&) noexcept {
        return ublk::ok;
    }
};

template void serve<backend>();
