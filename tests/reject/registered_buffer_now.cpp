// SPDX-License-Identifier: MIT
// expect: ublk: only an asynchronous function can use a registered buffer: ublk::task
//         read(ublk::io&, const ublk::request&, ublk::registered_buffer out);

#include "disk.hpp"

struct backend : disk {
    using disk::read, disk::write;
#ifdef UBLK_REJECT
    ublk::result read(const ublk::request&, ublk::registered_buffer) noexcept {
        return ublk::ok;
    }
    ublk::result write(const ublk::request&, ublk::registered_buffer) noexcept {
        return ublk::ok;
    }
#else
    ublk::task read(ublk::io&, const ublk::request&, ublk::registered_buffer) {
        return ublk::ok;
    }
    ublk::task write(ublk::io&, const ublk::request&, ublk::registered_buffer) {
        return ublk::ok;
    }
#endif
};

template void serve<backend>();
