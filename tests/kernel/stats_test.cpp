// SPDX-License-Identifier: MIT

// What a device counts, against what its clients asked of it.

#include "backends.hpp"
#include "client.hpp"

#include <ublk/backends/memory.hpp>
#include <ublk/prometheus.hpp>
#include <ublk/ublk.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace ublk_test {
namespace stats_test {
namespace {

using ublk::uapi::op;

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;

/// Has every operation, each of which the hook may fail.
struct complete_ram : flushing_ram {
    using flushing_ram::flushing_ram;
    ublk::result discard(const ublk::request& r) { return clear(r); }
    ublk::result write_zeroes(const ublk::request& r) { return clear(r); }
};

/// Fails what begins in the second half of the disk; every other flush there is.
[[nodiscard]] hook half_broken() {
    return [flushes = std::make_shared<std::atomic<unsigned>>(0)](const ublk::request& r) {
        const bool fails = r.op() == op::flush ? ++*flushes % 2 == 0 : r.offset() >= 4 * mib;
        return fails ? ublk::result{std::errc::no_space_on_device} : ublk::ok;
    };
}

/// Requests, their errors and bytes, by operation.
struct tally {
    std::uint64_t requests = 0;
    std::uint64_t errors = 0;
    std::uint64_t bytes = 0;
};
using tallies = std::array<tally, ublk::operation_names.size()>;

void note(tallies& all, op op_code, std::uint64_t length, int code) {
    tally& mine = all[static_cast<std::size_t>(ublk::kind_of(op_code))];
    ++mine.requests;
    mine.errors += code != 0 ? 1 : 0;
    mine.bytes += code != 0 ? 0 : length;
}

/// Sizes that go into one request each, from both CPUs.
tallies use(client& file, bool other_operations) {
    tallies all;
    for (unsigned i = 0; i < 40; ++i) {
        const int cpu = static_cast<int>(i % 2);
        const std::uint64_t length = 512u << i % 9;
        const std::uint64_t offset = (i % 8) * mib;
        bytes data(length);
        note(all, op::write, length, file.write(offset, data, cpu));
        note(all, op::read, length, file.read(offset, data, cpu));
        if (other_operations && i % 4 == 0) {
            note(all, op::flush, 0, file.fsync());
            note(all, op::discard, 64 * kib, file.discard(offset, 64 * kib));
        }
        if (other_operations && i % 8 == 0) {
            note(all, op::write_zeroes, 32 * kib, file.zero_out(0, 32 * kib));
        }
    }
    return all;
}

void expect_counted(const ublk::queue_stats& before, const ublk::queue_stats& after,
                    const tallies& seen) {
    for (std::size_t k = 0; k < seen.size(); ++k) {
        const auto name = ublk::operation_names[k];
        EXPECT_EQ(after.kinds[k].requests() - before.kinds[k].requests(), seen[k].requests) << name;
        EXPECT_EQ(after.kinds[k].errors - before.kinds[k].errors, seen[k].errors) << name;
        EXPECT_EQ(after.kinds[k].bytes - before.kinds[k].bytes, seen[k].bytes) << name;
    }
}

class statistics : public on_a_clean_system {
protected:
    template <class QueuePolicy, class BatchPolicy, class Backend>
    static void count(Backend backend, bool other_operations, const ublk::options& requested) {
        const auto d = start_disk<ublk::with<QueuePolicy, ublk::stats>, BatchPolicy>(
            std::move(backend), requested);
        await_partition_scan(d->path());
        tallies seen;
        ublk::queue_stats before;
        {
            client file{d->path()};
            ASSERT_EQ(file.open_error(), 0);
            before = d->stats().sum();
            seen = use(file, other_operations);
            ASSERT_EQ(seen[0].requests, 40u);
            // What a client has its answer to is counted.
            expect_counted(before, d->stats().sum(), seen);
        }
        bounded("stop()", [mine = d.shared()] { mine->stop(); });
        const ublk::stats_snapshot after = d->stats();
        expect_counted(before, after.sum(), seen);
        EXPECT_EQ(after.queues.size(), 2u);
        EXPECT_EQ(after.threads.size(), d->info().threads);
        EXPECT_EQ(after.turns().requests, after.sum().sum().requests());
        EXPECT_EQ(after.sum().in_flight, 0u);
        for (const ublk::queue_stats& each : after.queues) {
            EXPECT_GE(each.of(op::write).requests(), 20u) << "each CPU has its queue";
            EXPECT_LE(each.most_in_flight, requested.depth);
            EXPECT_GT(each.of(op::read).latency.quantile(0.5), 0ns);
            EXPECT_LT(each.of(op::read).latency.quantile(1), patience);
        }
    }
};

TEST_F(statistics, of_one_thread_a_queue) {
    count<ublk::per_cpu, ublk::per_wakeup>(complete_ram{8 * mib, half_broken()}, true, small());
}

TEST_F(statistics, of_one_thread_for_all_queues) {
    count<ublk::shared, ublk::each>(complete_ram{8 * mib, half_broken()}, true, small());
}

TEST_F(statistics, of_queues_that_threads_share) {
    ublk::options requested = small();
    requested.threads = 3;
    count<ublk::interleaved, ublk::per_wakeup>(complete_ram{8 * mib, half_broken()}, true,
                                               requested);
}

TEST_F(statistics, of_the_drivers_batches) {
    count<ublk::per_cpu, ublk::batch_io>(complete_ram{8 * mib, half_broken()}, true, small());
}

// Writes come in two steps: first they ask where their bytes belong.
TEST_F(statistics, of_lent_memory) {
    ublk::options requested = small();
    requested.path = ublk::data_path::get_data;
    count<ublk::per_cpu, ublk::per_wakeup>(ublk::backends::memory{8 * mib}, false, requested);
}

TEST_F(statistics, show_a_request_that_the_backend_still_has) {
    const gate door;
    const auto d =
        start_disk<ublk::with<ublk::per_cpu, ublk::stats>>(ram{4 * mib, door.as_hook()}, small());
    await_partition_scan(d->path());
    client file{d->path()};
    ASSERT_EQ(file.open_error(), 0);
    ASSERT_EQ(d->stats().sum().in_flight, 0u);
    const ublk::histogram before = d->stats().sum().of(op::read).latency;
    door.shut();
    const auto began = std::chrono::steady_clock::now();
    meanwhile reader{"a read", [path = d->path()] {
                         client mine{path};
                         bytes data(4096);
                         EXPECT_EQ(mine.read(0, data), 0);
                     }};
    EXPECT_TRUE(eventually([&] { return d->stats().sum().in_flight == 1; }));
    std::this_thread::sleep_for(50ms);
    EXPECT_EQ(d->stats().sum().in_flight, 1u);
    door.open();
    reader.end();
    EXPECT_TRUE(eventually([&] { return d->stats().sum().in_flight == 0; }));
    const ublk::histogram after = d->stats().sum().of(op::read).latency;
    ASSERT_EQ(after.count(), before.count() + 1);
    const std::chrono::nanoseconds took{after.nanoseconds - before.nanoseconds};
    EXPECT_GE(took, 50ms);
    EXPECT_LE(took, std::chrono::steady_clock::now() - began) << "it began after that";
    EXPECT_GE(after.quantile(1), took);
    const std::string text = ublk::to_prometheus(d->stats(), d->info());
    EXPECT_NE(text.find("\nublk_requests_in_flight{device=\"ublkb" + std::to_string(d->id()) +
                        "\",queue=\"1\"} 0\n"),
              std::string::npos)
        << text;
}

}  // namespace
}  // namespace stats_test
}  // namespace ublk_test
