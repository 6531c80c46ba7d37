// SPDX-License-Identifier: MIT
#include <ublk/backends/memory.hpp>
#include <ublk/ublk.hpp>

// To be disassembled, as the others here.
int main() {
    using ublk::backends::memory;
    ublk::device<memory, ublk::per_cpu, ublk::driver_batches>{memory{1u << 20}}.start();
    ublk::device<memory, ublk::shared, ublk::driver_batches>{memory{1u << 20}}.start();
}
