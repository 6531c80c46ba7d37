// SPDX-License-Identifier: MIT
#include <ublk/backends/memory.hpp>
#include <ublk/ublk.hpp>

#include <cstdio>

int main() {
    ublk::device<ublk::backends::memory> disk{ublk::backends::memory{1u << 20}};
    disk.stop();  // never started, so there is nothing to do, but all of it is instantiated
    std::printf("ublk %d.%d.%d\n", UBLK_VERSION_MAJOR, UBLK_VERSION_MINOR, UBLK_VERSION_PATCH);
    return disk.path().empty() ? 0 : 1;
}
