// SPDX-License-Identifier: MIT

// Devices of different kinds on one set of threads.

#include "async_specimens.hpp"

#include <ublk/backends/memory.hpp>
#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/queue_policies.hpp>
#include <ublk/sim/laws.hpp>
#include <ublk/thread_set.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace thread_set_test {
namespace {

using namespace ublk;
using sim::conditions;
using sim::in_many_worlds;

using thread_set = basic_thread_set<sim::kernel>;
template <class Backend, class BatchPolicy = per_wakeup>
using disk_of = device<Backend, pooled, BatchPolicy, sim::kernel>;

options small() {
    options requested;
    requested.queues = 2;
    requested.depth = 4;
    requested.max_io_bytes = 8192;
    return requested;
}

/// Its clients write and read, and compare.
template <class Device>
class used {
public:
    used(sim::world& in, Device& disk)
        : attributes_{attributes_of(disk.backend())}, model_{attributes_.size /
                                                                 attributes_.logical_block_size,
                                                             attributes_.logical_block_size,
                                                             attributes_.volatile_cache},
          clients_{in, disk.id(), model_, few()} {
        clients_.start();
    }
    void finish() { clients_.finish(); }

private:
    static sim::habits few() {
        sim::habits all;
        all.submitters = 2;
        all.requests = 40;
        all.in_flight = 4;
        return all;
    }
    disk_attributes attributes_;
    sim::model model_;
    sim::workload clients_;
};

TEST(thread_set, serves_devices_of_several_types_at_once) {
    in_many_worlds([](const conditions& given) {
        sim::world in{given};
        const sim::kernel process = in.boot();
        {
            const thread_set threads{{.threads = 2}, process};
            disk_of<backends::memory> plain{backends::memory{256u << 10}, threads, small(),
                                            process};
            disk_of<backends::memory, batch_io> batched{backends::memory{128u << 10}, threads,
                                                        small(), process};
            disk_of<sim::cached_disk> third{sim::specimen<sim::cached_disk>::make(), threads,
                                            small(), process};
            plain.start();
            batched.start();
            third.start();
            EXPECT_EQ(plain.info().threads, 2u);
            used a{in, plain};
            used b{in, batched};
            used c{in, third};
            b.finish();
            batched.stop();
            a.finish();
            c.finish();
            plain.stop();
            plain.start();
            std::vector<std::byte> block(512);
            EXPECT_EQ((sim::client{in, plain.id()}.read(0, block)), 0) << "after a second start";
        }
        in.settle();
        EXPECT_EQ(in.forget_devices(), 0u);
        EXPECT_EQ(in.on().tasks.tasks(), 0u) << in.on().tasks.describe_waits();
        EXPECT_TRUE(in.take_violations().empty());
    });
}

/// Stops another disk from within a request.
struct meddler {
    std::function<void()> act{};
    std::uint64_t size() const noexcept { return 1u << 16; }
    result read(const request&, std::span<std::byte> out) {
        std::fill(out.begin(), out.end(), std::byte{0});
        act();
        return ok;
    }
    result write(const request&, std::span<const std::byte>) noexcept { return ok; }
};

TEST(thread_set, refuses_that_a_backend_stops_a_disk_of_the_same_threads) {
    conditions given;
    sim::world in{given};
    const sim::kernel process = in.boot();
    {
        const thread_set threads{{.threads = 1}, process};
        disk_of<backends::memory> victim{backends::memory{1u << 16}, threads, small(), process};
        int code = 0;
        disk_of<meddler> disk{meddler{[&] {
                                  try {
                                      victim.stop();
                                  } catch (const error& refused) {
                                      code = refused.errno_value();
                                  }
                              }},
                              threads, small(), process};
        victim.start();
        disk.start();
        std::vector<std::byte> buffer(4096);
        EXPECT_EQ((sim::client{in, disk.id()}.read(0, buffer)), 0);
        EXPECT_EQ(code, EDEADLK);
        EXPECT_EQ(victim.state(), device_state::live);
    }
    in.settle();
    EXPECT_EQ(in.on().tasks.tasks(), 0u);
}

TEST(thread_set, outlives_neither_its_devices_nor_its_owner) {
    conditions given;
    sim::world in{given};
    const sim::kernel process = in.boot();
    auto disk = std::make_unique<disk_of<backends::memory>>(
        backends::memory{1u << 16}, thread_set{{.threads = 2}, process}, small(), process);
    disk->start();
    std::vector<std::byte> block(512);
    EXPECT_EQ((sim::client{in, disk->id()}.read(0, block)), 0) << "the device keeps the threads";
    disk.reset();
    in.settle();
    EXPECT_EQ(in.on().tasks.tasks(), 0u);
}

}  // namespace
}  // namespace thread_set_test
