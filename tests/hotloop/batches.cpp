// SPDX-License-Identifier: MIT
#include <ublk/backends/memory.hpp>
#include <ublk/ublk.hpp>

// To be disassembled, as the others here.
int main() {
    using ublk::backends::memory;
    ublk::device<memory, ublk::per_cpu, ublk::batch_io>{memory{1u << 20}}.start();
    ublk::device<memory, ublk::shared, ublk::batch_io>{memory{1u << 20}}.start();
}
