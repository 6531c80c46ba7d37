// SPDX-License-Identifier: MIT
// expect: ublk: a backend's read must be public, and: ublk::result read(const ublk::request&,
//         std::span<std::byte> out)
//         noexcept;

#include "disk.hpp"

struct backend : disk {
#ifdef UBLK_REJECT
    int read(const ublk::request& r, std::span<std::byte>) noexcept {
        return static_cast<int>(r.length());  // a number of bytes, as of pread()
    }
#else
    ublk::result read(const ublk::request&, std::span<std::byte>) noexcept {
        return ublk::ok;
    }
#endif
};

template void serve<backend>();
