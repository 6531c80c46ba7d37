// SPDX-License-Identifier: MIT
// expect: ublk: not is_read_only but: bool read_only() const noexcept;

#include "disk.hpp"

struct backend : disk {
#ifdef UBLK_REJECT
    bool is_read_only() const noexcept {
        return true;
    }
#else
    bool read_only() const noexcept {
        return true;
    }
#endif
};

template void serve<backend>();
