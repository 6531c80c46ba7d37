// SPDX-License-Identifier: MIT
// expect: ublk: a backend needs: ublk::task write(ublk::io&, const ublk::request&,
//         ublk::registered_buffer in); or: static constexpr bool read_only = true;

#include "disk.hpp"

struct backend : disk {
    using disk::read, disk::write;
    ublk::task read(ublk::io&, const ublk::request&, ublk::registered_buffer) { return ublk::ok; }
#ifndef UBLK_REJECT
    ublk::task write(ublk::io&, const ublk::request&, ublk::registered_buffer) {
        return ublk::ok;
    }
#endif
};

template void serve<backend>();
