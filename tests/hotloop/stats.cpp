// SPDX-License-Identifier: MIT
#include <ublk/backends/memory.hpp>
#include <ublk/ublk.hpp>

// To be disassembled, as the others here.
int main() {
    using namespace ublk;
    using backends::memory;
    device<memory, with<per_cpu, stats>>{memory{1u << 20}}.start();
    device<memory, with<shared, stats>>{memory{1u << 20}}.start();
}
