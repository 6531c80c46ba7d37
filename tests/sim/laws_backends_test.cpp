// SPDX-License-Identifier: MIT
#include <ublk/backends/fault.hpp>
#include <ublk/backends/file.hpp>
#include <ublk/backends/stripe.hpp>
#include <ublk/sim/laws.hpp>

#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

// The library's own backends that stand on files or on other backends.

namespace {

using ublk::backends::fault;
using ublk::backends::file;
using ublk::backends::stripe;

constexpr std::uint64_t disk_size = 256u << 10;

/// A file of zeroes that is gone with its backend; all of its I/O goes through the ring.
file on_scratch(std::uint64_t bytes) {
    // In memory where there is such a place: a thousand worlds would wear a medium out.
    std::string name =
        ::access("/dev/shm", W_OK) == 0 ? "/dev/shm/ublk-laws-XXXXXX" : "/tmp/ublk-laws-XXXXXX";
    const ublk::fd made{::mkstemp(name.data())};
    if (!made || ::ftruncate(made.get(), static_cast<off_t>(bytes)) != 0) {
        ublk::fail(errno, "making a file", std::nullopt);
    }
    file disk{name, {.at_once = false}};
    (void)::unlink(name.c_str());
    return disk;
}

std::vector<file> two_files() {
    std::vector<file> both;
    both.push_back(on_scratch(disk_size / 2));
    both.push_back(on_scratch(disk_size / 2));
    return both;
}

/// Delays, and transfers in two pieces.
ublk::fault_plan some_delays() {
    using namespace std::chrono_literals;
    ublk::fault_plan plan;
    plan.odds = {.delay = 6, .split = 3, .longest = 1ms};
    return plan;
}

}  // namespace

namespace ublk::sim {

template <>
struct specimen<file> {
    static std::shared_ptr<file> make() { return std::make_shared<file>(on_scratch(disk_size)); }
    static std::shared_ptr<file> revive(std::shared_ptr<file> dead) { return dead; }
    static constexpr bool remembers = true;
};
template <>
struct specimen<stripe<file>> {
    static std::shared_ptr<stripe<file>> make() {
        return std::make_shared<stripe<file>>(4096u, two_files());
    }
    static std::shared_ptr<stripe<file>> revive(std::shared_ptr<stripe<file>> dead) { return dead; }
    static constexpr bool remembers = true;
};
template <>
struct specimen<stripe<file, fault<file>>> {
    static std::shared_ptr<stripe<file, fault<file>>> make() {
        return std::make_shared<stripe<file, fault<file>>>(
            4096u, on_scratch(disk_size / 2),
            fault<file>{on_scratch(disk_size / 2), some_delays()});
    }
    static constexpr bool remembers = true;
};
template <>
struct specimen<fault<file>> {
    static std::shared_ptr<fault<file>> make() {
        return std::make_shared<fault<file>>(on_scratch(disk_size), some_delays());
    }
    static constexpr bool remembers = true;
};

}  // namespace ublk::sim

using ublk::data_path;
using ublk::per_cpu;
using ublk::per_wakeup;
using ublk::shared;
using ublk::sim::composition;
using backends_by_paths =
    ::testing::Types<composition<file, per_cpu, per_wakeup, data_path::auto_buffer>,
                     composition<stripe<file>, shared, per_wakeup, data_path::fixed_copy>,
                     composition<stripe<file, fault<file>>, per_cpu, per_wakeup, data_path::copy>,
                     composition<fault<file>, per_cpu, per_wakeup, data_path::zero_copy>>;

UBLK_LAWS_OF(backends, ::backends_by_paths)
