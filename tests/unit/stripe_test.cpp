// SPDX-License-Identifier: MIT
#include <ublk/backends/stripe.hpp>

#include "../support/allocations.hpp"
#include "../support/crank.hpp"
#include "../support/disks.hpp"

#include <ublk/backends/fault.hpp>
#include <ublk/backends/memory.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace stripe_test {
namespace {

using ublk::attributes_of;
using ublk::disk_attributes;
using ublk::ok;
using ublk::registered_buffer;
using ublk::request;
using ublk::result;
using ublk::task;
using ublk::user_copy;
using ublk::backends::fault;
using ublk::backends::memory;
using ublk::backends::stripe;
using ublk::test::crank;
using ublk::test::disk_later;
using ublk::test::disk_now;
using ublk::test::make_request;
using ublk::test::memory_file;
using ublk::test::shuffled_ring;
namespace uapi = ublk::uapi;
using bytes = std::span<std::byte>;

constexpr std::uint64_t chunk = 4096;

template <class B>
std::vector<B> several(std::size_t count, std::uint64_t size) {
    std::vector<B> all;
    for (std::size_t i = 0; i < count; ++i) {
        all.emplace_back(size);
    }
    return all;
}

std::vector<std::byte> pattern(std::size_t size, std::uint64_t seed) {
    ublk::sim::random draw{seed};
    std::vector<std::byte> data(size);
    for (std::byte& each : data) {
        each = static_cast<std::byte>(draw());
    }
    return data;
}

// ---------------------------------------------------------------- which functions there are

using all_now = stripe<disk_now>;
using all_later = stripe<disk_later>;
using mixed = stripe<disk_now, disk_later, disk_now>;
using nested = stripe<stripe<disk_later>, stripe<disk_now, disk_later>>;

static_assert(ublk::check_backend<all_now>() && ublk::check_backend<all_later>());
static_assert(ublk::check_backend<mixed>() && ublk::check_backend<nested>());
static_assert(ublk::check_backend<stripe<memory>>() &&
              ublk::check_backend<stripe<memory, memory>>());

static_assert((ublk::operations::read::mode<all_now, bytes> == ublk::answers::now) &&
              (ublk::operations::write::mode<all_now, std::span<const std::byte>> ==
               ublk::answers::now));
static_assert(!ublk::asynchronous<all_now, bytes> && !ublk::asynchronous<all_now, user_copy>);
static_assert(!ublk::accepts<all_now, registered_buffer>);
static_assert(!ublk::detail::has_flush<all_now> &&
              (ublk::operations::discard::mode<all_now> == ublk::answers::now));

static_assert((ublk::operations::read::mode<all_later, bytes> == ublk::answers::later) &&
              !(ublk::operations::read::mode<all_later, bytes> == ublk::answers::now));
static_assert(ublk::accepts<all_later, registered_buffer> && ublk::accepts<all_later, user_copy>);
static_assert((ublk::operations::read::mode<all_later, user_copy> == ublk::answers::now),
              "as its members");
static_assert((ublk::operations::flush::mode<all_later> == ublk::answers::later));

static_assert((ublk::operations::read::mode<mixed, bytes> == ublk::answers::later) &&
              !ublk::accepts<mixed, registered_buffer>);
static_assert((ublk::operations::flush::mode<mixed> == ublk::answers::later), "one member has it");
static_assert((ublk::operations::discard::mode<mixed> == ublk::answers::later),
              "all members have it");
static_assert((ublk::operations::read::mode<nested, bytes> == ublk::answers::later));

struct disk_without {
    std::uint64_t size() const noexcept { return 1u << 20; }
    result read(const request&, bytes) noexcept { return ok; }
    result write(const request&, std::span<const std::byte>) noexcept { return ok; }
};
struct only_read {
    static constexpr bool read_only = true;
    std::uint64_t size() const noexcept { return 1u << 20; }
    result read(const request&, bytes) noexcept { return ok; }
};
using half = stripe<disk_now, only_read>;
static_assert(ublk::check_backend<half>());
static_assert(half::read_only && !ublk::detail::has_write<half, bytes>);
static_assert(!ublk::detail::has_discard<half> && !ublk::detail::has_write_zeroes<half>);
static_assert(!ublk::accepts<half, user_copy>, "one member does not take it");

static_assert(all_later::operations_in_flight == 8 && all_now::operations_in_flight == 1);
static_assert(nested::operations_in_flight == 64);
static_assert(all_later::task_bytes >= 8 * 2048 && nested::task_bytes >= 8 * all_later::task_bytes);
static_assert(all_now::task_bytes < 2048, "its members need no frames");

static_assert(std::is_same_v<decltype(stripe{chunk, std::vector<memory>{}}), stripe<memory>>);
static_assert(
    std::is_same_v<decltype(stripe{chunk, memory{0}, disk_now{0}}), stripe<memory, disk_now>>);

// ---------------------------------------------------------------- where the bytes are

TEST(stripe, goes_round_its_members) {
    stripe disk{chunk, several<disk_now>(3, 10 * chunk + 512)};
    EXPECT_EQ(disk.size(), 30 * chunk) << "parts of chunks are not used";
    EXPECT_EQ(disk.chunk(), chunk);
    auto data = pattern(30 * chunk, 1);
    EXPECT_TRUE(
        disk.write(make_request(uapi::op::write, 0, data.size()), std::span<const std::byte>{data})
            .ok());
    for (std::size_t number = 0; number < 30; ++number) {
        const auto& member = disk.members()[number % 3].content;
        EXPECT_TRUE(std::equal(member.begin() + static_cast<long>(number / 3 * chunk),
                               member.begin() + static_cast<long>((number / 3 + 1) * chunk),
                               data.begin() + static_cast<long>(number * chunk)))
            << number;
    }
    std::vector<std::byte> back(data.size());
    EXPECT_TRUE(
        disk.read(make_request(uapi::op::read, 0, back.size()), std::span<std::byte>{back}).ok());
    EXPECT_EQ(back, data);
}

TEST(stripe, of_one_member_is_that_member) {
    stripe disk{chunk, several<disk_now>(1, 8 * chunk)};
    auto data = pattern(8 * chunk, 2);
    EXPECT_TRUE(
        disk.write(make_request(uapi::op::write, 0, data.size()), std::span<const std::byte>{data})
            .ok());
    EXPECT_EQ(disk.members()[0].content, data);
}

TEST(stripe, asks_each_member_once_for_a_discard) {
    stripe disk{chunk, several<disk_now>(3, 10 * chunk)};
    for (disk_now& each : disk.members()) {
        each.logs = true;
    }
    EXPECT_TRUE(disk.discard(make_request(uapi::op::discard, 512, 20 * chunk)).ok());
    const std::uint64_t offsets[] = {512, 0, 0};
    const std::uint64_t lengths[] = {7 * chunk - 512, 7 * chunk, 6 * chunk + 512};
    for (std::size_t i = 0; i < 3; ++i) {
        ASSERT_EQ(disk.members()[i].requested.size(), 1u);
        EXPECT_EQ(disk.members()[i].requested[0].offset(), offsets[i]);
        EXPECT_EQ(disk.members()[i].requested[0].length(), lengths[i]);
        EXPECT_EQ(disk.members()[i].requested[0].op(), uapi::op::discard);
    }
}

TEST(stripe, passes_the_flags_on) {
    stripe disk{chunk, several<disk_now>(2, 4 * chunk)};
    for (disk_now& each : disk.members()) {
        each.logs = true;
    }
    auto data = pattern(2 * chunk, 3);
    const request requested =
        make_request(uapi::op::write, 0, data.size(), uapi::io_flag::fua | uapi::io_flag::meta);
    EXPECT_TRUE(disk.write(requested, std::span<const std::byte>{data}).ok());
    for (disk_now& each : disk.members()) {
        ASSERT_EQ(each.requested.size(), 1u);
        EXPECT_TRUE(each.requested[0].fua() && each.requested[0].meta());
        EXPECT_EQ(each.requested[0].tag(), requested.tag());
    }
}

TEST(stripe, flushes_all_that_have_a_flush) {
    stripe disk{chunk, disk_now{8 * chunk}, disk_later{8 * chunk}, disk_later{8 * chunk}};
    crank ring{decltype(disk)::task_bytes};
    EXPECT_TRUE(ring.serve(disk, make_request(uapi::op::flush, 0, 0), bytes{}).ok());
    ASSERT_EQ(ring.seen.size(), 2u);
    EXPECT_EQ(ring.seen[0].code, ublk::detail::opcode::fsync);
    EXPECT_EQ(ring.seen[0].file, std::get<1>(disk.members()).file.get());
    EXPECT_EQ(ring.seen[1].file, std::get<2>(disk.members()).file.get());
    EXPECT_EQ(ring.frames(), 0u);
}

// ---------------------------------------------------------------- against a model

template <class Disk>
struct made;
template <>
struct made<all_now> {
    static all_now make() { return {chunk, several<disk_now>(3, 24 * chunk)}; }
};
template <>
struct made<all_later> {
    static all_later make() { return {chunk, several<disk_later>(5, 12 * chunk)}; }
};
template <>
struct made<mixed> {
    static mixed make() {
        return {chunk, disk_now{20 * chunk}, disk_later{20 * chunk}, disk_now{19 * chunk + 512}};
    }
};
template <>
struct made<nested> {
    static nested make() {
        return {2 * chunk, stripe<disk_later>{512, several<disk_later>(2, 20 * chunk)},
                stripe<disk_now, disk_later>{chunk, disk_now{20 * chunk}, disk_later{20 * chunk}}};
    }
};
using shaky = stripe<fault<disk_now>, fault<disk_later>>;
template <>
struct made<shaky> {
    static shaky make() {
        ublk::fault_plan plan{.seed = 7, .odds = {.delay = 3, .split = 2}};
        return {chunk, fault{disk_now{24 * chunk}, plan}, fault{disk_later{24 * chunk}, plan}};
    }
};

template <class Disk>
class stripe_of : public testing::Test {};
using stripes = testing::Types<all_now, all_later, mixed, nested, shaky>;
TYPED_TEST_SUITE(stripe_of, stripes);

// Where the bytes of a request are, one way or the other.
template <class Disk>
class requester {
public:
    explicit requester(std::uint64_t seed)
        : ring{seed, Disk::task_bytes}, window_{1u << 20}, draw_{seed} {}

    result transfer(Disk& disk, const request& r, std::span<std::byte> data) {
        const std::uint64_t kind = draw_.below(3);
        if constexpr (ublk::accepts<Disk, registered_buffer>) {
            if (kind == 0) {
                return ring.serve_registered(disk, r, data);
            }
        }
        if constexpr (ublk::accepts<Disk, user_copy>) {
            if (kind == 1) {
                return by_copy(disk, r, data);
            }
        }
        return ring.serve(disk, r, data);
    }

    shuffled_ring ring;

private:
    result by_copy(Disk& disk, const request& r, std::span<std::byte> data) {
        const user_copy client{window_.get(), 4096, data.size()};
        EXPECT_EQ(::pwrite(window_.get(), data.data(), data.size(), 4096),
                  static_cast<ssize_t>(data.size()));
        const result answer = ring.serve(disk, r, client);
        EXPECT_EQ(::pread(window_.get(), data.data(), data.size(), 4096),
                  static_cast<ssize_t>(data.size()));
        return answer;
    }

    memory_file window_;
    ublk::sim::random draw_;
};

TYPED_TEST(stripe_of, members_is_a_disk) {
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
        SCOPED_TRACE(seed);
        TypeParam disk = made<TypeParam>::make();
        std::vector<std::byte> model(disk.size());
        requester<TypeParam> client{seed};
        ublk::sim::random draw{seed};
        for (int i = 0; i < 300; ++i) {
            const std::uint64_t first = draw.below(disk.size() / 512) * 512;
            const std::uint64_t most =
                std::min<std::uint64_t>(disk.size() - first, draw.chance(2) ? chunk : 20 * chunk);
            const std::uint64_t size = (1 + draw.below(most / 512)) * 512;
            const auto begin = model.begin() + static_cast<long>(first);
            std::vector<std::byte> data = pattern(size, draw());
            const std::uint64_t what = draw.below(5);
            if (what < 2) {
                const request r = make_request(uapi::op::write, first, size);
                std::copy(data.begin(), data.end(), begin);
                ASSERT_TRUE(client.transfer(disk, r, data).ok());
            } else if (what < 4) {
                const request r = make_request(uapi::op::read, first, size);
                ASSERT_TRUE(client.transfer(disk, r, data).ok());
                ASSERT_TRUE(std::equal(data.begin(), data.end(), begin));
            } else {
                const request r = make_request(
                    draw.chance(2) ? uapi::op::discard : uapi::op::write_zeroes, first, size);
                std::fill_n(begin, size, std::byte{});
                ASSERT_TRUE(client.ring.serve(disk, r, bytes{}).ok());
            }
            ASSERT_EQ(client.ring.frames(), 0u);
        }
        EXPECT_LE(client.ring.most_in_flight, TypeParam::operations_in_flight);
        EXPECT_LE(client.ring.most_frames, TypeParam::task_bytes);
    }
}

// ---------------------------------------------------------------- at the same time

TEST(stripe, asks_its_members_at_the_same_time) {
    stripe disk{chunk, several<disk_later>(4, 64 * chunk)};
    shuffled_ring ring{1, decltype(disk)::task_bytes};
    std::vector<std::byte> data(4 * chunk);
    EXPECT_TRUE(ring.serve(disk, make_request(uapi::op::read, 0, data.size()), bytes{data}).ok());
    EXPECT_EQ(ring.most_in_flight, 4u);
    EXPECT_EQ(ring.operations, 4u);
}

TEST(stripe, has_eight_operations_in_flight_at_most) {
    stripe disk{chunk, several<disk_later>(4, 64 * chunk)};
    shuffled_ring ring{1, decltype(disk)::task_bytes};
    std::vector<std::byte> data(100 * chunk);
    for (std::uint64_t parts = 1; parts <= 100; ++parts) {
        ring.operations = 0;
        ring.most_in_flight = 0;
        const bytes some = bytes{data}.first(parts * chunk);
        EXPECT_TRUE(ring.serve(disk, make_request(uapi::op::read, 0, some.size()), some).ok());
        EXPECT_EQ(ring.most_in_flight, std::min<std::uint64_t>(parts, 8));
        EXPECT_EQ(ring.operations, parts);
        EXPECT_EQ(ring.frames(), 0u);
    }
}

// The frame of a member's task with what the stripe adds to it.
std::size_t frames_of_read(auto& disk, std::uint64_t offset, std::size_t size) {
    shuffled_ring ring{1, 1u << 17};
    std::vector<std::byte> data(size);
    EXPECT_TRUE(ring.serve(disk, make_request(uapi::op::read, offset, size), bytes{data}).ok());
    EXPECT_EQ(ring.frames(), 0u);
    return ring.most_frames;
}

TEST(stripe, adds_no_coroutine_to_what_one_member_does) {
    disk_later alone{8 * chunk};
    stripe disk{chunk, several<disk_later>(2, 8 * chunk)};
    const std::size_t one = frames_of_read(alone, 0, chunk);
    EXPECT_EQ(frames_of_read(disk, 0, chunk), one + ublk::detail::kept_request::stack_bytes);
    EXPECT_EQ(frames_of_read(disk, 3 * chunk + 512, 1024),
              one + ublk::detail::kept_request::stack_bytes);
    EXPECT_GT(frames_of_read(disk, 512, chunk), one + ublk::detail::kept_request::stack_bytes);
}

TEST(stripe, fits_into_its_task_bytes) {
    disk_later alone{8 * chunk};
    stripe disk{chunk, several<disk_later>(2, 64 * chunk)};
    const std::size_t one = frames_of_read(alone, 0, chunk);
    const std::size_t all = frames_of_read(disk, 512, 32 * chunk);
    const std::size_t own = all - 8 * (one + ublk::detail::kept_request::stack_bytes);
    std::printf("frames: a member's %zu, a stripe's own %zu\n", one, own);
    EXPECT_LE(own, 1024u);
    for (const auto op : {uapi::op::flush, uapi::op::discard}) {
        shuffled_ring ring{1, 1u << 17};
        EXPECT_TRUE(ring.serve(disk, make_request(op, 0, 32 * chunk), bytes{}).ok());
        EXPECT_LE(ring.most_frames, decltype(disk)::task_bytes);
    }
}

TEST(stripe, keeps_the_requests_of_its_members_until_they_have_ended) {
    stripe<stripe<disk_later>> disk{
        2 * chunk, [] {
            std::vector<stripe<disk_later>> inner;
            inner.emplace_back(chunk, several<disk_later>(2, 64 * chunk));
            inner.emplace_back(chunk, several<disk_later>(2, 64 * chunk));
            return inner;
        }()};
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        shuffled_ring ring{seed, decltype(disk)::task_bytes};
        ublk::sim::random draw{seed};
        std::vector<std::byte> data(64 * chunk);
        for (int i = 0; i < 50; ++i) {
            const std::uint64_t first = draw.below(64 * chunk / 512) * 512;
            const bytes some = bytes{data}.first((1 + draw.below(64 * chunk / 512)) * 512);
            ASSERT_TRUE(
                ring.serve(disk, make_request(uapi::op::read, first, some.size()), some).ok());
        }
    }
    for (auto& outer : disk.members()) {
        for (disk_later& each : outer.members()) {
            EXPECT_FALSE(each.spoilt);
        }
    }
}

TEST(stripe, takes_no_memory_for_a_request) {
    shaky disk = made<shaky>::make();
    all_now plain = made<all_now>::make();
    shuffled_ring ring{1, shaky::task_bytes};
    for (disk_now* each : {&std::get<0>(disk.members()).below(), &plain.members()[0]}) {
        each->logs = false;
    }
    std::vector<std::byte> data(16 * chunk);
    const std::uint64_t before = ublk::test::allocations;
    bool good = true;
    for (std::uint64_t parts = 1; parts <= 16; ++parts) {
        const bytes some = bytes{data}.first(parts * chunk);
        for (const auto op : {uapi::op::read, uapi::op::write, uapi::op::discard}) {
            good &= ring.serve(disk, make_request(op, 512, some.size()), some).ok();
            good &= ublk::detail::dispatch(plain, make_request(op, 512, some.size()), some).ok();
        }
        good &= ring.serve(disk, make_request(uapi::op::flush, 0, 0), some).ok();
    }
    EXPECT_EQ(ublk::test::allocations - before, 0u);
    EXPECT_TRUE(good);
}

// ---------------------------------------------------------------- errors

TEST(stripe, answers_with_the_first_error_in_order) {
    stripe disk{chunk, several<disk_later>(4, 64 * chunk)};
    std::vector<std::byte> data(8 * chunk);
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        shuffled_ring ring{seed, decltype(disk)::task_bytes};
        ring.kernel = [&](const ublk::detail::submission& requested) {
            return requested.file == disk.members()[2].file.get()   ? -ENOSPC
                   : requested.file == disk.members()[3].file.get() ? -EIO
                                                                    : ublk::sim::perform(requested);
        };
        const request r = make_request(uapi::op::read, 0, data.size());
        EXPECT_EQ(ring.serve(disk, r, bytes{data}).error(), ENOSPC) << "member 2 comes first";
        EXPECT_EQ(ring.operations, 8u) << "all are waited for";
        EXPECT_EQ(ring.frames(), 0u);
        const request from_3 = make_request(uapi::op::read, 3 * chunk, data.size());
        EXPECT_EQ(ring.serve(disk, from_3, bytes{data}).error(), EIO);
    }
}

TEST(stripe, begins_no_further_wave_after_an_error) {
    stripe disk{chunk, several<disk_later>(4, 64 * chunk)};
    std::vector<std::byte> data(32 * chunk);
    crank ring{decltype(disk)::task_bytes};
    ring.kernel = [](const ublk::detail::submission&) { return -EIO; };
    const request r = make_request(uapi::op::read, 0, data.size());
    EXPECT_EQ(ring.serve(disk, r, bytes{data}).error(), EIO);
    EXPECT_EQ(ring.seen.size(), 8u);
}

TEST(stripe, of_members_that_answer_now_hands_on_their_errors) {
    stripe disk{chunk, several<disk_now>(3, 8 * chunk)};
    disk.members()[1].error = ENOSPC;
    std::vector<std::byte> data(3 * chunk);
    const auto read = [&](std::uint64_t from, std::uint64_t size) {
        return disk.read(make_request(uapi::op::read, from, size), bytes{data}.first(size)).error();
    };
    EXPECT_EQ(read(0, 3 * chunk), ENOSPC);
    EXPECT_EQ(read(0, chunk), 0);
    EXPECT_EQ(read(chunk, chunk), ENOSPC);
    EXPECT_EQ(disk.discard(make_request(uapi::op::discard, 0, 3 * chunk)).error(), ENOSPC);

    mixed both = made<mixed>::make();
    std::get<0>(both.members()).error = EDOM;
    crank ring{mixed::task_bytes};
    EXPECT_EQ(ring.serve(both, make_request(uapi::op::read, 0, 3 * chunk), bytes{data}).error(),
              EDOM);
    EXPECT_EQ(ring.seen.size(), 1u) << "the asynchronous member was asked, too";
    EXPECT_EQ(ring.frames(), 0u);
}

struct thrower {
    std::uint64_t size() const noexcept { return 64 * chunk; }
    task read(ublk::io&, const request&, bytes) { throw std::runtime_error{"no"}; }
    result write(const request&, std::span<const std::byte>) { throw 1; }
};

TEST(stripe, turns_what_a_member_throws_into_eio) {
    stripe disk{chunk, thrower{}, disk_later{64 * chunk}};
    crank ring{decltype(disk)::task_bytes};
    std::vector<std::byte> data(4 * chunk);
    for (const auto op : {uapi::op::read, uapi::op::write}) {
        EXPECT_EQ(ring.serve(disk, make_request(op, 0, chunk), bytes{data}.first(chunk)).error(),
                  EIO);
        EXPECT_EQ(ring.serve(disk, make_request(op, 0, 4 * chunk), bytes{data}).error(), EIO);
        EXPECT_EQ(ring.frames(), 0u);
    }
}

// ---------------------------------------------------------------- attributes

struct shaped : disk_now {
    using disk_now::disk_now;
    explicit shaped(const disk_attributes& what) : disk_now{what.size}, shape{what} {}
    disk_attributes shape{};
    result flush(const request&) { return ok; }
    bool read_only() const { return shape.read_only; }
    bool rotational() const { return shape.rotational; }
    bool volatile_cache() const { return shape.volatile_cache; }
    bool fua() const { return shape.fua; }
    std::uint32_t logical_block_size() const { return shape.logical_block_size; }
    std::uint32_t physical_block_size() const { return shape.physical_block_size; }
    std::uint32_t minimum_io_size() const { return shape.minimum_io_size; }
    std::uint32_t dma_alignment() const { return shape.dma_alignment; }
    std::uint32_t discard_granularity() const { return shape.discard_granularity; }
    std::uint64_t max_discard_size() const { return shape.max_discard_size; }
    std::uint64_t max_write_zeroes_size() const { return shape.max_write_zeroes_size; }
};

// What a stripe of disks of these shapes shows; 16 chunks where no size is given.
disk_attributes shown(std::vector<disk_attributes> shapes, std::uint64_t of = 65536) {
    std::vector<shaped> members;
    for (disk_attributes& each : shapes) {
        each.size = each.size == 0 ? 16 * of : each.size;
        members.emplace_back(each);
    }
    const disk_attributes all = attributes_of(stripe{of, std::move(members)});
    EXPECT_NO_THROW(ublk::validate(all, 4096));
    return all;
}

TEST(stripe_attributes, are_the_strictest_of_the_members) {
    const disk_attributes all = shown({
        {.logical_block_size = 512,
         .physical_block_size = 512,
         .discard_granularity = 65536,
         .max_discard_size = 1u << 30,
         .max_write_zeroes_size = 1u << 30},
        {.logical_block_size = 4096,
         .physical_block_size = 4096,
         .minimum_io_size = 4096,
         .rotational = true,
         .discard_granularity = 4096,
         .max_discard_size = 1u << 29,
         .max_write_zeroes_size = 1u << 31},
        {.logical_block_size = 1024,
         .physical_block_size = 16384,
         .minimum_io_size = 32768,
         .discard_granularity = 16384,
         .max_discard_size = 1u << 31,
         .max_write_zeroes_size = 1u << 30},
    });
    EXPECT_EQ(all.size, 3 * 16 * 65536u);
    EXPECT_EQ(all.logical_block_size, 4096u);
    EXPECT_EQ(all.physical_block_size, 16384u);
    EXPECT_EQ(all.minimum_io_size, 32768u);
    EXPECT_TRUE(all.rotational);
    EXPECT_FALSE(all.read_only || all.volatile_cache || all.fua);
    EXPECT_EQ(all.optimal_io_size, 65536u) << "three chunks are no power of two";
    EXPECT_EQ(all.discard_granularity, 65536u);
    EXPECT_EQ(all.max_discard_size, 3u << 29);
    EXPECT_EQ(all.max_write_zeroes_size, std::uint64_t{3} << 30);
    EXPECT_EQ(all.dma_alignment, 0u);
    EXPECT_TRUE(shown({{}, {.read_only = true}}).read_only);
}

TEST(stripe_attributes, name_all_members_as_the_best_size_where_that_is_a_power_of_two) {
    EXPECT_EQ(shown({{}, {}}).optimal_io_size, 131072u);
    EXPECT_EQ(shown({{}, {}, {}, {}}).optimal_io_size, 262144u);
    EXPECT_EQ(shown({{}, {}, {}}).optimal_io_size, 65536u);
    EXPECT_EQ(shown({{.minimum_io_size = 1u << 20}, {}}).optimal_io_size, 1u << 20);
}

TEST(stripe_attributes, promise_fua_only_where_it_reaches_all_caches) {
    const disk_attributes none{}, cache{.volatile_cache = true},
        good{.volatile_cache = true, .fua = true};
    EXPECT_TRUE(shown({good, good}).fua);
    EXPECT_TRUE(shown({good, none}).fua) << "without a cache a write is durable";
    EXPECT_FALSE(shown({good, cache}).fua);
    EXPECT_FALSE(shown({none, none}).fua);
    EXPECT_TRUE(shown({cache, none}).volatile_cache);
    EXPECT_FALSE(shown({none, none}).volatile_cache);
}

TEST(stripe_attributes, offer_what_all_members_offer) {
    const disk_attributes can{.max_discard_size = 1u << 30, .max_write_zeroes_size = 1u << 30};
    const disk_attributes cannot{};
    EXPECT_TRUE(shown({can, can}).discards);
    EXPECT_FALSE(shown({can, cannot}).discards);
    EXPECT_EQ(shown({cannot, can}).max_write_zeroes_size, 0u);
    const disk_attributes without =
        attributes_of(stripe<disk_now, disk_without>{chunk, disk_now{1u << 20}, disk_without{}});
    EXPECT_FALSE(without.discards);
    EXPECT_EQ(without.max_write_zeroes_size, 0u);
}

// Where memory has to begin at 4096, a request must not be cut at 512.
TEST(stripe_attributes, have_blocks_as_large_as_the_alignment_of_memory) {
    EXPECT_EQ(shown({{.dma_alignment = 4096}, {}}).logical_block_size, 4096u);
    EXPECT_EQ(shown({{.dma_alignment = 4096}, {}}).dma_alignment, 4096u);
    EXPECT_EQ(shown({{.dma_alignment = 1}, {}}).dma_alignment, 4u) << "that of the other";
    EXPECT_EQ(shown({{.dma_alignment = 1}, {.dma_alignment = 2}}).dma_alignment, 2u);
}

TEST(stripe_attributes, limit_what_one_member_may_get) {
    ublk::sim::random draw{1};
    for (int i = 0; i < 2000; ++i) {
        const std::size_t members = 1 + draw.below(5);
        const std::uint64_t limit = (1 + draw.below(64)) * 512;
        const std::uint64_t most = ublk::detail::striped_limit(limit, chunk, members);
        ASSERT_GE(most, std::min(limit, chunk));
        for (int j = 0; j < 20; ++j) {
            const std::uint64_t from = draw.below(1000) * 512;
            for (const ublk::share each : ublk::shares{from, most, chunk, members}) {
                ASSERT_LE(each.bytes, limit);
            }
        }
    }
    constexpr std::uint64_t all = ~std::uint64_t{0};
    EXPECT_GE(ublk::detail::striped_limit(all, chunk, 3), std::uint64_t{1} << 62);
}

std::string complaint(std::uint64_t of, std::vector<disk_attributes> shapes) {
    try {
        std::vector<shaped> members;
        for (const disk_attributes& each : shapes) {
            members.emplace_back(each);
        }
        (void)stripe{of, std::move(members)};
    } catch (const ublk::error& wrong) {
        EXPECT_EQ(wrong.errno_value(), EINVAL);
        return wrong.what();
    }
    return "none";
}

TEST(stripe, refuses_what_cannot_be) {
    const disk_attributes good{.size = 1u << 20};
    const disk_attributes coarse{.size = 1u << 20, .logical_block_size = 4096};
    EXPECT_EQ(complaint(65536, {good, coarse}), "none");
    EXPECT_NE(complaint(65536, {}).find("no members"), std::string::npos);
    EXPECT_NE(complaint(0, {good}).find("chunk size is 0"), std::string::npos);
    EXPECT_NE(complaint(3 * 4096, {good}).find("chunk size is 12288"), std::string::npos);
    EXPECT_NE(complaint(256, {good}).find("chunk size is 256"), std::string::npos);
    EXPECT_NE(complaint(1024, {good, coarse}).find("member 1 has blocks of 4096"),
              std::string::npos);
    EXPECT_NE(complaint(2u << 20, {good}).find("member 0 has 1048576 bytes"), std::string::npos);
    EXPECT_THROW((stripe{chunk, memory{0}, memory{chunk}}), ublk::error);
}

struct endless {
    std::uint64_t size() const noexcept { return std::uint64_t{1} << 62; }
    result read(const request&, bytes) noexcept { return ok; }
    result write(const request&, std::span<const std::byte>) noexcept { return ok; }
};
TEST(stripe, refuses_to_be_larger_than_a_disk_can_be) {
    EXPECT_EQ((stripe{chunk, std::vector<endless>(1)}.size()), std::uint64_t{1} << 62);
    EXPECT_THROW((stripe{chunk, std::vector<endless>(2)}), ublk::error);
}

/// Has a file for the rings.
struct with_file : disk_now {
    using disk_now::disk_now;
    ublk::registered_file file{};
    std::vector<const ublk::registered_file*> ring_files() const { return {&file}; }
};

// A device takes a backend by value: what is told of it must not point to where it was.
TEST(stripe, names_the_files_of_its_members_where_they_are_now) {
    ublk::backends::stripe<with_file, with_file> made{4096, with_file{1u << 16},
                                                      with_file{1u << 16}};
    auto disk = std::move(made);
    EXPECT_EQ(ublk::attributes_of(disk).ring_files,
              (std::vector<const ublk::registered_file*>{&std::get<0>(disk.members()).file,
                                                         &std::get<1>(disk.members()).file}));
}

}  // namespace
}  // namespace stripe_test
