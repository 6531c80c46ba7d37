// SPDX-License-Identifier: MIT
// expect: ublk: a backend's logical_block_size must be: std::uint32_t logical_block_size() const
//         noexcept; or: static constexpr std::uint32_t logical_block_size = ...;

#include "disk.hpp"

struct backend : disk {
#ifdef UBLK_REJECT
    const char* logical_block_size() const noexcept {
        return "4 KiB";
    }
#else
    std::uint32_t logical_block_size() const noexcept {
        return 4096;
    }
#endif
};

template void serve<backend>();
