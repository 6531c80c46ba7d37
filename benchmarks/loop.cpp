// SPDX-License-Identifier: MIT
//
// The library's own share of a request, of every disk of the matrix, without a kernel. As it is it
// takes the time; under callgrind (loop.py) it dumps the counts of each loop. Prints JSON.
#include "loop.hpp"

#include <ublk/detail/fd.hpp>

#include <sys/stat.h>
#include <unistd.h>
#include <valgrind/callgrind.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace benchmark {

namespace {

template <std::size_t... Index>
std::vector<loop> join(std::index_sequence<Index...>) {
    std::vector<loop> all;
    const auto add = [&](std::vector<loop> some) {
        std::move(some.begin(), some.end(), std::back_inserter(all));
    };
    (add(loops_with_backend<Index>()), ...);
    return all;
}

constexpr auto backend_count = decltype(hana::size(backends))::value;
static_assert(backend_count == UBLK_BENCHMARK_BACKENDS, "CMakeLists.txt lists the backends, too");

/// The least of some runs: what disturbs only adds.
double nanoseconds(const loop& each, const settings& s, bool writes) {
    double least = 1e9;
    for (int i = 0; i < 5; ++i) {
        const auto began = std::chrono::steady_clock::now();
        const std::uint64_t requests = each.run(s, writes, 500);
        const std::chrono::duration<double, std::nano> took =
            std::chrono::steady_clock::now() - began;
        least = std::min(least, took.count() / static_cast<double>(requests));
    }
    return least;
}

/// A dump for each of two lengths, so that what happens once for all cancels out.
std::uint64_t dump(const loop& each, const settings& s, bool writes, unsigned turns) {
    CALLGRIND_ZERO_STATS;
    const std::uint64_t requests = each.run(s, writes, turns);
    const std::string name = each.name + (writes ? " write " : " read ") + std::to_string(turns);
    CALLGRIND_DUMP_STATS_AT(name.c_str());
    return requests;
}

void measure(const loop& each, const settings& s, bool counting) {
    for (const bool writes : {false, true}) {
        std::printf("{\"name\":\"%s\",\"way\":\"%s\",", each.name.c_str(),
                    writes ? "write" : "read");
        if (counting) {
            const std::uint64_t few = dump(each, s, writes, 100);
            const std::uint64_t many = dump(each, s, writes, 300);
            std::printf("\"requests\":%llu}\n", static_cast<unsigned long long>(many - few));
        } else {
            std::printf("\"ns\":%.1f}\n", nanoseconds(each, s, writes));
        }
    }
}

}  // namespace

}  // namespace benchmark

int main(int argc, char**) {
    using namespace benchmark;
    if (argc != 1) {
        std::fprintf(stderr, "usage: loop    (under callgrind it counts: see loop.py)\n");
        return 2;
    }
    settings s;
    s.bytes = 1u << 20;
    char name[] = "/tmp/ublk-loop-XXXXXX";
    const ublk::fd made{::mkstemp(name)};
    if (!made || ::ftruncate(made.get(), 1 << 20) != 0) {
        std::perror("loop: a file to serve");
        return 1;
    }
    s.file = name;
    for (const loop& each : join(std::make_index_sequence<backend_count>{})) {
        measure(each, s, RUNNING_ON_VALGRIND != 0);
    }
    ::unlink(name);
}
