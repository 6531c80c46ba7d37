// SPDX-License-Identifier: MIT

// What the filters among the examples promise.

#include "../../examples/checksum.hpp"
#include "../../examples/throttle.hpp"

#include <ublk/backends/file.hpp>
#include <ublk/backends/memory.hpp>
#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/queue_policies.hpp>
#include <ublk/sim/cached_disk.hpp>
#include <ublk/sim/laws/worlds.hpp>
#include <ublk/sim/medium.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace filters_test {
namespace {

using namespace ublk;
using namespace std::chrono_literals;
using backends::memory;

struct checked : checksum<memory> {
    checked() : checksum{memory{64u << 10}} {}
};
/// Reads give what is there at once, though late; writes take effect late.
class delayed : public memory {
public:
    using memory::memory;
    task read(io& with, const request& r, std::span<std::byte> out) {
        (void)memory::read(r, out);
        const int slept = co_await with.sleep(20ms);
        co_return slept < 0 ? result::failure(slept) : ok;
    }
    task write(io& with, const request& r, std::span<const std::byte> in) {
        const int slept = co_await with.sleep(10ms);
        co_return slept < 0 ? result::failure(slept) : memory::write(r, in);
    }
};
struct checked_late : checksum<delayed> {
    checked_late() : checksum{delayed{64u << 10}} {}
};
template <std::uint64_t Bytes, std::uint64_t Requests>
struct limited : throttle<memory> {
    limited() : throttle{memory{64u << 10}, {.bytes = Bytes, .requests = Requests}} {}
};
using throttled = throttle<memory>;

/// The README's.
template <class B>
class slow : public ublk::backends::filter<slow<B>, B> {
public:
    using ublk::backends::filter<slow<B>, B>::filter;

    template <class Op, class... P>
    ublk::task later(ublk::io& io, const ublk::request& r, P... payload) {
        if constexpr (std::is_same_v<Op, ublk::operations::flush>) {
            (void)co_await io.sleep(std::chrono::milliseconds{5});
        }
        ublk::task below = this->template pass<Op>(io, r, payload...);
        const ublk::result answer = co_await std::move(below);
        co_return answer;
    }
};
struct patient : slow<sim::cached_disk> {
    patient() : slow{sim::cached_disk{std::make_shared<sim::medium>(64u << 10, sector_size)}} {}
};
static_assert(detail::has_flush<slow<backends::file>> && !detail::has_flush<slow<memory>>);

static_assert(offers<throttle<backends::file>>(data_path::zero_copy), "as the file");
static_assert(!offers<checked>(data_path::user_copy) && offers<checked>(data_path::copy));
static_assert(detail::has_flush<throttle<backends::file>> && !detail::has_flush<throttled>);
static_assert(detail::has_discard<checked> && detail::has_write_zeroes<checked>);

template <class Backend>
using rig = sim::rig<sim::composition<Backend, per_cpu, per_wakeup>>;

TEST(filters, attributes_of_the_disk_below_are_shown) {
    const memory below{64u << 10, {.logical_block_size = 4096, .read_only = true}};
    const disk_attributes shown = attributes_of(throttled{
        memory{64u << 10, {.logical_block_size = 4096, .read_only = true}}, throttle_limits{}});
    EXPECT_EQ(shown.size, 64u << 10);
    EXPECT_EQ(shown.logical_block_size, 4096u);
    EXPECT_EQ(shown.max_discard_size, attributes_of(below).max_discard_size);
    EXPECT_TRUE(shown.read_only);
}

TEST(filters, one_of_a_few_lines_serves) {
    sim::in_many_worlds([](sim::conditions given) {
        rig<patient> r{given};
        r.start();
        r.in.settle();
        {
            sim::client disk{r.in, r.server->id()};
            std::vector<std::byte> data(4096, std::byte{3});
            std::vector<std::byte> back(4096);
            EXPECT_EQ(disk.write(8192, data), 0);
            EXPECT_EQ(disk.read(8192, back), 0);
            EXPECT_EQ(back, data);
            const auto began = r.in.on().tasks.now();
            EXPECT_EQ(disk.flush(), 0);
            EXPECT_GE(r.in.on().tasks.now() - began, 5ms);
        }
        r.server->stop();
    });
}

TEST(filters, a_checksum_finds_what_was_not_written) {
    sim::in_many_worlds([](sim::conditions given) {
        rig<checked> r{given};
        r.start();
        {
            sim::client disk{r.in, r.server->id()};
            std::vector<std::byte> data(8192, std::byte{7});
            EXPECT_EQ(disk.write(4096, data), 0);
            EXPECT_EQ(disk.read(4096, data), 0);
            const std::vector<std::byte> bad(512, std::byte{8});
            const request rot{uapi::io_desc{.op_flags = static_cast<std::uint32_t>(uapi::op::write),
                                            .nr_sectors = 1,
                                            .start_sector = 10,
                                            .addr = 0},
                              queue_id{0}, tag{0}};
            EXPECT_TRUE(r.store->below().write(rot, bad).ok());
            EXPECT_EQ(disk.read(4096, data), EIO);
            EXPECT_EQ(disk.read(8192, std::span{data}.first(4096)), 0) << "the other half is right";
            EXPECT_EQ(disk.write(4096, data), 0);
            EXPECT_EQ(disk.read(4096, data), 0) << "written anew";
            EXPECT_EQ(disk.discard(4096, 4096), 0);
            EXPECT_TRUE(r.store->below().write(rot, bad).ok());
            EXPECT_EQ(disk.read(4096, data), 0) << "what was discarded may be anything";
        }
        r.server->stop();
    });
}

TEST(filters, a_checksum_takes_what_was_there_before_a_write_that_ends_during_the_read) {
    sim::in_many_worlds([](sim::conditions given) {
        rig<checked_late> r{given};
        r.start();
        r.in.settle();
        {
            sim::client disk{r.in, r.server->id()};
            const std::vector<std::byte> before(4096, std::byte{1});
            std::vector<std::byte> data(4096, std::byte{2});
            std::vector<std::byte> back(4096);
            EXPECT_EQ(disk.write(4096, before), 0);
            sim::bio write{.op = uapi::op::write, .sector = 8, .sectors = 8, .data = data.data()};
            disk.submit(write);
            r.in.on().tasks.sleep(5ms);
            EXPECT_EQ(disk.read(4096, back), 0);
            EXPECT_TRUE(write.done);
            EXPECT_EQ(back, before);
            EXPECT_EQ(disk.wait(write), 0);
            EXPECT_EQ(disk.read(4096, back), 0);
            EXPECT_EQ(back, data);
        }
        r.server->stop();
    });
}

TEST(filters, a_throttle_keeps_its_rate) {
    sim::in_many_worlds([](sim::conditions given) {
        rig<limited<1u << 20, 0>> r{given};
        r.start();
        r.in.settle();
        {
            sim::client disk{r.in, r.server->id()};
            std::vector<std::byte> data(8192);
            const auto began = r.in.on().tasks.now();
            constexpr int times = 16;
            for (int i = 0; i < times; ++i) {
                EXPECT_EQ(i % 2 == 0 ? disk.read(0, data) : disk.write(0, data), 0);
            }
            // 128 KiB at 1 MiB/s are 125 ms; the first of the requests need not wait.
            const auto took = r.in.on().tasks.now() - began;
            EXPECT_GE(took, 117ms);
            EXPECT_LE(took, 135ms);
        }
        r.server->stop();
    });
}

TEST(filters, a_throttle_counts_requests) {
    sim::in_many_worlds([](sim::conditions given) {
        rig<limited<0, 100>> r{given};
        r.start();
        r.in.settle();
        {
            sim::client disk{r.in, r.server->id()};
            std::vector<std::byte> data(512);
            EXPECT_EQ(disk.read(0, data), 0);
            const auto began = r.in.on().tasks.now();
            for (int i = 0; i < 10; ++i) {
                EXPECT_EQ(disk.discard(0, 4096), 0);
            }
            EXPECT_GE(r.in.on().tasks.now() - began, 95ms);
            EXPECT_LE(r.in.on().tasks.now() - began, 115ms);
        }
        r.server->stop();
    });
}

}  // namespace
}  // namespace filters_test
