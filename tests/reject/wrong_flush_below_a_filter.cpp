// SPDX-License-Identifier: MIT
// expect: ublk: a backend's flush must be: ublk::result flush(const ublk::request&) noexcept;

#include "disk.hpp"

#include <ublk/backends/fault.hpp>

struct inner : disk {
#ifdef UBLK_REJECT
    ublk::result flush() noexcept {
        return ublk::ok;
    }
#else
    ublk::result flush(const ublk::request&) noexcept {
        return ublk::ok;
    }
#endif
};

struct backend : ublk::backends::fault<inner> {
    backend() : fault{inner{}} {}
};

template void serve<backend>();
