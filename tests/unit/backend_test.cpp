// SPDX-License-Identifier: MIT
#include <ublk/coroutine/coroutine_runtime.hpp>
#include <ublk/data/dispatch.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace backend_test {
namespace {

using ublk::attributes_of;
using ublk::disk_attributes;
using ublk::request;
using ublk::result;
namespace uapi = ublk::uapi;

constexpr std::uint64_t bio_max = std::numeric_limits<std::uint32_t>::max();

// ---------------------------------------------------------------- derivation

struct least {
    std::uint64_t size() const noexcept { return 1u << 20; }
    result read(const request&, std::span<std::byte>) noexcept { return ublk::ok; }
    result write(const request&, std::span<const std::byte>) noexcept { return ublk::ok; }
};

struct reader {
    static constexpr bool read_only = true;
    std::uint64_t size() const noexcept { return 1u << 20; }
    result read(const request&, std::span<std::byte>) noexcept { return ublk::ok; }
};

struct full : least {
    result flush(const request&) noexcept { return ublk::ok; }
    result discard(const request&) noexcept { return ublk::ok; }
    result write_zeroes(const request&) noexcept { return ublk::ok; }
};

struct constants : full {
    static constexpr bool read_only = true;
    static constexpr bool rotational = true;
    static constexpr bool volatile_cache = true;
    static constexpr bool fua = true;
    static constexpr std::uint32_t logical_block_size = 1024;
    static constexpr std::uint32_t physical_block_size = 2048;
    static constexpr std::uint32_t minimum_io_size = 8192;
    static constexpr std::uint32_t optimal_io_size = 65536;
    static constexpr std::uint32_t dma_alignment = 512;
    static constexpr std::uint32_t discard_granularity = 4096;
    static constexpr std::uint32_t discard_alignment = 512;
    static constexpr std::uint64_t max_discard_size = 1ull << 33;
    static constexpr std::uint64_t max_write_zeroes_size = 1ull << 34;
};

struct functions : full {
    bool read_only() const { return true; }
    bool rotational() const { return true; }
    bool volatile_cache() const { return true; }
    bool fua() const { return true; }
    std::uint32_t logical_block_size() const { return 1024; }
    std::uint32_t physical_block_size() const { return 2048; }
    std::uint32_t minimum_io_size() const { return 8192; }
    std::uint32_t optimal_io_size() const { return 65536; }
    std::uint32_t dma_alignment() const { return 512; }
    std::uint32_t discard_granularity() const { return 4096; }
    std::uint32_t discard_alignment() const { return 512; }
    std::uint64_t max_discard_size() const { return 1ull << 33; }
    std::uint64_t max_write_zeroes_size() const { return 1ull << 34; }
};

// Plain members, so that one type serves disks of several shapes.
struct members : full {
    bool read_only = true;
    bool rotational = true;
    bool volatile_cache = true;
    bool fua = true;
    std::uint32_t logical_block_size = 1024;
    std::uint32_t physical_block_size = 2048;
    std::uint32_t minimum_io_size = 8192;
    std::uint32_t optimal_io_size = 65536;
    std::uint32_t dma_alignment = 512;
    std::uint32_t discard_granularity = 4096;
    std::uint32_t discard_alignment = 512;
    std::uint64_t max_discard_size = 1ull << 33;
    std::uint64_t max_write_zeroes_size = 1ull << 34;
};

struct last_of_its_kind final : full {
    bool rotational() const noexcept { return true; }
};

static_assert(ublk::backend<least> && ublk::check_backend<least>());
static_assert(ublk::backend<reader> && ublk::check_backend<reader>());
static_assert(ublk::check_backend<full>() && ublk::check_backend<constants>());
static_assert(ublk::check_backend<functions>() && ublk::check_backend<members>());
static_assert(ublk::check_backend<last_of_its_kind>());

struct no_write {
    std::uint64_t size() const noexcept { return 1; }
    result read(const request&, std::span<std::byte>) noexcept { return ublk::ok; }
};
struct no_read {
    std::uint64_t size() const noexcept { return 1; }
    result write(const request&, std::span<const std::byte>) noexcept { return ublk::ok; }
};
struct no_size {
    result read(const request&, std::span<std::byte>) noexcept { return ublk::ok; }
    result write(const request&, std::span<const std::byte>) noexcept { return ublk::ok; }
};
struct writable_after_all : no_write {
    static constexpr bool read_only = false;
};
struct perhaps_read_only : no_write {
    bool read_only() const noexcept { return true; }  // not known at compile time
};
static_assert(!ublk::backend<no_write> && !ublk::backend<no_read> && !ublk::backend<no_size>);
static_assert(!ublk::backend<writable_after_all> && !ublk::backend<perhaps_read_only>);
static_assert(!ublk::backend<int>);

void expect_all(const disk_attributes& disk) {
    EXPECT_EQ(disk.size, 1u << 20);
    EXPECT_TRUE(disk.read_only);
    EXPECT_TRUE(disk.rotational);
    EXPECT_TRUE(disk.volatile_cache);
    EXPECT_TRUE(disk.fua);
    EXPECT_TRUE(disk.discards);
    EXPECT_EQ(disk.logical_block_size, 1024u);
    EXPECT_EQ(disk.physical_block_size, 2048u);
    EXPECT_EQ(disk.minimum_io_size, 8192u);
    EXPECT_EQ(disk.optimal_io_size, 65536u);
    EXPECT_EQ(disk.dma_alignment, 512u);
    EXPECT_EQ(disk.discard_granularity, 4096u);
    EXPECT_EQ(disk.discard_alignment, 512u);
    EXPECT_EQ(disk.max_discard_size, 1ull << 33);
    EXPECT_EQ(disk.max_write_zeroes_size, 1ull << 34);
}

TEST(attributes, may_be_constants) {
    expect_all(attributes_of(constants{}));
}
TEST(attributes, may_be_member_functions) {
    expect_all(attributes_of(functions{}));
}
TEST(attributes, may_be_members) {
    expect_all(attributes_of(members{}));
}

TEST(attributes, of_the_least_backend_are_the_documented_fallbacks) {
    const disk_attributes disk = attributes_of(least{});
    EXPECT_EQ(disk.size, 1u << 20);
    EXPECT_FALSE(disk.read_only);
    EXPECT_FALSE(disk.rotational);
    EXPECT_FALSE(disk.volatile_cache);
    EXPECT_FALSE(disk.fua);
    EXPECT_FALSE(disk.discards);
    EXPECT_EQ(disk.logical_block_size, 512u);
    EXPECT_EQ(disk.physical_block_size, 512u);
    EXPECT_EQ(disk.minimum_io_size, 512u);
    EXPECT_EQ(disk.optimal_io_size, 512u);
    EXPECT_EQ(disk.dma_alignment, 0u);
    EXPECT_EQ(disk.discard_alignment, 0u);
    EXPECT_EQ(disk.max_discard_size, 0u);
    EXPECT_EQ(disk.max_write_zeroes_size, 0u);
    EXPECT_NO_THROW(ublk::validate(disk, 4096));
}

TEST(attributes, follow_from_the_functions_that_are_there) {
    const disk_attributes disk = attributes_of(full{});
    EXPECT_TRUE(disk.volatile_cache);
    EXPECT_FALSE(disk.fua);
    EXPECT_TRUE(disk.discards);
    EXPECT_EQ(disk.discard_granularity, 512u);
    EXPECT_EQ(disk.max_discard_size, bio_max);
    EXPECT_EQ(disk.max_write_zeroes_size, bio_max);
    EXPECT_NO_THROW(ublk::validate(disk, 4096));
    EXPECT_TRUE(attributes_of(reader{}).read_only);
}

struct coarse : full {
    static constexpr std::uint32_t logical_block_size = 4096;
};

struct coarser : coarse {
    static constexpr std::uint32_t physical_block_size = 16384;
};

TEST(attributes, larger_sizes_follow_from_smaller_ones) {
    const disk_attributes one = attributes_of(coarse{});
    EXPECT_EQ(one.physical_block_size, 4096u);
    EXPECT_EQ(one.minimum_io_size, 4096u);
    EXPECT_EQ(one.optimal_io_size, 4096u);
    EXPECT_EQ(one.discard_granularity, 4096u);

    const disk_attributes two = attributes_of(coarser{});
    EXPECT_EQ(two.logical_block_size, 4096u);
    EXPECT_EQ(two.minimum_io_size, 16384u);
    EXPECT_EQ(two.optimal_io_size, 16384u);
    EXPECT_EQ(two.discard_granularity, 16384u);
}

TEST(attributes, of_a_cache_that_may_be_off_follow_the_backend) {
    struct choosy : full {
        bool on;
        explicit choosy(bool is_on) : on{is_on} {}
        bool volatile_cache() const noexcept { return on; }
    };
    EXPECT_TRUE(attributes_of(choosy{true}).volatile_cache);
    EXPECT_FALSE(attributes_of(choosy{false}).volatile_cache);
}

struct boaster : least {
    static constexpr std::uint64_t max_discard_size = 1u << 20;
    static constexpr std::uint64_t max_write_zeroes_size = 1u << 20;
};

TEST(attributes, limits_without_their_function_offer_nothing) {
    const disk_attributes disk = attributes_of(boaster{});
    EXPECT_FALSE(disk.discards);
    EXPECT_EQ(disk.max_discard_size, 0u);
    EXPECT_EQ(disk.max_write_zeroes_size, 0u);
}

TEST(attributes, of_a_final_class_are_seen) {
    EXPECT_TRUE(attributes_of(last_of_its_kind{}).rotational);
    EXPECT_TRUE(attributes_of(last_of_its_kind{}).discards);
}

// ---------------------------------------------------------------- asynchronous backends

using bytes = std::span<std::byte>;
using const_bytes = std::span<const std::byte>;
using ublk::io;
using ublk::registered_buffer;
using ublk::task;
using ublk::user_copy;

struct later {
    std::uint64_t size() const noexcept { return 1u << 20; }
    task read(io&, const request&, bytes) { return std::errc::no_link; }
    task write(io&, const request&, const_bytes) { return std::errc::no_link; }
    task flush(io&, const request&) { return std::errc::no_link; }
    task discard(io&, const request&) { return std::errc::no_link; }
    task write_zeroes(io&, const request&) { return std::errc::no_link; }
};
struct only_flushes_later : least {
    task flush(io&, const request&) { return ublk::ok; }
};
struct by_position {
    std::uint64_t size() const noexcept { return 1u << 20; }
    result read(const request&, user_copy) noexcept { return ublk::ok; }
    result write(const request&, user_copy) noexcept { return ublk::ok; }
};
struct by_buffer {
    static constexpr unsigned operations_in_flight = 3;
    static constexpr std::size_t task_bytes = 4096;
    std::uint64_t size() const noexcept { return 1u << 20; }
    task read(io&, const request&, registered_buffer) { return ublk::ok; }
    task write(io&, const request&, registered_buffer) { return ublk::ok; }
};
struct by_both : by_buffer, least {
    using by_buffer::read, least::read, by_buffer::write, least::write;
    std::uint64_t size() const noexcept { return 1u << 20; }
};
struct with_wishes : least {
    ublk::registered_file one, two;
    static constexpr ublk::data_path preferred_path = ublk::data_path::copy;
    std::vector<const ublk::registered_file*> ring_files() const { return {&two, &one}; }
};
struct reads_buffers {
    static constexpr bool read_only = true;
    std::uint64_t size() const noexcept { return 1u << 20; }
    task read(io&, const request&, registered_buffer) { return ublk::ok; }
};
struct get_data_state : least {
    bytes memory_for(const request&) noexcept { return {}; }
};

static_assert(ublk::backend<later> && ublk::check_backend<later>());
static_assert(ublk::backend<only_flushes_later> && ublk::check_backend<only_flushes_later>());
static_assert(ublk::backend<by_position> && ublk::check_backend<by_position>());
static_assert(ublk::backend<by_buffer> && ublk::check_backend<by_buffer>());
static_assert(ublk::backend<by_both> && ublk::check_backend<by_both>());
static_assert(ublk::backend<reads_buffers> && ublk::check_backend<reads_buffers>());
static_assert(ublk::backend<get_data_state> && ublk::check_backend<get_data_state>());

static_assert(ublk::accepts<later, bytes> && !ublk::accepts<later, user_copy>);
static_assert(ublk::accepts<by_position, user_copy> && !ublk::accepts<by_position, bytes>);
static_assert(ublk::accepts<by_both, bytes> && ublk::accepts<by_both, registered_buffer>);
static_assert(ublk::accepts<reads_buffers, registered_buffer>);
static_assert(ublk::detail::gets_data<get_data_state> && !ublk::detail::gets_data<least>);

// Of one payload and not of another; flush and its like count for all.
static_assert(ublk::asynchronous<later, bytes> && !ublk::asynchronous<least, bytes>);
static_assert(ublk::asynchronous<by_both, registered_buffer> &&
              !ublk::asynchronous<by_both, bytes>);
static_assert(ublk::asynchronous<only_flushes_later, bytes>);

TEST(attributes, follow_from_asynchronous_functions_as_well) {
    const disk_attributes disk = attributes_of(later{});
    EXPECT_TRUE(disk.volatile_cache);
    EXPECT_TRUE(disk.discards);
    EXPECT_EQ(disk.max_discard_size, bio_max);
    EXPECT_EQ(disk.max_write_zeroes_size, bio_max);
    EXPECT_TRUE(attributes_of(only_flushes_later{}).volatile_cache);
    EXPECT_FALSE(attributes_of(only_flushes_later{}).discards);
}

TEST(attributes, say_which_path_and_files_a_backend_would_like) {
    const with_wishes asking;
    EXPECT_EQ(attributes_of(asking).preferred_path, ublk::data_path::copy);
    EXPECT_EQ(attributes_of(asking).ring_files,
              (std::vector<const ublk::registered_file*>{&asking.two, &asking.one}));
    EXPECT_EQ(attributes_of(least{}).preferred_path, std::nullopt);
    EXPECT_TRUE(attributes_of(least{}).ring_files.empty());
}

TEST(asynchronous_backend, says_how_much_its_requests_need_or_gets_the_documented_fallback) {
    EXPECT_EQ(ublk::operations_in_flight<by_buffer>, 3u);
    EXPECT_EQ(ublk::task_bytes<by_buffer>, 4096u);
    EXPECT_EQ(ublk::operations_in_flight<later>, 1u);
    EXPECT_EQ(ublk::task_bytes<later>, 2048u);
}

// ---------------------------------------------------------------- dispatch

std::array<std::byte, 1024> payload;

request asking(std::uint32_t op_flags) {
    return request{uapi::io_desc{op_flags, 2, 0, 0}, ublk::queue_id{0}, ublk::tag{0}};
}
request asking(uapi::op op_code) {
    return asking(static_cast<std::uint32_t>(op_code));
}

// Says which function was called.
struct teller {
    std::string called{};
    std::size_t bytes = 0;
    std::uint64_t size() const noexcept { return 1; }
    result read(const request&, std::span<std::byte> out) {
        bytes = out.size();
        return tell("read");
    }
    result write(const request&, std::span<const std::byte> in) {
        bytes = in.size();
        return tell("write");
    }
    result flush(const request&) { return tell("flush"); }
    result discard(const request&) { return tell("discard"); }
    result write_zeroes(const request&) { return tell("write_zeroes"); }
    result tell(const char* name) {
        called += name;
        return std::errc::no_link;  // an answer that nothing else gives
    }
};

TEST(dispatch, calls_the_function_of_the_operation) {
    for (const auto& [op, name] : {std::pair{uapi::op::read, "read"},
                                   {uapi::op::write, "write"},
                                   {uapi::op::flush, "flush"},
                                   {uapi::op::discard, "discard"},
                                   {uapi::op::write_zeroes, "write_zeroes"}}) {
        teller b;
        EXPECT_EQ(ublk::detail::dispatch(b, asking(op), payload).error(), ENOLINK);
        EXPECT_EQ(b.called, name);
        const bool data = op == uapi::op::read || op == uapi::op::write;
        EXPECT_EQ(b.bytes, data ? payload.size() : 0);
    }
}

TEST(dispatch, looks_at_the_operation_without_its_flags) {
    teller b;
    (void)ublk::detail::dispatch(
        b, asking(0xffffff00 | static_cast<std::uint32_t>(uapi::op::discard)), payload);
    EXPECT_EQ(b.called, "discard");
}

TEST(dispatch, refuses_every_other_operation) {
    teller b;
    for (unsigned op = 0; op < 256; ++op) {
        if (op <= 3 || op == 5) {
            continue;
        }
        EXPECT_EQ(ublk::detail::dispatch(b, asking(op), payload).error(), EOPNOTSUPP) << op;
    }
    EXPECT_EQ(b.called, "");
}

TEST(dispatch, answers_for_what_a_backend_does_not_have) {
    least b;
    EXPECT_TRUE(
        ublk::detail::dispatch(b, asking(uapi::op::flush), payload).ok());  // nothing is volatile
    EXPECT_EQ(ublk::detail::dispatch(b, asking(uapi::op::discard), payload).error(), EOPNOTSUPP);
    EXPECT_EQ(ublk::detail::dispatch(b, asking(uapi::op::write_zeroes), payload).error(),
              EOPNOTSUPP);
}

TEST(dispatch, refuses_writes_to_a_backend_that_only_reads) {
    reader b;
    EXPECT_TRUE(ublk::detail::dispatch(b, asking(uapi::op::read), payload).ok());
    EXPECT_EQ(ublk::detail::dispatch(b, asking(uapi::op::write), payload).error(), EPERM);
}

struct thrower {
    std::uint64_t size() const { return 1; }
    result read(const request&, std::span<std::byte>) { throw std::runtime_error{"no"}; }
    result write(const request&, std::span<const std::byte>) { throw 1; }
    result flush(const request&) { throw std::errc::no_space_on_device; }
    result discard(const request&) { throw std::bad_alloc{}; }
    result write_zeroes(const request&) { throw "no"; }
};

TEST(dispatch, turns_whatever_is_thrown_into_eio) {
    thrower b;
    for (const auto op : {uapi::op::read, uapi::op::write, uapi::op::flush, uapi::op::discard,
                          uapi::op::write_zeroes}) {
        EXPECT_EQ(ublk::detail::dispatch(b, asking(op), payload).error(), EIO);
    }
    std::vector<uapi::op> told;
    const auto note = [&](const request& r) { told.push_back(r.op()); };
    for (const auto op : {uapi::op::read, uapi::op::write, uapi::op::flush, uapi::op::discard,
                          uapi::op::write_zeroes}) {
        EXPECT_EQ(ublk::detail::dispatch(b, asking(op), payload, note).error(), EIO);
        EXPECT_EQ(told.back(), op);
    }
    EXPECT_EQ(told.size(), 5u);
    const request r = asking(uapi::op::read);
    static_assert(noexcept(ublk::detail::dispatch(b, r, std::span<std::byte>{})));
}

// What decides whether there is a landing pad: `guarded` asks the call itself.
TEST(dispatch, guards_only_what_may_throw) {
    const auto plain = []() noexcept -> result { return std::errc::no_link; };
    const auto risky = []() -> result { throw 1; };
    static_assert(noexcept(plain()) && !noexcept(risky()));
    const request r = asking(uapi::op::read);
    int thrown = 0;
    const auto told = [&](const request&) { ++thrown; };
    EXPECT_EQ(ublk::detail::guarded(told, r, plain).error(), ENOLINK);
    EXPECT_EQ(thrown, 0);
    EXPECT_EQ(ublk::detail::guarded(told, r, risky).error(), EIO);
    EXPECT_EQ(thrown, 1);
}

// ---------------------------------------------------------------- dispatch, later

// Some functions answer now, the others later, and payloads differ.
struct mixed {
    std::string called{};
    std::uint64_t size() const noexcept { return 1; }
    result read(const request&, bytes) { return tell("read by span"); }
    task read(io&, const request&, registered_buffer) { return tell("read by buffer"); }
    result write(const request&, const_bytes) { return tell("write by span"); }
    task write(io&, const request&, registered_buffer) { return tell("write by buffer"); }
    task flush(io&, const request&) { return tell("flush"); }
    result discard(const request&) { return tell("discard"); }
    task write_zeroes(io&, const request&) { throw 1; }
    result tell(const char* name) {
        called = name;
        return std::errc::no_link;
    }
};

struct one_tag {
    ublk::detail::runtime_queue home{[](const void*) noexcept {}, nullptr};
    std::array<std::max_align_t, 64> memory;
    io with{home, std::as_writable_bytes(std::span{memory})};
};

TEST(dispatch_later, calls_the_function_of_the_operation_and_of_the_payload) {
    one_tag here;
    mixed b;
    const registered_buffer buffer{0, 0, 1024};
    const auto expect = [&](uapi::op op, auto where, const char* name) {
        const request r = asking(op);
        const task answer = ublk::detail::dispatch(b, here.with, r, where);
        EXPECT_TRUE(answer.done());
        EXPECT_EQ(answer.answer().error(), ENOLINK);
        EXPECT_EQ(b.called, name);
    };
    expect(uapi::op::read, bytes{payload}, "read by span");
    expect(uapi::op::write, bytes{payload}, "write by span");
    expect(uapi::op::read, buffer, "read by buffer");
    expect(uapi::op::write, buffer, "write by buffer");
    expect(uapi::op::flush, buffer, "flush");
    expect(uapi::op::discard, bytes{payload}, "discard");
}

TEST(dispatch_later, turns_what_is_thrown_before_there_is_a_task_into_eio) {
    one_tag here;
    mixed b;
    const request r = asking(uapi::op::write_zeroes);
    EXPECT_EQ(ublk::detail::dispatch(b, here.with, r, bytes{payload}).answer().error(), EIO);
}

TEST(dispatch_later, answers_for_what_a_backend_does_not_have) {
    one_tag here;
    by_buffer b;
    reads_buffers reads;
    const registered_buffer buffer{0, 0, 1024};
    const auto answer = [&](auto& of, uapi::op op) {
        const request r = asking(op);
        return ublk::detail::dispatch(of, here.with, r, buffer).answer();
    };
    EXPECT_TRUE(answer(b, uapi::op::flush).ok());
    EXPECT_EQ(answer(b, uapi::op::discard).error(), EOPNOTSUPP);
    EXPECT_EQ(answer(b, uapi::op::write_zeroes).error(), EOPNOTSUPP);
    EXPECT_EQ(answer(b, uapi::op::zone_open).error(), EOPNOTSUPP);
    EXPECT_EQ(answer(reads, uapi::op::write).error(), EPERM);
}

}  // namespace
}  // namespace backend_test
