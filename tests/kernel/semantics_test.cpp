// SPDX-License-Identifier: MIT

// What a client asks of the disk and what reaches the backend, through the real driver.

#include "backends.hpp"
#include "client.hpp"

#include <ublk/backends/memory.hpp>
#include <ublk/backends/null.hpp>
#include <ublk/ublk.hpp>

#include <array>
#include <map>
#include <numeric>

namespace ublk_test {
namespace semantics_test {
namespace {

using ublk::uapi::op;

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;

template <class Device>
[[nodiscard]] std::string queue_attribute(const disk<Device>& d, const std::string& name) {
    return read_line("/sys/block/ublkb" + std::to_string(d->id()) + "/queue/" + name);
}

/// Whether the requests of one kind are exactly the bytes from `offset` on, in whatever pieces.
[[nodiscard]] testing::AssertionResult covers(std::vector<event> events, std::uint64_t offset,
                                              std::uint64_t length, std::uint64_t most) {
    std::sort(events.begin(), events.end(),
              [](const event& a, const event& b) { return a.offset < b.offset; });
    std::uint64_t at = offset;
    for (const event& e : events) {
        if (e.offset != at || e.length == 0 || e.length > most) {
            return testing::AssertionFailure()
                   << e << " where a request at " << at << " of at most " << most << " is due";
        }
        at += e.length;
    }
    return at == offset + length ? testing::AssertionSuccess()
                                 : testing::AssertionFailure()
                                       << events.size() << " requests end at " << at
                                       << " instead of " << offset + length;
}

/// Position of the first event that matches, or how many there are.
template <class Matches>
[[nodiscard]] std::size_t first(const std::vector<event>& events, Matches matches) {
    return static_cast<std::size_t>(std::find_if(events.begin(), events.end(), matches) -
                                    events.begin());
}

class semantics : public on_a_clean_system {};
class flushes : public semantics {};
class ranges : public semantics {};
class failures : public semantics {};
class sizes : public semantics {};

// ---------------------------------------------------------------- flush and FUA

TEST_F(flushes, fsync_of_a_buffered_write_reaches_the_backend_as_a_flush_after_the_write) {
    const flushing_ram backend{4 * mib};
    const auto d = start_disk(backend, small());
    EXPECT_EQ(queue_attribute(d, "write_cache"), "write back");
    client file{d->path(), O_RDWR};
    ASSERT_EQ(file.open_error(), 0);
    backend.forget_events();
    ASSERT_EQ(file.write(8192, pattern(8192, 4096, 1)), 0);
    ASSERT_EQ(file.fsync(), 0);
    const std::vector<event> seen = backend.events();
    const std::size_t write = first(seen, [](const event& e) { return e.op == op::write; });
    const std::size_t flush = first(seen, [](const event& e) { return e.op == op::flush; });
    ASSERT_LT(write, seen.size());
    ASSERT_LT(flush, seen.size());
    EXPECT_LT(write, flush);
    EXPECT_EQ(seen[flush].length, 0u);
    EXPECT_EQ(backend.count(op::flush), 1u);
}

TEST_F(flushes, a_write_to_a_file_opened_with_o_sync_is_followed_by_a_flush) {
    const flushing_ram backend{4 * mib};
    const auto d = start_disk(backend, small());
    client file{d->path(), O_RDWR | O_SYNC};
    ASSERT_EQ(file.open_error(), 0);
    backend.forget_events();
    ASSERT_EQ(file.write(0, pattern(0, 4096, 1)), 0);
    const std::vector<event> seen = backend.events();
    const std::size_t write = first(seen, [](const event& e) { return e.op == op::write; });
    const std::size_t flush = first(seen, [](const event& e) { return e.op == op::flush; });
    ASSERT_LT(flush, seen.size());
    EXPECT_LT(write, flush);
}

TEST_F(flushes, a_backend_without_flush_is_write_through_and_never_gets_one) {
    const ram backend{4 * mib};
    const auto d = start_disk(backend, small());
    EXPECT_EQ(queue_attribute(d, "write_cache"), "write through");
    client file{d->path(), O_RDWR | O_SYNC};
    ASSERT_EQ(file.open_error(), 0);
    EXPECT_EQ(file.write(0, pattern(0, 4096, 1)), 0);
    EXPECT_EQ(file.fsync(), 0);
    client direct{d->path(), O_RDWR | O_DIRECT};
    EXPECT_EQ(direct.write(4096, pattern(4096, 4096, 1), any_cpu, RWF_DSYNC), 0);
    EXPECT_EQ(backend.count(op::flush), 0u);
    EXPECT_EQ(backend.count(op::write), 2u);
}

TEST_F(flushes, a_durable_write_has_the_fua_flag_for_a_backend_that_knows_fua) {
    const fua_ram backend{4 * mib};
    const auto d = start_disk(backend, small());
    EXPECT_EQ(queue_attribute(d, "fua"), "1");
    client file{d->path()};
    ASSERT_EQ(file.open_error(), 0);
    backend.forget_events();
    ASSERT_EQ(file.write(4096, pattern(4096, 4096, 1), any_cpu, RWF_DSYNC), 0);
    ASSERT_EQ(file.write(8192, pattern(8192, 4096, 1)), 0);
    const std::vector<event> writes = backend.events(op::write);
    ASSERT_EQ(writes.size(), 2u);
    EXPECT_TRUE(writes[0].fua()) << writes[0];
    EXPECT_FALSE(writes[1].fua()) << writes[1];
}

TEST_F(flushes, a_durable_write_is_followed_by_a_flush_for_a_backend_without_fua) {
    const flushing_ram backend{4 * mib};
    const auto d = start_disk(backend, small());
    EXPECT_EQ(queue_attribute(d, "fua"), "0");
    client file{d->path()};
    ASSERT_EQ(file.open_error(), 0);
    backend.forget_events();
    ASSERT_EQ(file.write(4096, pattern(4096, 4096, 1), any_cpu, RWF_DSYNC), 0);
    std::vector<event> seen = backend.events();
    std::erase_if(seen, [](const event& e) { return e.op == op::read; });  // the partition scan's
    ASSERT_GE(seen.size(), 2u);
    EXPECT_EQ(seen[0].op, op::write);
    EXPECT_FALSE(seen[0].fua()) << seen[0];
    EXPECT_EQ(seen[1].op, op::flush);
}

TEST_F(flushes, a_flush_that_fails_makes_fsync_fail) {
    const injector fault;
    const flushing_ram backend{4 * mib, fault};
    const auto d = start_disk(backend, small());
    client file{d->path()};
    ASSERT_EQ(file.open_error(), 0);
    fault.arm(op::flush, 0, 1, EIO);
    EXPECT_EQ(file.fsync(), EIO);
    fault.disarm();
    EXPECT_EQ(file.fsync(), 0);
}

// ---------------------------------------------------------------- discard and write zeroes

TEST_F(ranges, a_discard_arrives_with_its_exact_range_in_pieces_within_the_limit) {
    const trimming_ram backend{16 * mib, 1 * mib};
    const auto d = start_disk(backend, small());
    EXPECT_EQ(queue_attribute(d, "discard_max_bytes"), std::to_string(1 * mib));
    client file{d->path()};
    ASSERT_EQ(file.open_error(), 0);
    ASSERT_EQ(file.write(1 * mib - 4096, pattern(0, 8192, 3)), 0);
    ASSERT_EQ(file.write(5 * mib, pattern(5 * mib, 4096, 3)), 0);
    ASSERT_EQ(file.discard(1 * mib, 4 * mib), 0);
    EXPECT_TRUE(covers(backend.events(op::discard), 1 * mib, 4 * mib, 1 * mib));
    bytes back(4096);
    ASSERT_EQ(file.read(1 * mib, back), 0);
    EXPECT_TRUE(all_zero(back));
    EXPECT_TRUE(holds(file, 5 * mib, pattern(5 * mib, 4096, 3)));
    backend.forget_events();
    ASSERT_EQ(file.discard(512, 512), 0);
    EXPECT_TRUE(covers(backend.events(op::discard), 512, 512, 512));
}

TEST_F(ranges, a_discard_of_a_large_disk_is_not_split_without_need) {
    const trimming_ram backend{64 * mib, 0xffffffff};
    const auto d = start_disk(backend, small());
    client file{d->path()};
    ASSERT_EQ(file.open_error(), 0);
    ASSERT_EQ(file.discard(0, 64 * mib), 0);
    EXPECT_TRUE(covers(backend.events(op::discard), 0, 64 * mib, 64 * mib));
    EXPECT_EQ(backend.count(op::discard), 1u);
}

TEST_F(ranges, blkzeroout_and_zero_range_keep_the_blocks_and_punch_hole_gives_them_back) {
    const trimming_ram backend{16 * mib, 1 * mib};
    const auto d = start_disk(backend, small());
    client file{d->path()};
    ASSERT_EQ(file.open_error(), 0);
    struct way {
        const char* name;
        std::function<int(std::uint64_t, std::uint64_t)> call;
        bool no_unmap;
    };
    const way ways[] = {
        {"BLKZEROOUT", [&](auto o, auto n) { return file.zero_out(o, n); }, true},
        {"ZERO_RANGE", [&](auto o, auto n) { return file.zero_range(o, n); }, true},
        {"PUNCH_HOLE", [&](auto o, auto n) { return file.punch_hole(o, n); }, false},
    };
    for (const way& w : ways) {
        SCOPED_TRACE(w.name);
        const bytes full = pattern(2 * mib, 256 * kib, 4);
        ASSERT_EQ(file.write(2 * mib, full), 0);
        backend.forget_events();
        ASSERT_EQ(w.call(2 * mib + 4096, 3 * mib), 0);
        const std::vector<event> seen = backend.events(op::write_zeroes);
        EXPECT_TRUE(covers(seen, 2 * mib + 4096, 3 * mib, 1 * mib));
        for (const event& e : seen) {
            EXPECT_EQ(e.no_unmap(), w.no_unmap) << e;
        }
        EXPECT_EQ(backend.count(op::write), 0u);
        bytes back(256 * kib);
        ASSERT_EQ(file.read(2 * mib, back), 0);
        EXPECT_EQ(difference(std::span{back}.first(4096), std::span{full}.first(4096)), "");
        EXPECT_TRUE(all_zero(std::span{back}.subspan(4096)));
    }
}

TEST_F(ranges, the_memory_backend_reads_zeroes_where_it_was_discarded_or_zeroed) {
    const auto d = start_disk(ublk::backends::memory{16 * mib}, small());
    client file{d->path()};
    ASSERT_EQ(file.open_error(), 0);
    const bytes full = pattern(0, 1 * mib, 5);
    ASSERT_EQ(file.write(0, full), 0);
    ASSERT_TRUE(holds(file, 0, full));
    ASSERT_EQ(file.discard(4096, 128 * kib), 0);
    ASSERT_EQ(file.zero_out(512 * kib + 512, 9 * 512), 0);  // parts of pages at both ends
    ASSERT_EQ(file.punch_hole(768 * kib, 4096), 0);
    bytes wanted = full;
    std::fill_n(wanted.begin() + 4096, 128 * kib, std::byte{0});
    std::fill_n(wanted.begin() + 512 * kib + 512, 9 * 512, std::byte{0});
    std::fill_n(wanted.begin() + 768 * kib, 4096, std::byte{0});
    EXPECT_TRUE(holds(file, 0, wanted));
}

TEST_F(ranges, a_backend_without_discard_refuses_it_and_zeroes_are_written_as_data) {
    const ram backend{4 * mib};
    const auto d = start_disk(backend, small());
    client file{d->path()};
    ASSERT_EQ(file.open_error(), 0);
    ASSERT_EQ(file.write(0, pattern(0, 64 * kib, 6)), 0);
    backend.forget_events();
    EXPECT_EQ(file.discard(0, 64 * kib), EOPNOTSUPP);
    EXPECT_EQ(file.punch_hole(0, 64 * kib), EOPNOTSUPP);
    EXPECT_TRUE(backend.events().empty());
    EXPECT_EQ(file.zero_out(0, 64 * kib), 0);
    EXPECT_TRUE(covers(backend.events(op::write), 0, 64 * kib, 128 * kib));
    EXPECT_EQ(backend.events().size(), backend.count(op::write));
    EXPECT_TRUE(all_zero(backend.store().first(64 * kib)));
}

// ---------------------------------------------------------------- refusals

TEST_F(failures, a_read_only_disk_refuses_writers_and_no_write_reaches_the_backend) {
    frozen_ram backend{4 * mib};
    const bytes content = pattern(0, 64 * kib, 7);
    std::copy(content.begin(), content.end(), backend.store().begin());
    const auto d = start_disk(backend, small());
    client reader{d->path(), O_RDONLY | O_DIRECT};
    ASSERT_EQ(reader.open_error(), 0);
    bool frozen = false;
    ASSERT_EQ(reader.read_only(frozen), 0);
    EXPECT_TRUE(frozen);
    EXPECT_TRUE(holds(reader, 0, content));
    client writer{d->path()};
    const int code =
        writer.open_error() != 0 ? writer.open_error() : writer.write(0, pattern(0, 4096, 8));
    EXPECT_TRUE(code == EACCES || code == EPERM || code == EROFS) << "errno " << code;
    EXPECT_EQ(backend.count(op::write), 0u);
    EXPECT_EQ(difference(backend.store().first(content.size()), content), "");
}

TEST_F(failures, every_errno_of_a_backend_reaches_the_client_as_the_block_layer_knows_it) {
    const injector fault;
    const ram backend{4 * mib, fault};
    const auto d = start_disk(backend, small());
    client file{d->path()};
    ASSERT_EQ(file.open_error(), 0);
    // What the block layer has a status for; everything else is EIO.
    const std::set<int> spoken{EOPNOTSUPP, ETIMEDOUT, ENOSPC, ENOLINK, EREMOTEIO, EBADE,
                               ENODATA,    EILSEQ,    ENOMEM, EBUSY,   ENODEV,    ETIME};
    const std::set<int> others{EIO,    EPERM,  ENOENT,   EACCES, EFAULT,       ENXIO,    EROFS,
                               ENOSYS, ESTALE, ENOTCONN, EDQUOT, ECONNRESET,   EMFILE,   EBADF,
                               EAGAIN, EINTR,  EREMCHG,  EPIPE,  ENAMETOOLONG, ECANCELED};
    std::set<int> all = spoken;
    all.insert(others.begin(), others.end());
    for (const int code : all) {
        SCOPED_TRACE(std::strerror(code));
        const int wanted = spoken.contains(code) ? code : EIO;
        bytes buffer(4096);
        fault.arm(op::read, 1 * mib, 4096, code);
        EXPECT_EQ(file.read(1 * mib, buffer), wanted) << "reading";
        fault.arm(op::write, 1 * mib, 4096, code);
        EXPECT_EQ(file.write(1 * mib, buffer), wanted) << "writing";
    }
    // Kernels differ in these: some have a status of their own for them.
    for (const int code : {EINVAL, ETOOMANYREFS, EOVERFLOW}) {
        SCOPED_TRACE(std::strerror(code));
        fault.arm(op::write, 1 * mib, 4096, code);
        const int seen = file.write(1 * mib, pattern(0, 4096, 9));
        EXPECT_TRUE(seen == code || seen == EIO) << "errno " << seen;
    }
    fault.disarm();
    EXPECT_EQ(file.write(1 * mib, pattern(1 * mib, 4096, 9)), 0);
    EXPECT_TRUE(holds(file, 1 * mib, pattern(1 * mib, 4096, 9)));
}

TEST_F(failures, a_failed_request_fails_neither_its_neighbours_nor_the_rest_of_its_own_disk) {
    const injector fault;
    const ram backend{4 * mib, fault};
    const auto d = start_disk(backend, small());
    client file{d->path()};
    ASSERT_EQ(file.open_error(), 0);
    const bytes content = pattern(0, 1 * mib, 10);
    ASSERT_EQ(file.write(0, content), 0);
    fault.arm(op::read, 512 * kib, 512, ENODATA);
    bytes back(1 * mib);
    EXPECT_EQ(file.read(0, back), ENODATA) << "one of its pieces fails";
    EXPECT_TRUE(holds(file, 0, std::span{content}.first(256 * kib)));
    EXPECT_TRUE(holds(file, 512 * kib + 512, std::span{content}.subspan(512 * kib + 512, 4096)));
}

TEST_F(failures, what_a_backend_throws_is_eio_for_its_request_and_the_device_serves_on) {
    const ram backend{4 * mib, throwing(1 * mib, 64 * kib)};
    const auto d = start_disk(backend, small());
    client file{d->path()};
    ASSERT_EQ(file.open_error(), 0);
    bytes buffer(4096);
    for (int i = 0; i < 20; ++i) {  // more often than there are tags
        EXPECT_EQ(file.read(1 * mib, buffer), EIO);
        EXPECT_EQ(file.write(1 * mib, buffer), EIO);
    }
    EXPECT_EQ(file.write(0, pattern(0, 4096, 11)), 0);
    EXPECT_TRUE(holds(file, 0, pattern(0, 4096, 11)));
    EXPECT_EQ(d->state(), ublk::device_state::live);
}

// ---------------------------------------------------------------- sizes

TEST_F(sizes, requests_from_a_sector_to_a_mebibyte_at_both_ends_of_the_disk_are_exact) {
    constexpr std::uint64_t size = 4 * mib;
    const ram backend{size};
    const auto d = start_disk(backend, small());
    client file{d->path()};
    ASSERT_EQ(file.open_error(), 0);
    const std::uint64_t most = d->info().max_io_bytes;
    ASSERT_EQ(most, 128 * kib);
    std::uint64_t seed = 20;
    for (const std::uint64_t length : {std::uint64_t{512}, 1 * kib, 4 * kib, 9 * 512 * 1ul,
                                       64 * kib, 128 * kib, 128 * kib + 512, 260 * kib, 1 * mib}) {
        for (const std::uint64_t offset : {std::uint64_t{0}, 3 * 512 * 1ul, size - length}) {
            SCOPED_TRACE(std::to_string(length) + " bytes at " + std::to_string(offset));
            const bytes content = pattern(offset, length, ++seed);
            backend.forget_events();
            ASSERT_EQ(file.write(offset, content), 0);
            EXPECT_TRUE(covers(backend.events(op::write), offset, length, most));
            EXPECT_EQ(difference(backend.store().subspan(offset, length), content), "");
            backend.forget_events();
            EXPECT_TRUE(holds(file, offset, content));
            EXPECT_TRUE(covers(backend.events(op::read), offset, length, most));
        }
    }
    bytes sector(512);
    EXPECT_EQ(file.read(size, sector), short_transfer) << "the end of the disk";
    EXPECT_EQ(file.write(size, sector), ENOSPC);
}

TEST_F(sizes, the_largest_request_that_the_driver_knows_is_served_whole) {
    ublk::options requested = small(1);
    requested.depth = 2;
    requested.max_io_bytes = 32u << 20;
    const ram backend{64 * mib};
    const auto d = start_disk(backend, requested);
    ASSERT_EQ(d->info().max_io_bytes, 32 * mib);
    ASSERT_TRUE(write_text("/sys/block/ublkb" + std::to_string(d->id()) + "/queue/max_sectors_kb",
                           queue_attribute(d, "max_hw_sectors_kb")));
    client file{d->path()};
    ASSERT_EQ(file.open_error(), 0);
    const bytes content = pattern(0, 16 * mib, 21);
    ASSERT_EQ(file.write(8 * mib, content), 0);
    EXPECT_TRUE(covers(backend.events(op::write), 8 * mib, 16 * mib, 32 * mib));
    EXPECT_EQ(difference(backend.store().subspan(8 * mib, 16 * mib), content), "");
    EXPECT_TRUE(holds(file, 8 * mib, content));
}

TEST_F(sizes, buffered_reads_and_writes_at_any_byte_are_exact) {
    constexpr std::size_t size = 2 * mib;
    const ram backend{size};
    auto d = start_disk(backend, small());
    bytes model(size);
    client file{d->path(), O_RDWR};
    ASSERT_EQ(file.open_error(), 0);
    std::uint64_t x = 12345;
    for (std::uint64_t i = 0; i < 60; ++i) {
        x = x * 6364136223846793005ull + 1442695040888963407ull;
        const std::size_t length = 1 + (x >> 33) % 9000;
        const std::size_t offset = (x >> 17) % (size - length);
        const bytes content = pattern(offset, length, i);
        ASSERT_EQ(file.write(offset, content), 0);
        std::copy(content.begin(), content.end(),
                  model.begin() + static_cast<std::ptrdiff_t>(offset));
        if (i % 10 == 9) {
            ASSERT_EQ(file.fsync(), 0);
        }
    }
    EXPECT_TRUE(holds(file, 0, model));
    ASSERT_EQ(file.fsync(), 0);
    client direct{d->path()};
    EXPECT_TRUE(holds(direct, 0, model));
    EXPECT_EQ(difference(backend.store(), model), "");
}

TEST_F(sizes, a_null_disk_reads_as_zeroes_even_right_after_writes_through_the_same_tags) {
    ublk::options requested = small(1);
    requested.depth = 2;
    const auto d = start_disk(ublk::backends::null{16 * mib}, requested);
    client file{d->path()};
    ASSERT_EQ(file.open_error(), 0);
    for (std::uint64_t i = 0; i < 8; ++i) {
        const std::uint64_t at = i * mib;
        ASSERT_EQ(file.write(at, bytes(256 * kib, std::byte{0xff})), 0);
        bytes back(i % 2 == 0 ? 256 * kib : 4096);
        ASSERT_EQ(file.read(at, back), 0);
        EXPECT_TRUE(all_zero(back));
    }
}

TEST_F(sizes, blocks_of_4096_bytes_are_the_unit_of_direct_requests_and_do_not_change_the_size) {
    const block_ram backend{8 * mib, 4096};
    const auto d = start_disk(backend, small());
    EXPECT_EQ(queue_attribute(d, "logical_block_size"), "4096");
    EXPECT_EQ(read_line("/sys/block/ublkb" + std::to_string(d->id()) + "/size"),
              std::to_string(8 * mib / 512));
    client file{d->path()};
    ASSERT_EQ(file.open_error(), 0);
    std::uint64_t size = 0;
    int block = 0;
    ASSERT_EQ(file.size(size), 0);
    ASSERT_EQ(file.logical_block_size(block), 0);
    EXPECT_EQ(size, 8 * mib);
    EXPECT_EQ(block, 4096);
    bytes sector(512);
    EXPECT_EQ(file.read(0, sector), EINVAL);
    EXPECT_EQ(file.write(4096, sector), EINVAL);
    EXPECT_EQ(backend.count(op::write), 0u);
    for (const std::uint64_t offset : {std::uint64_t{0}, 4 * kib, 8 * mib - 256 * kib}) {
        const bytes content = pattern(offset, 256 * kib, 30);
        ASSERT_EQ(file.write(offset, content), 0);
        EXPECT_TRUE(holds(file, offset, content));
        EXPECT_EQ(difference(backend.store().subspan(offset, content.size()), content), "");
    }
}

// ---------------------------------------------------------------- policies

template <class QueuePolicy, class BatchPolicy>
struct policies {
    using queue_policy = QueuePolicy;
    using batch_policy = BatchPolicy;
};

template <class Policies>
class every_policy : public semantics {};

using all_policies =
    testing::Types<policies<ublk::per_cpu, ublk::each>, policies<ublk::per_cpu, ublk::per_wakeup>,
                   policies<ublk::per_cpu, ublk::up_to<4>>, policies<ublk::shared, ublk::each>,
                   policies<ublk::shared, ublk::per_wakeup>,
                   policies<ublk::shared, ublk::up_to<4>>>;

struct policy_names {
    template <class P>
    static std::string GetName(int) {
        const std::string queue =
            std::is_same_v<typename P::queue_policy, ublk::per_cpu> ? "per_cpu" : "shared";
        using batch = typename P::batch_policy;
        return queue + (std::is_same_v<batch, ublk::each>         ? "_each"
                        : std::is_same_v<batch, ublk::per_wakeup> ? "_per_wakeup"
                                                                  : "_up_to_4");
    }
};

TYPED_TEST_SUITE(every_policy, all_policies, policy_names);

/// Many requests at once from one CPU: `threads` of them take turns over the blocks.
void write_interleaved(client& file, std::uint64_t begin, std::uint64_t end, int cpu,
                       std::uint64_t seed) {
    constexpr std::size_t threads = 4;
    constexpr std::uint64_t block = 4 * kib;
    std::vector<meanwhile> crowd;
    for (std::uint64_t t = 0; t < threads; ++t) {
        crowd.emplace_back("a writer", [number = file.number(), begin, end, cpu, seed, t] {
            run_on(cpu);
            for (std::uint64_t at = begin + t * block; at < end; at += threads * block) {
                const bytes content = pattern(at, block, seed);
                if (::pwrite(number, content.data(), block, static_cast<off_t>(at)) !=
                    static_cast<ssize_t>(block)) {
                    throw std::runtime_error{"a write failed"};
                }
            }
        });
    }
    for (meanwhile& one : crowd) {
        one.end();
    }
}

TYPED_TEST(every_policy, what_one_cpu_writes_any_other_reads_with_any_number_of_queues) {
    constexpr std::uint64_t size = 1 * mib;
    for (const unsigned queues : {1u, 2u, 4u}) {
        SCOPED_TRACE(std::to_string(queues) + " queues");
        const ram backend{size};
        auto d = start_disk<typename TypeParam::queue_policy, typename TypeParam::batch_policy>(
            backend, small(queues));
        const ublk::device_info granted = d->info();
        EXPECT_EQ(granted.queues, std::min(queues, ublk::detail::online_cpus()));
        EXPECT_EQ(granted.threads, (std::is_same_v<typename TypeParam::queue_policy, ublk::shared>)
                                       ? 1u
                                       : granted.queues);
        client file{d->path()};
        ASSERT_EQ(file.open_error(), 0);
        const int cpus = static_cast<int>(std::min(ublk::detail::online_cpus(), 2u));
        for (int cpu = 0; cpu < cpus; ++cpu) {
            const int other = (cpu + 1) % cpus;
            const auto seed = static_cast<std::uint64_t>(100 * static_cast<int>(queues) + cpu);
            write_interleaved(file, 0, size / 2, cpu, seed);
            ASSERT_EQ(file.write(size / 2, pattern(size / 2, size / 2, seed), cpu), 0);
            EXPECT_TRUE(holds(file, 0, pattern(0, size, seed), other));
            EXPECT_TRUE(holds(file, 0, pattern(0, size, seed), cpu));
            EXPECT_EQ(difference(backend.store(), pattern(0, size, seed)), "");
        }
        std::set<std::uint16_t> used;
        for (const event& e : backend.events(op::write)) {
            used.insert(e.queue);
        }
        EXPECT_EQ(used.size(), granted.queues) << "every queue carried something";
    }
}

TYPED_TEST(every_policy, both_cpus_write_at_once_and_nothing_gets_mixed_up) {
    constexpr std::uint64_t size = 2 * mib;
    const ram backend{size};
    auto d = start_disk<typename TypeParam::queue_policy, typename TypeParam::batch_policy>(
        backend, small(2));
    client file{d->path()};
    ASSERT_EQ(file.open_error(), 0);
    const int last = ublk::detail::online_cpus() > 1 ? 1 : 0;
    // References: should a writer hang, the test fails and the others still end by themselves.
    meanwhile low{"the writer of the lower half",
                  [&] { write_interleaved(file, 0, size / 2, 0, 1); }};
    write_interleaved(file, size / 2, size, last, 2);
    low.end();
    EXPECT_TRUE(holds(file, 0, pattern(0, size / 2, 1), last));
    EXPECT_TRUE(holds(file, size / 2, pattern(size / 2, size / 2, 2), 0));
}

}  // namespace
}  // namespace semantics_test
}  // namespace ublk_test
