// SPDX-License-Identifier: MIT

// Machines with more CPUs than anybody here has: devices start with what is asked by default, and
// what a thread serves is counted thread by thread.

#include <ublk/backends/memory.hpp>
#include <ublk/policy/queue_policies.hpp>
#include <ublk/sim/client.hpp>
#include <ublk/sim/kernel.hpp>
#include <ublk/thread_set.hpp>
#include <ublk/ublk.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace many_cpus_test {
namespace {

using namespace ublk;

template <class QueuePolicy>
using disk_of = device<backends::memory, QueuePolicy, per_wakeup, sim::kernel>;

template <class Device>
void serve(sim::world& in, Device& disk) {
    disk.start();
    std::vector<std::byte> block(512, std::byte{7});
    EXPECT_EQ((sim::client{in, disk.id()}.write(0, block)), 0);
    EXPECT_EQ((sim::client{in, disk.id()}.read(0, block)), 0);
    disk.stop();
}

/// With default options; what was granted.
template <class QueuePolicy>
device_info served_by(unsigned cpus, options requested = {}) {
    sim::world in{{.cpus = cpus}};
    const sim::kernel process = in.boot();
    disk_of<QueuePolicy> disk{backends::memory{1u << 20}, requested, process};
    serve(in, disk);
    return disk.info();
}

device_info served_by_a_set(unsigned cpus, unsigned threads, options requested = {}) {
    sim::world in{{.cpus = cpus}};
    const sim::kernel process = in.boot();
    const basic_thread_set<sim::kernel> set{{.threads = threads}, process};
    disk_of<pooled> disk{backends::memory{1u << 20}, set, requested, process};
    serve(in, disk);
    return disk.info();
}

TEST(many_cpus, every_policy_starts_with_its_defaults) {
    for (const unsigned cpus : {300u, 1024u}) {
        EXPECT_EQ(served_by<per_cpu>(cpus).queues, cpus);
        EXPECT_LE(served_by<shared>(cpus).queues, 256u) << "of depth 128, on one thread";
        EXPECT_GE(served_by<shared>(cpus).queues, 128u);
        EXPECT_LE(served_by<interleaved>(cpus).queues, cpus);
        EXPECT_EQ(served_by_a_set(cpus, 0).queues, cpus);
        EXPECT_LE(served_by_a_set(cpus, 1).queues, 256u);
    }
    EXPECT_EQ(served_by<shared>(256).queues, 256u);
}

options asking(unsigned queues, unsigned depth, unsigned threads) {
    options requested;
    requested.queues = queues;
    requested.depth = depth;
    requested.threads = threads;
    return requested;
}

// 65536 requests on 128 threads: 512 on each.
TEST(many_cpus, what_counts_is_what_one_thread_serves) {
    EXPECT_EQ(served_by<interleaved>(128, asking(128, 512, 128)).threads, 128u);
    EXPECT_EQ(served_by_a_set(128, 128, asking(128, 512, 0)).threads, 128u);
    try {
        (void)served_by<shared>(128, asking(128, 512, 0));
        ADD_FAILURE() << "one thread takes 65536 requests";
    } catch (const error& refused) {
        EXPECT_NE(std::string{refused.what()}.find("65536 requests at once"), std::string::npos)
            << refused.what();
    }
}

}  // namespace
}  // namespace many_cpus_test
