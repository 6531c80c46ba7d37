// SPDX-License-Identifier: MIT
#include "fake_kernel.hpp"
#include "scripted_port.hpp"

#include <ublk/backends/memory.hpp>
#include <ublk/data/data_paths.hpp>
#include <ublk/data/queue_loop.hpp>
#include <ublk/policy/batch_policy.hpp>
#include <ublk/stats.hpp>
#include <ublk/ublk.hpp>

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace stats_test {
namespace {

using namespace std::chrono_literals;
using ublk::no_stats;
using ublk::operation_kind;
using ublk::request;
using ublk::result;
using ublk::stats;
using ublk_test::fake_kernel;
using ublk_test::scripted_port;
using ublk_test::scripted_queues;
namespace paths = ublk::detail::paths;
namespace uapi = ublk::uapi;

constexpr std::uint32_t op(uapi::op op_code) {
    return static_cast<std::uint32_t>(op_code);
}

// ---------------------------------------------------------------- what it costs not to measure

struct plain {
    std::uint64_t size() const noexcept { return 1u << 20; }
    result read(const request&, std::span<std::byte>) noexcept { return ublk::ok; }
    result write(const request&, std::span<const std::byte>) noexcept { return ublk::ok; }
};
template <class Measuring>
using plain_server = ublk::detail::queue_loop<plain, ublk::per_wakeup, scripted_port, true,
                                              paths::copy, ublk::waits::block, Measuring>;

static_assert(std::is_empty_v<no_stats::meter>);
static_assert(
    std::is_same_v<plain_server<no_stats>,
                   ublk::detail::queue_loop<plain, ublk::per_wakeup, scripted_port, true>>);
static_assert(sizeof(plain_server<no_stats>) == sizeof(plain_server<stats>) - sizeof(stats::meter));

static_assert(
    std::is_same_v<typename ublk::queue_policy_traits<ublk::per_cpu>::measuring, no_stats>);
static_assert(std::is_same_v<
              typename ublk::queue_policy_traits<ublk::with<ublk::per_cpu>>::measuring, no_stats>);
static_assert(
    std::is_same_v<typename ublk::queue_policy_traits<ublk::with<ublk::shared, stats>>::measuring,
                   stats>);
static_assert(std::is_same_v<typename ublk::queue_policy_traits<
                                 ublk::with<ublk::with<ublk::shared, stats>, no_stats>>::measuring,
                             no_stats>);

struct by_hand : ublk::per_cpu {
    using measuring = stats;
};
static_assert(std::is_same_v<typename ublk::queue_policy_traits<by_hand>::measuring, stats>);
static_assert(!ublk::measuring_policy<ublk::waits::block>);

TEST(no_stats, has_nothing_to_write_to) {
    EXPECT_EQ(no_stats::make_record({{}}), nullptr);
}

TEST(stats, threads_write_to_cache_lines_of_their_own) {
    using record = ublk::detail::stats_record;
    static_assert(alignof(record) >= 64 && alignof(record::queue_counts) >= 64);
    static_assert(sizeof(record::queue_counts) <= 16u << 10);
    const record one{{{}, {}}};
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(one.queues.data()) % alignof(record::queue_counts),
              0u);
}

// ---------------------------------------------------------------- a meter by hand

struct hand_clock {
    std::chrono::steady_clock::time_point time{};
    [[nodiscard]] std::chrono::steady_clock::time_point now() const noexcept { return time; }
};

[[nodiscard]] request asking(uapi::op op_code, std::uint32_t sectors, unsigned tag = 0) {
    return {uapi::io_desc{op(op_code), sectors, 0, 0}, ublk::queue_id{0},
            ublk::tag{static_cast<std::uint16_t>(tag)}};
}

[[nodiscard]] ublk::stats_snapshot read(const std::shared_ptr<void>& record) {
    return stats::read(std::array{record});
}

TEST(stats, a_new_record_is_of_idle_queues) {
    const ublk::stats_snapshot seen = read(stats::make_record({{}, {ublk::queue_id{2}}}));
    ASSERT_EQ(seen.queues.size(), 3u);
    ASSERT_EQ(seen.threads.size(), 1u);
    EXPECT_EQ(seen.sum().sum().requests(), 0u);
    EXPECT_EQ(seen.turns().turns(), 0u);
}

TEST(stats, the_wait_for_those_before_in_a_turn_is_latency) {
    const auto record = stats::make_record({{}});
    stats::meter meter{record.get(), 4};
    hand_clock clock;
    const request r = asking(uapi::op::read, 8);
    clock.time += 1s;
    meter.turn_begins(clock);
    for (std::uint16_t tag = 0; tag < 3; ++tag) {
        meter.took(0, tag);
        EXPECT_EQ(read(record).queues[0].in_flight, tag + 1u);
        clock.time += 100us;
        meter.answered(clock, 0, tag, r, ublk::ok);
    }
    meter.turn_ends();
    const ublk::stats_snapshot seen = read(record);
    const ublk::operation_stats reads = seen.queues[0].of(uapi::op::read);
    EXPECT_EQ(reads.requests(), 3u);
    EXPECT_EQ(reads.bytes, 3u * 4096);
    EXPECT_EQ(reads.latency.nanoseconds, 600'000u);
    for (const std::uint64_t us : {100u, 200u, 300u}) {
        EXPECT_EQ(reads.latency.counts[ublk::histogram::bucket_of(us * 1000)], 1u) << us;
    }
    EXPECT_EQ(seen.queues[0].in_flight, 0u);
    EXPECT_EQ(seen.queues[0].most_in_flight, 3u);
    EXPECT_EQ(seen.threads[0].most, 3u);
}

TEST(stats, requests_in_flight_are_counted_by_queue_and_over_turns) {
    const auto record = stats::make_record({{}, {ublk::queue_id{1}}});
    hand_clock clock;
    {
        stats::meter meter{record.get(), 8};
        const request r = asking(uapi::op::write, 1);
        meter.turn_begins(clock);
        meter.took(0, 0);
        meter.took(1, 4);
        meter.took(1, 5);
        meter.turn_ends();
        meter.turn_begins(clock);
        meter.answered(clock, 1, 4, r, ublk::ok);
        meter.took(1, 6);
        meter.turn_ends();
        const ublk::stats_snapshot seen = read(record);
        EXPECT_EQ(seen.queues[0].in_flight, 1u);
        EXPECT_EQ(seen.queues[1].in_flight, 2u);
        EXPECT_EQ(seen.queues[1].most_in_flight, 3u) << "an answer leaves at the end of its turn";
        EXPECT_EQ(seen.sum().in_flight, 3u);
        EXPECT_EQ(seen.threads[0].requests, 4u);
        EXPECT_EQ(seen.threads[0].most, 3u);
        EXPECT_EQ(seen.threads[0].by_size[ublk::turn_stats::size_of(3)], 1u);
        EXPECT_EQ(seen.threads[0].by_size[ublk::turn_stats::size_of(1)], 1u);
        EXPECT_EQ(seen.threads[0].turns(), 2u);
    }
    EXPECT_EQ(read(record).sum().in_flight, 0u) << "what is left when a thread ends is lost";
    EXPECT_EQ(read(record).queues[1].most_in_flight, 3u);
}

TEST(stats, several_threads_of_one_queue_add_up) {
    const std::array records{stats::make_record({{.first = 0, .step = 2}}),
                             stats::make_record({{.first = 1, .step = 2}})};
    hand_clock clock;
    for (std::uint16_t i = 0; i < 2; ++i) {
        stats::meter meter{records[i].get(), 4};
        meter.turn_begins(clock);
        meter.took(0, i);
        meter.answered(clock, 0, i, asking(uapi::op::discard, 2048, i),
                       i == 0 ? ublk::ok : std::errc::io_error);
        meter.turn_ends();
    }
    const ublk::stats_snapshot seen = stats::read(records);
    ASSERT_EQ(seen.queues.size(), 1u);
    EXPECT_EQ(seen.threads.size(), 2u);
    EXPECT_EQ(seen.queues[0].of(operation_kind::discard).requests(), 2u);
    EXPECT_EQ(seen.queues[0].of(operation_kind::discard).errors, 1u);
    EXPECT_EQ(seen.queues[0].of(operation_kind::discard).bytes, 1u << 20);
    EXPECT_EQ(seen.turns().turns(), 2u);
}

TEST(stats, turns_are_sized_by_powers_of_two) {
    using ublk::turn_stats;
    EXPECT_EQ(turn_stats::size_of(0), 0u);
    std::size_t size = 0;
    for (std::uint64_t found = 1; found <= 1u << 20; ++found) {
        const std::size_t now = turn_stats::size_of(found);
        ASSERT_GE(now, size);
        size = now;
        ASSERT_TRUE(now == turn_stats::sizes - 1 || found <= turn_stats::last_of(now));
        ASSERT_GT(found, turn_stats::last_of(now - 1));
    }
    EXPECT_EQ(size, turn_stats::sizes - 1);
}

TEST(stats, operations_without_a_name_are_others) {
    EXPECT_EQ(ublk::kind_of(uapi::op::read), operation_kind::read);
    EXPECT_EQ(ublk::kind_of(uapi::op::write), operation_kind::write);
    EXPECT_EQ(ublk::kind_of(uapi::op::flush), operation_kind::flush);
    EXPECT_EQ(ublk::kind_of(uapi::op::zone_append), operation_kind::other);
    EXPECT_EQ(ublk::kind_of(static_cast<uapi::op>(0xff)), operation_kind::other);
}

// For the thread sanitizer, and each number only ever grows.
TEST(stats, may_be_read_while_a_thread_counts) {
    const auto record = stats::make_record({{}});
    std::atomic<bool> enough{false};
    std::uint64_t turns = 0;
    std::thread writer{[&] {
        stats::meter meter{record.get(), 2};
        hand_clock clock;
        for (; !enough; ++turns) {
            meter.turn_begins(clock);
            meter.took(0, 0);
            meter.took(0, 1);
            clock.time += 5us;
            meter.answered(clock, 0, 0, asking(uapi::op::read, 1), ublk::ok);
            meter.answered(clock, 0, 1, asking(uapi::op::write, 1), std::errc::io_error);
            meter.turn_ends();
        }
    }};
    ublk::stats_snapshot before = read(record);
    for (int looks = 0; looks < 300 || before.turns().turns() < 1000; ++looks) {
        const ublk::stats_snapshot now = read(record);
        for (const auto op_code : {operation_kind::read, operation_kind::write}) {
            EXPECT_GE(now.queues[0].of(op_code).requests(),
                      before.queues[0].of(op_code).requests());
            EXPECT_GE(now.queues[0].of(op_code).bytes, before.queues[0].of(op_code).bytes);
            EXPECT_GE(now.queues[0].of(op_code).errors, before.queues[0].of(op_code).errors);
        }
        EXPECT_LE(now.queues[0].in_flight, 2u);
        EXPECT_GE(now.turns().turns(), before.turns().turns());
        before = now;
    }
    enough = true;
    writer.join();
    const ublk::queue_stats all = read(record).sum();
    EXPECT_EQ(all.of(uapi::op::read).requests(), turns);
    EXPECT_EQ(all.of(uapi::op::read).bytes, turns * 512);
    EXPECT_EQ(all.of(uapi::op::write).errors, turns);
    EXPECT_EQ(all.of(uapi::op::write).bytes, 0u);
}

// ---------------------------------------------------------------- a server on a scripted port

// A server whose requests and clock a test plays.
template <class Backend, class Path = paths::copy, bool SingleQueue = false>
struct bench {
    explicit bench(unsigned count = 1, unsigned queue_depth = 4)
        : depth{queue_depth}, shelf{count, queue_depth, ublk::has_tag_buffers(Path::id)},
          record{stats::make_record(shares(count))} {
        EXPECT_EQ(server.fetch_all(), 0);
    }
    ~bench() {
        for (const std::string& each : port.complaints) {
            ADD_FAILURE() << each;
        }
    }

    static ublk::thread_shares shares(unsigned count) {
        ublk::thread_shares all;
        for (std::uint16_t q = 0; q < count; ++q) {
            all.push_back({ublk::queue_id{q}});
        }
        return all;
    }

    void request(unsigned queue, unsigned tag, uapi::op op_code, std::uint32_t sectors = 8,
                 int event = uapi::io_res_ok) {
        shelf.describe(queue, tag, op(op_code), 0, sectors);
        port.deliver(queue, tag, event);
    }

    // Each move when the server has nothing else to do; a millisecond passes before it.
    int run(std::vector<std::function<void()>> moves) {
        std::size_t next = 0;
        port.step = [&, this] {
            port.time += 1ms;
            if (next < moves.size()) {
                moves[next++]();
                return true;
            }
            for (unsigned q = 0; next == moves.size() && q < shelf.queues.size(); ++q) {
                for (unsigned t = 0; t < depth; ++t) {
                    if (port.at(q, t).with_driver) {
                        port.deliver(q, t, uapi::io_res_abort);
                    }
                }
            }
            return next++ == moves.size();
        };
        return server.run();
    }

    [[nodiscard]] ublk::stats_snapshot seen() const { return read(record); }

    unsigned depth;
    scripted_port port{};
    scripted_queues shelf;
    std::shared_ptr<void> record;
    Backend backend{};
    std::atomic<unsigned> flags{ublk::detail::loop_flags::serve};
    ublk::detail::queue_loop<Backend, ublk::per_wakeup, scripted_port, SingleQueue, Path,
                             ublk::waits::block, stats>
        server{backend,
               port,
               shelf.queues,
               flags,
               ublk::detail::wakeup_call{&scripted_port::wakeup, &port},
               {},
               record.get()};
};

// Fails every second request, in three ways.
struct half_broken {
    unsigned requested = 0;
    std::uint64_t size() const noexcept { return 1ull << 40; }
    result read(const request&, std::span<std::byte>) {
        if (++requested % 2 == 0) {
            throw std::runtime_error{"no"};
        }
        return ublk::ok;
    }
    result write(const request&, std::span<const std::byte>) noexcept { return answer(); }
    result flush(const request&) noexcept { return answer(); }
    result discard(const request&) noexcept { return answer(); }
    result write_zeroes(const request&) noexcept { return answer(); }
    [[nodiscard]] result answer() noexcept {
        return ++requested % 2 == 0 ? result{std::errc::no_space_on_device} : ublk::ok;
    }
};

void expect(const ublk::operation_stats& is, std::uint64_t requests, std::uint64_t errors,
            std::uint64_t bytes) {
    EXPECT_EQ(is.requests(), requests);
    EXPECT_EQ(is.errors, errors);
    EXPECT_EQ(is.bytes, bytes);
}

template <bool SingleQueue>
void count_each_operation() {
    bench<half_broken, paths::copy, SingleQueue> b{1, 6};
    EXPECT_EQ(b.run({[&] {
                         b.request(0, 0, uapi::op::read);
                         b.request(0, 1, uapi::op::read);
                         b.request(0, 2, uapi::op::write, 16);
                         b.request(0, 3, uapi::op::write, 16);
                         b.request(0, 4, uapi::op::flush, 0);
                     },
                     [&] {
                         b.request(0, 0, uapi::op::flush, 0);
                         b.request(0, 1, uapi::op::discard, 1u << 20);
                         b.request(0, 2, uapi::op::discard, 1u << 20);
                         b.request(0, 3, uapi::op::write_zeroes, 1);
                         b.request(0, 4, uapi::op::zone_reset, 1);
                     },
                     [&] { b.request(0, 5, uapi::op::read, 1u << 20); }}),  // beyond its buffer
              0);
    const ublk::stats_snapshot seen = b.seen();
    ASSERT_EQ(seen.queues.size(), 1u);
    const ublk::queue_stats& q = seen.queues[0];
    expect(q.of(uapi::op::read), 3, 2, 4096);
    expect(q.of(uapi::op::write), 2, 1, 8192);
    expect(q.of(uapi::op::flush), 2, 1, 0);
    expect(q.of(uapi::op::discard), 2, 1, std::uint64_t{1} << 29);
    expect(q.of(uapi::op::write_zeroes), 1, 0, 512);
    expect(q.of(operation_kind::other), 1, 1, 0);
    expect(q.sum(), 11, 6, 4096 + 8192 + (std::uint64_t{1} << 29) + 512);
    EXPECT_EQ(q.in_flight, 0u);
    EXPECT_EQ(q.most_in_flight, 5u);
    const ublk::turn_stats& turns = seen.threads[0];
    EXPECT_EQ(turns.requests, 11u);
    EXPECT_EQ(turns.most, 5u);
    EXPECT_EQ(turns.by_size[ublk::turn_stats::size_of(5)], 2u);
    EXPECT_EQ(turns.by_size[ublk::turn_stats::size_of(1)], 1u);
    EXPECT_EQ(turns.by_size[0], 2u) << "after the fetches, and with the aborts";
}

TEST(server_stats, count_each_operation_with_its_errors_and_bytes) {
    count_each_operation<false>();
    count_each_operation<true>();
}

TEST(server_stats, requests_refused_after_a_stop_are_errors) {
    bench<half_broken> b;
    b.flags = ublk::detail::loop_flags::refuse;
    EXPECT_EQ(b.run({[&] {
        b.request(0, 0, uapi::op::read);
        b.request(0, 1, uapi::op::flush, 0);
    }}),
              0);
    expect(b.seen().queues[0].of(uapi::op::read), 1, 1, 0);
    expect(b.seen().queues[0].of(uapi::op::flush), 1, 1, 0);
    EXPECT_EQ(b.backend.requested, 0u);
}

TEST(server_stats, are_of_the_queue_that_brought_the_request) {
    bench<half_broken> b{3, 4};
    EXPECT_EQ(b.run({[&] {
        b.request(0, 3, uapi::op::flush, 0);
        b.request(2, 0, uapi::op::write);
        b.request(2, 3, uapi::op::discard);
    }}),
              0);
    const ublk::stats_snapshot seen = b.seen();
    ASSERT_EQ(seen.queues.size(), 3u);
    EXPECT_EQ(seen.queues[0].sum().requests(), 1u);
    EXPECT_EQ(seen.queues[1].sum().requests(), 0u);
    EXPECT_EQ(seen.queues[2].sum().requests(), 2u);
    EXPECT_EQ(seen.queues[2].most_in_flight, 2u);
    EXPECT_EQ(seen.sum().of(uapi::op::discard).errors, 0u);
}

// Its reads wait for an operation, or throw after it.
struct later {
    std::uint64_t size() const noexcept { return 1ull << 40; }
    [[gnu::noinline]] ublk::task read(ublk::io& with, const request& r, std::span<std::byte>) {
        const int outcome = co_await with.read_some(3, {});
        if (r.tag().value() == 3) {
            throw std::runtime_error{"no"};
        }
        co_return outcome < 0 ? result::failure(outcome) : ublk::ok;
    }
    result write(const request&, std::span<const std::byte>) noexcept { return ublk::ok; }
};

TEST(server_stats, an_asynchronous_request_lasts_until_its_task_ends) {
    bench<later> b;
    std::uint64_t in_flight = 0;
    EXPECT_EQ(b.run({[&] {
                         b.request(0, 0, uapi::op::read);
                         b.request(0, 1, uapi::op::read);
                         b.request(0, 3, uapi::op::read);
                     },
                     [&] { b.request(0, 2, uapi::op::write, 4); },
                     [&] {
                         in_flight = b.seen().queues[0].in_flight;
                         const auto requested = b.port.in_flight;
                         b.port.answer(*requested.at(0), 4096);
                         b.port.answer(*requested.at(1), -ENOLINK);
                         b.port.answer(*requested.at(2), 4096);
                     }}),
              0);
    EXPECT_EQ(in_flight, 3u);
    const ublk::queue_stats q = b.seen().queues[0];
    expect(q.of(uapi::op::read), 3, 2, 4096);
    expect(q.of(uapi::op::write), 1, 0, 2048);
    EXPECT_EQ(q.of(uapi::op::read).latency.nanoseconds, 6'000'000u);
    EXPECT_EQ(q.of(uapi::op::read).latency.counts[ublk::histogram::bucket_of(2'000'000)], 3u);
    EXPECT_EQ(q.of(uapi::op::write).latency.nanoseconds, 0u);
    EXPECT_EQ(q.most_in_flight, 4u);
    EXPECT_EQ(q.in_flight, 0u);
}

TEST(server_stats, a_task_that_is_cancelled_at_the_end_is_an_error) {
    bench<later> b;
    EXPECT_EQ(b.run({[&] { b.request(0, 0, uapi::op::read); },
                     [&] {
                         b.flags |= ublk::detail::loop_flags::leave;
                         scripted_port::wakeup(&b.port);
                     }}),
              0);
    expect(b.seen().queues[0].of(uapi::op::read), 1, 1, 0);
}

// Writes are lent memory, or none.
struct gets_data {
    std::array<std::byte, 8192> memory{};
    bool gives = true;
    std::uint64_t size() const noexcept { return 1ull << 40; }
    std::span<std::byte> memory_for(const request& r) noexcept {
        return {memory.data(), gives ? static_cast<std::size_t>(r.length()) : 0};
    }
};

TEST(server_stats, a_write_that_asks_for_its_data_counts_once_from_then_on) {
    bench<gets_data, paths::get_data> b;
    EXPECT_EQ(b.run({[&] { b.request(0, 0, uapi::op::write, 8, uapi::io_res_need_get_data); },
                     [&] {
                         EXPECT_EQ(b.seen().queues[0].in_flight, 1u);
                         b.request(0, 1, uapi::op::read);
                     },
                     [&] { b.port.deliver(0, 0, uapi::io_res_ok); },
                     [&] {
                         b.backend.gives = false;
                         b.request(0, 2, uapi::op::write, 8, uapi::io_res_need_get_data);
                         b.request(0, 3, uapi::op::read);
                         b.request(0, 1, uapi::op::flush, 0);
                     }}),
              0);
    const ublk::queue_stats q = b.seen().queues[0];
    expect(q.of(uapi::op::write), 2, 1, 4096);
    expect(q.of(uapi::op::read), 2, 1, 4096);
    expect(q.of(uapi::op::flush), 1, 0, 0);
    EXPECT_EQ(q.of(uapi::op::write).latency.nanoseconds, 2'000'000u);
    EXPECT_EQ(q.most_in_flight, 3u);
    EXPECT_EQ(q.in_flight, 0u);
}

// ---------------------------------------------------------------- a device

using measured = ublk::device<ublk::backends::memory, ublk::with<ublk::per_cpu, stats>,
                              ublk::per_wakeup, fake_kernel>;

TEST(device_stats, are_empty_before_the_start_and_stay_after_the_stop) {
    const fake_kernel kernel;
    ublk::options requested;
    requested.queues = 2;
    requested.depth = 4;
    requested.max_io_bytes = 64u << 10;
    measured disk{ublk::backends::memory{1u << 20}, requested, kernel};
    EXPECT_TRUE(disk.stats().queues.empty());
    EXPECT_TRUE(disk.stats().threads.empty());
    for (const unsigned reads : {3u, 5u}) {
        disk.start();
        EXPECT_EQ(disk.stats().queues.size(), 2u);
        EXPECT_EQ(disk.stats().threads.size(), 2u);
        EXPECT_EQ(disk.stats().sum().sum().requests(), 0u) << "each start counts anew";
        for (unsigned i = 0; i < reads; ++i) {
            EXPECT_EQ(kernel.serve({1, 3, op(uapi::op::read), 0, 8}), 4096);
        }
        EXPECT_EQ(kernel.serve({0, 0, op(uapi::op::read), 0, 129}), -EIO) << "too long";
        disk.stop();
        const ublk::stats_snapshot left = disk.stats();
        ASSERT_EQ(left.queues.size(), 2u);
        expect(left.queues[1].of(uapi::op::read), reads, 0, reads * 4096);
        expect(left.queues[0].of(uapi::op::read), 1, 1, 0);
        EXPECT_EQ(left.threads[1].requests, reads);
        EXPECT_GT(left.queues[1].of(uapi::op::read).latency.quantile(0.5), 0ns);
        EXPECT_LT(left.queues[1].of(uapi::op::read).latency.quantile(1), 2min);
    }
    for (const std::string& each : kernel.driver->violations) {
        ADD_FAILURE() << each;
    }
}

}  // namespace
}  // namespace stats_test
