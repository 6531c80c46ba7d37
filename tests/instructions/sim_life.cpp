// SPDX-License-Identifier: MIT

// The life of a device in the simulator, for benchmarks/user_instructions.sh to count.
//
// Usage: sim_life life all LIVES

#include <ublk/backends/memory.hpp>
#include <ublk/sim/client.hpp>
#include <ublk/sim/rig.hpp>
#include <ublk/ublk.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

using ublk::backends::memory;
namespace sim = ublk::sim;

template <>
struct ublk::sim::specimen<memory> {
    static std::shared_ptr<memory> make() { return std::make_shared<memory>(256u << 10); }
};

namespace {

std::uint64_t lives = 0;

/// Starts, serves a write and a read, and stops. The only function that is counted.
[[gnu::noinline]] void collect() {
    sim::rig<sim::composition<memory, ublk::shared, ublk::per_wakeup>> r{{.seed = ++lives}};
    r.start();
    std::vector<std::byte> data(4096);
    {
        sim::client disk{r.in, r.server->id()};
        if (disk.write(0, data) != 0 || disk.read(0, data) != 0) {
            std::abort();
        }
    }
    r.server->stop();
}

}  // namespace

int main(int argc, char** argv) {
    const std::uint64_t wanted = argc == 4 ? std::strtoull(argv[3], nullptr, 10) : 0;
    while (lives < wanted) {
        collect();
    }
    std::printf("%llu\n", static_cast<unsigned long long>(lives));
}
