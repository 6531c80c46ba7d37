// SPDX-License-Identifier: MIT
#include <ublk/backends/fault.hpp>

#include "../support/crank.hpp"
#include "../support/disks.hpp"

#include <ublk/backends/memory.hpp>
#include <ublk/backends/null.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace fault_test {
namespace {

using namespace std::chrono_literals;
using ublk::attributes_of;
using ublk::disk_attributes;
using ublk::fault_kind;
using ublk::fault_plan;
using ublk::fault_rule;
using ublk::ok;
using ublk::registered_buffer;
using ublk::request;
using ublk::result;
using ublk::user_copy;
using ublk::backends::fault;
using ublk::backends::memory;
using ublk::detail::opcode;
using ublk::test::crank;
using ublk::test::disk_later;
using ublk::test::disk_now;
using ublk::test::make_request;
using ublk::test::memory_file;
using ublk::test::shuffled_ring;
namespace uapi = ublk::uapi;
using bytes = std::span<std::byte>;

constexpr std::uint64_t disk_size = 1u << 20;

// ---------------------------------------------------------------- which functions there are

using faulty_now = fault<disk_now>;
using faulty_later = fault<disk_later>;
static_assert(ublk::check_backend<faulty_now>() && ublk::check_backend<faulty_later>());
static_assert(ublk::check_backend<fault<fault<memory>>>());
static_assert((ublk::operations::read::mode<faulty_now, bytes> == ublk::answers::later) &&
              !(ublk::operations::read::mode<faulty_now, bytes> == ublk::answers::now));
static_assert((ublk::operations::read::mode<faulty_now, user_copy> == ublk::answers::later));
static_assert(!ublk::accepts<faulty_now, registered_buffer>);
static_assert(ublk::accepts<faulty_later, registered_buffer>);
static_assert(!ublk::detail::has_flush<faulty_now> &&
              (ublk::operations::flush::mode<faulty_later> == ublk::answers::later));
static_assert((ublk::operations::discard::mode<faulty_now> == ublk::answers::later));
static_assert(!ublk::detail::gets_data<fault<memory>>, "what goes past the backend cannot fail");
static_assert(faulty_later::operations_in_flight == 1);
static_assert(std::is_same_v<decltype(fault{memory{0}}), fault<memory>>);

struct reader {
    static constexpr bool read_only = true;
    std::uint64_t size() const noexcept { return disk_size; }
    result read(const request&, bytes) noexcept { return ok; }
};
static_assert(ublk::check_backend<fault<reader>>() && fault<reader>::read_only);
static_assert(!ublk::detail::has_write<fault<reader>, bytes>);

struct shaped : disk_now {
    shaped() : disk_now{disk_size} {}
    result flush(const request&) { return ok; }
    bool rotational() const { return true; }
    bool fua() const { return true; }
    std::uint32_t logical_block_size() const { return 1024; }
    std::uint32_t physical_block_size() const { return 2048; }
    std::uint32_t minimum_io_size() const { return 8192; }
    std::uint32_t optimal_io_size() const { return 16384; }
    std::uint32_t dma_alignment() const { return 4096; }
    std::uint32_t discard_granularity() const { return 32768; }
    std::uint32_t discard_alignment() const { return 1024; }
    std::uint64_t max_discard_size() const { return 1u << 16; }
    std::uint64_t max_write_zeroes_size() const { return 1u << 17; }
};

template <class B>
void expect_same_attributes(B inner) {
    const disk_attributes right = attributes_of(inner);
    const disk_attributes now = attributes_of(fault{std::move(inner)});
    EXPECT_EQ(now.size, right.size);
    EXPECT_EQ(now.logical_block_size, right.logical_block_size);
    EXPECT_EQ(now.physical_block_size, right.physical_block_size);
    EXPECT_EQ(now.minimum_io_size, right.minimum_io_size);
    EXPECT_EQ(now.optimal_io_size, right.optimal_io_size);
    EXPECT_EQ(now.read_only, right.read_only);
    EXPECT_EQ(now.rotational, right.rotational);
    EXPECT_EQ(now.volatile_cache, right.volatile_cache);
    EXPECT_EQ(now.fua, right.fua);
    EXPECT_EQ(now.discards, right.discards);
    EXPECT_EQ(now.dma_alignment, right.dma_alignment);
    EXPECT_EQ(now.discard_granularity, right.discard_granularity);
    EXPECT_EQ(now.discard_alignment, right.discard_alignment);
    EXPECT_EQ(now.max_discard_size, right.max_discard_size);
    EXPECT_EQ(now.max_write_zeroes_size, right.max_write_zeroes_size);
}

TEST(fault, shows_what_its_backend_shows) {
    expect_same_attributes(shaped{});
    expect_same_attributes(disk_now{disk_size});
    expect_same_attributes(disk_later{disk_size});
    expect_same_attributes(memory{disk_size, {4096, true}});
    expect_same_attributes(reader{});
}

// ---------------------------------------------------------------- rules

/// A disk full of ones with faults by rules, and writes of twos.
struct bench {
    explicit bench(std::vector<fault_rule> rules, std::uint64_t seed = 0)
        : disk{disk_now{disk_size}, {.seed = seed, .rules = std::move(rules)}} {
        std::fill(disk.below().content.begin(), disk.below().content.end(), std::byte{1});
        disk.below().logs = true;
    }

    int write(std::uint64_t offset, std::uint64_t size) {
        return ask(uapi::op::write, offset, size, std::byte{2});
    }
    int ask(uapi::op op_code, std::uint64_t offset, std::uint64_t size, std::byte fill = {}) {
        data.assign(size, fill);
        const int error =
            ring.serve(disk, make_request(op_code, offset, size), bytes{data}).error();
        EXPECT_EQ(ring.frames(), 0u);
        return error;
    }
    std::uint64_t written() const {
        const auto& content = disk_content();
        return static_cast<std::uint64_t>(std::count(content.begin(), content.end(), std::byte{2}));
    }
    const std::vector<std::byte>& disk_content() const {
        return const_cast<bench*>(this)->disk.below().content;
    }
    std::vector<request>& requested() { return disk.below().requested; }

    faulty_now disk;
    crank ring{faulty_now::task_bytes};
    std::vector<std::byte> data{};
};

TEST(fault, without_a_plan_changes_nothing) {
    bench b{{}};
    EXPECT_EQ(b.write(512, 4096), 0);
    EXPECT_EQ(b.written(), 4096u);
    EXPECT_EQ(b.ask(uapi::op::read, 512, 1024), 0);
    EXPECT_EQ(b.data, std::vector<std::byte>(1024, std::byte{2}));
    EXPECT_EQ(b.disk.injected(), 0u);
    EXPECT_TRUE(b.ring.seen.empty());
}

TEST(fault, fails_the_requests_of_a_rule) {
    bench b{{{.op = uapi::op::write,
              .offset = 8192,
              .length = 4096,
              .nth = 2,
              .count = 2,
              .error = ENOSPC}}};
    EXPECT_EQ(b.write(8192, 512), 0) << "the first";
    EXPECT_EQ(b.write(4096, 4096), 0) << "ends before it";
    EXPECT_EQ(b.write(12288, 4096), 0) << "begins behind it";
    EXPECT_EQ(b.ask(uapi::op::read, 8192, 512), 0) << "another operation";
    EXPECT_EQ(b.write(0, disk_size), ENOSPC) << "the second";
    EXPECT_EQ(b.write(12288 - 512, 512), ENOSPC) << "the third";
    EXPECT_EQ(b.write(8192, 512), 0) << "the fourth";
    EXPECT_EQ(b.disk.injected(), 2u);
    EXPECT_EQ(b.requested().size(), 5u) << "what fails does not reach the backend";
}

TEST(fault, of_a_rule_without_an_operation_hits_all) {
    bench b{{{.count = std::numeric_limits<std::uint64_t>::max()}}};
    for (const auto op :
         {uapi::op::read, uapi::op::write, uapi::op::discard, uapi::op::write_zeroes}) {
        EXPECT_EQ(b.ask(op, 0, 4096), EIO);
    }
    EXPECT_TRUE(b.requested().empty());
}

TEST(fault, of_a_place_does_not_ask_where_a_flush_is) {
    fault disk{disk_later{disk_size},
               {.rules = {{.op = uapi::op::flush, .offset = 4096, .length = 512}}}};
    crank ring{decltype(disk)::task_bytes};
    EXPECT_EQ(ring.serve(disk, make_request(uapi::op::flush, 0, 0), bytes{}).error(), EIO);
    EXPECT_EQ(ring.serve(disk, make_request(uapi::op::flush, 0, 0), bytes{}).error(), 0);
    EXPECT_EQ(ring.seen.size(), 1u);
}

TEST(fault, delays_by_the_sum_of_its_rules) {
    bench b{{{.kind = fault_kind::delay, .delay = 1500ms},
             {.kind = fault_kind::delay, .count = 2, .delay = 2s}}};
    std::vector<std::pair<std::int64_t, std::int64_t>> slept;
    b.ring.kernel = [&](const ublk::detail::submission& requested) {
        EXPECT_EQ(requested.code, opcode::timeout);
        EXPECT_EQ(b.requested().size(), slept.size()) << "the delay comes first";
        const auto* time = reinterpret_cast<const std::int64_t*>(requested.address);
        slept.emplace_back(time[0], time[1]);
        return -ETIME;
    };
    EXPECT_EQ(b.write(0, 512), 0);
    EXPECT_EQ(b.ask(uapi::op::read, 0, 512), 0);
    EXPECT_EQ(b.ask(uapi::op::read, 0, 512), 0);
    const std::vector<std::pair<std::int64_t, std::int64_t>> right{{3, 500'000'000}, {2, 0}};
    EXPECT_EQ(slept, right);
    EXPECT_EQ(b.written(), 512u);
}

TEST(fault, that_is_stopped_in_its_sleep_does_not_wake_the_backend) {
    bench b{{{.kind = fault_kind::delay, .delay = 1h}}};
    b.ring.kernel = [](const ublk::detail::submission&) { return -ECANCELED; };
    EXPECT_EQ(b.write(0, 512), ECANCELED);
    EXPECT_EQ(b.written(), 0u);
}

TEST(fault, tears_a_transfer_at_a_block) {
    bench b{{{.kind = fault_kind::torn, .cut = 1700}}};
    EXPECT_EQ(b.write(4096, 4096), EIO);
    EXPECT_EQ(b.written(), 1536u);
    EXPECT_EQ(b.disk_content()[4096], std::byte{2});
    EXPECT_EQ(b.disk_content()[4096 + 1536], std::byte{1});

    bench all{{{.kind = fault_kind::torn, .error = ENOSPC, .cut = 1u << 30}}};
    EXPECT_EQ(all.write(4096, 4096), ENOSPC);
    EXPECT_EQ(all.written(), 4096u) << "done, and said not to be";
}

TEST(fault, tears_what_is_read_and_discarded_too) {
    bench b{{{.kind = fault_kind::torn, .count = 9, .cut = 512}}};
    EXPECT_EQ(b.ask(uapi::op::read, 0, 1024), EIO);
    EXPECT_EQ(b.data[511], std::byte{1});
    EXPECT_EQ(b.data[512], std::byte{0});
    EXPECT_EQ(b.ask(uapi::op::discard, 0, 1024), EIO);
    EXPECT_EQ(b.disk_content()[511], std::byte{0});
    EXPECT_EQ(b.disk_content()[512], std::byte{1});
}

TEST(fault, draws_where_to_tear_from_the_seed) {
    std::vector<bool> seen(9);
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        bench b{{{.kind = fault_kind::torn}}, seed};
        EXPECT_EQ(b.write(0, 4096), EIO);
        ASSERT_EQ(b.written() % 512, 0u);
        seen[b.written() / 512] = true;
    }
    EXPECT_EQ(seen, (std::vector<bool>{1, 1, 1, 1, 1, 1, 1, 1, 0})) << "never all of it";
}

TEST(fault, cuts_at_blocks_where_memory_may_begin) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        fault disk{shaped{}, {.seed = seed, .rules = {{.kind = fault_kind::split}}}};
        disk.below().logs = true;
        crank ring{decltype(disk)::task_bytes};
        std::vector<std::byte> data(65536);
        EXPECT_TRUE(ring.serve(disk, make_request(uapi::op::write, 0, 65536), bytes{data}).ok());
        ASSERT_EQ(disk.below().requested.size(), 2u);
        EXPECT_EQ(disk.below().requested[1].offset() % 4096, 0u);
    }
}

TEST(fault, splits_a_transfer_in_two) {
    bench b{{{.kind = fault_kind::split, .count = 3, .cut = 1024}}};
    EXPECT_EQ(b.write(4096, 4096), 0);
    EXPECT_EQ(b.written(), 4096u);
    ASSERT_EQ(b.requested().size(), 2u);
    EXPECT_EQ(b.requested()[0].offset(), 4096u);
    EXPECT_EQ(b.requested()[0].length(), 1024u);
    EXPECT_EQ(b.requested()[1].offset(), 5120u);
    EXPECT_EQ(b.requested()[1].length(), 3072u);
    EXPECT_EQ(b.ask(uapi::op::read, 0, 512), 0) << "of one block, in one";
    EXPECT_EQ(b.ask(uapi::op::discard, 0, 2048), 0);
    EXPECT_EQ(b.requested().size(), 5u);
}

TEST(fault, hands_on_the_error_of_the_first_piece) {
    bench b{{{.kind = fault_kind::split, .cut = 512}}};
    b.disk.below().error = ENOSPC;
    EXPECT_EQ(b.write(0, 4096), ENOSPC);
    EXPECT_EQ(b.requested().size(), 1u);
}

TEST(fault, takes_the_first_rule_that_applies) {
    bench b{{{.kind = fault_kind::fail, .nth = 2, .error = ENOSPC},
             {.kind = fault_kind::fail, .count = 2, .error = EDOM}}};
    EXPECT_EQ(b.write(0, 512), EDOM);
    EXPECT_EQ(b.write(0, 512), ENOSPC);
    EXPECT_EQ(b.write(0, 512), 0);
}

TEST(fault, happens_only_while_armed) {
    bench b{{{.count = 2}}};
    b.disk.arm(false);
    EXPECT_EQ(b.write(0, 512), 0);
    b.disk.arm(true);
    EXPECT_EQ(b.write(0, 512), EIO) << "nothing was counted meanwhile";
    EXPECT_EQ(b.write(0, 512), EIO);
    EXPECT_EQ(b.write(0, 512), 0);
}

// ---------------------------------------------------------------- death

std::optional<request> died_with;

TEST(fault, dies_with_the_request_in_hand) {
    fault disk{disk_now{disk_size},
               {.rules = {{.kind = fault_kind::die, .nth = 2, .cut = 512}},
                .die = [](const request& r) { died_with = r; }}};
    crank ring{faulty_now::task_bytes};
    std::vector<std::byte> data(1024, std::byte{2});
    EXPECT_EQ(ring.serve(disk, make_request(uapi::op::write, 0, 1024), bytes{data}).error(), 0);
    EXPECT_FALSE(died_with);
    EXPECT_EQ(ring.serve(disk, make_request(uapi::op::write, 4096, 1024), bytes{data}).error(),
              EIO);
    ASSERT_TRUE(died_with);
    EXPECT_EQ(died_with->offset(), 4096u);
    EXPECT_EQ(disk.below().content[4096 + 511], std::byte{2});
    EXPECT_EQ(disk.below().content[4096 + 512], std::byte{0});
}

TEST(fault_death_test, kills_the_process_unless_told_otherwise) {
    bench b{{{.kind = fault_kind::die}}};
    EXPECT_EXIT(b.write(0, 512), testing::KilledBySignal(SIGKILL), "");
}

// ---------------------------------------------------------------- seeds

constexpr ublk::fault_odds often{.fail = 5, .delay = 4, .torn = 6, .split = 3, .die = 50};

struct story {
    std::vector<int> errors{};
    std::vector<std::byte> content{};
    std::uint64_t injected = 0;
    std::size_t operations = 0;
    friend bool operator==(const story&, const story&) = default;
};

template <class Disk>
story told(Disk inner, std::uint64_t seed, const ublk::fault_odds& odds) {
    fault disk{std::move(inner), {.seed = seed, .odds = odds, .die = [](const request&) {}}};
    shuffled_ring ring{1, decltype(disk)::task_bytes};
    story all;
    for (std::uint64_t i = 0; i < 500; ++i) {
        std::vector<std::byte> data(4096, static_cast<std::byte>(i));
        const auto op = i % 5 == 4 ? uapi::op::discard : uapi::op::write;
        const request r = make_request(op, i * 7 % 250 * 4096, 4096);
        all.errors.push_back(ring.serve(disk, r, bytes{data}).error());
        EXPECT_EQ(ring.frames(), 0u);
    }
    all.injected = disk.injected();
    all.operations = ring.operations;
    all.content.resize(disk_size);
    disk.arm(false);
    for (std::uint64_t i = 0; i < disk_size; i += 65536) {
        const bytes some = bytes{all.content}.subspan(i, 65536);
        EXPECT_TRUE(ring.serve(disk, make_request(uapi::op::read, i, 65536), some).ok());
    }
    return all;
}

TEST(fault, of_a_seed_are_the_same_each_time) {
    const story first = told(disk_now{disk_size}, 42, often);
    EXPECT_EQ(told(disk_now{disk_size}, 42, often), first);
    EXPECT_FALSE(told(disk_now{disk_size}, 43, often) == first);
    const story later = told(disk_later{disk_size}, 42, often);
    EXPECT_EQ(later.errors, first.errors) << "whatever the backend is";
    EXPECT_EQ(later.content, first.content);
    EXPECT_GT(first.injected, 200u);
    EXPECT_LT(first.injected, 400u);
    EXPECT_GT(first.operations, 80u) << "delays";
    EXPECT_LT(first.operations, 200u);
}

// A seed from a report has to mean the same on every machine.
TEST(fault, of_seed_42_are_these) {
    const story first = told(disk_now{disk_size}, 42, often);
    std::string failed;
    for (std::size_t i = 0; i < 40; ++i) {
        failed += first.errors[i] == 0 ? '.' : 'x';
    }
    EXPECT_EQ(failed, "....xx.x...x..x....xx......xx..xxxx.....");
}

TEST(fault, of_odds_of_one_happen_always_and_of_zero_never) {
    EXPECT_EQ(told(disk_now{disk_size}, 1, {}).injected, 0u);
    const story all = told(disk_now{disk_size}, 1, {.fail = 1, .error = ENODATA});
    EXPECT_EQ(all.errors, std::vector<int>(500, ENODATA));
    const story split = told(disk_now{disk_size}, 1, {.split = 1});
    EXPECT_EQ(split.errors, std::vector<int>(500, 0));
    EXPECT_EQ(split.injected, 500u);
    EXPECT_EQ(split.content, told(disk_now{disk_size}, 1, {}).content) << "but nothing is lost";
}

TEST(fault, delays_no_longer_than_it_may) {
    fault disk{disk_now{disk_size}, {.seed = 1, .odds = {.delay = 1, .longest = 1ms}}};
    crank ring{faulty_now::task_bytes};
    std::int64_t longest = 0;
    ring.kernel = [&](const ublk::detail::submission& requested) {
        const auto* time = reinterpret_cast<const std::int64_t*>(requested.address);
        EXPECT_EQ(time[0], 0);
        EXPECT_GT(time[1], 0);
        longest = std::max(longest, time[1]);
        return -ETIME;
    };
    for (int i = 0; i < 500; ++i) {
        std::vector<std::byte> data(512);
        EXPECT_TRUE(ring.serve(disk, make_request(uapi::op::read, 0, 512), bytes{data}).ok());
    }
    EXPECT_LE(longest, 1'000'000);
    EXPECT_GT(longest, 950'000);
}

// ---------------------------------------------------------------- payloads, frames, threads

TEST(fault, takes_all_payloads_of_its_backend) {
    fault disk{disk_later{disk_size}, {.seed = 3, .odds = {.delay = 2, .split = 1}}};
    shuffled_ring ring{1, decltype(disk)::task_bytes};
    const memory_file window{1u << 16};
    std::vector<std::byte> data(4096, std::byte{5});
    ASSERT_EQ(::pwrite(window.get(), data.data(), 4096, 8192), 4096);
    const auto write = [&](std::uint64_t at) { return make_request(uapi::op::write, at, 4096); };
    EXPECT_TRUE(ring.serve(disk, write(0), bytes{data}).ok());
    EXPECT_TRUE(ring.serve_registered(disk, write(4096), data).ok());
    EXPECT_TRUE(ring.serve(disk, write(8192), user_copy{window.get(), 8192, 4096}).ok());
    std::vector<std::byte> back(3 * 4096);
    EXPECT_TRUE(ring.serve(disk, make_request(uapi::op::read, 0, back.size()), bytes{back}).ok());
    EXPECT_EQ(back, std::vector<std::byte>(3 * 4096, std::byte{5}));
    EXPECT_FALSE(disk.below().spoilt);
}

std::size_t frames_of_read(auto& disk) {
    shuffled_ring ring{1, 1u << 16};
    std::vector<std::byte> data(4096);
    EXPECT_TRUE(ring.serve(disk, make_request(uapi::op::read, 0, 4096), bytes{data}).ok());
    EXPECT_EQ(ring.frames(), 0u);
    return ring.most_frames;
}

TEST(fault, adds_no_coroutine_where_nothing_happens) {
    disk_later alone{disk_size};
    fault disk{disk_later{disk_size},
               {.rules = {{.kind = fault_kind::split, .nth = 2, .count = 1}}}};
    const std::size_t one = frames_of_read(alone);
    EXPECT_EQ(frames_of_read(disk), one);
    const std::size_t with_fault = frames_of_read(disk);
    std::printf("frames: the backend's %zu, a fault's own %zu\n", one, with_fault - one);
    EXPECT_LE(with_fault - one, 1024u);
}

TEST(fault, counts_exactly_with_many_threads) {
    constexpr int threads = 4;
    constexpr int each = 2000;
    fault disk{ublk::backends::null{disk_size},
               {.rules = {{.op = uapi::op::read, .nth = 100, .count = 1234}}}};
    std::atomic<int> failed = 0;
    std::vector<std::thread> all;
    for (int t = 0; t < threads; ++t) {
        all.emplace_back([&] {
            crank ring{decltype(disk)::task_bytes};
            std::vector<std::byte> data(512);
            for (int i = 0; i < each; ++i) {
                const request r = make_request(uapi::op::read, 0, 512);
                failed += ring.serve(disk, r, bytes{data}).ok() ? 0 : 1;
            }
        });
    }
    for (std::thread& one : all) {
        one.join();
    }
    EXPECT_EQ(failed, 1234);
    EXPECT_EQ(disk.injected(), 1234u);
}

/// Has a file for the rings.
struct with_file : disk_now {
    using disk_now::disk_now;
    ublk::registered_file file{};
    std::vector<const ublk::registered_file*> ring_files() const { return {&file}; }
};

// A device takes a backend by value: what is told of it must not point to where it was.
TEST(fault, names_the_files_of_its_backend_where_they_are_now) {
    ublk::backends::fault<with_file> made{with_file{1u << 16}};
    auto disk = std::move(made);
    EXPECT_EQ(ublk::attributes_of(disk).ring_files,
              std::vector<const ublk::registered_file*>{&disk.below().file});
}

}  // namespace
}  // namespace fault_test
