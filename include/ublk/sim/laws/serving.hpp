// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/durability.hpp>
#include <ublk/sim/laws/worlds.hpp>
#include <ublk/sim/seam.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <span>
#include <vector>

namespace ublk::inline v0::sim {

/// How a disk answers while all is well, or while its kernel is merely hostile.
template <class Composition>
class serving_laws : public ::testing::Test {
public:
    /// Clients at work on a started disk, then everything read once more.
    static void serve(const conditions& given, const habits& clients_do) {
        rig<Composition> r{given};
        r.start();
        {
            workload clients{r.in, r.server->id(), r.expected, clients_do};
            clients.run();
            if (clients_do.remembers) {
                clients.read_all();
            }
        }
        expect_clean(r);
    }

    [[nodiscard]] static habits usual() {
        habits given;
        given.requests = 60;
        given.remembers = specimen<typename Composition::backend>::remembers;
        return given;
    }
};
TYPED_TEST_SUITE_P(serving_laws);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(serving_laws);

/// The driver would refuse what it says of itself with a bare EINVAL, or believe it.
TYPED_TEST_P(serving_laws, its_attributes_are_valid) {
    const auto store = specimen<typename TypeParam::backend>::make();
    validate(attributes_of(*store), static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE)));
}

TYPED_TEST_P(serving_laws, it_starts_and_stops_without_a_trace) {
    in_many_worlds([](const conditions& given) {
        rig<TypeParam> r{given};
        for (int i = 0; i < 2; ++i) {
            const deadline began = r.in.on().tasks.now();
            r.start();
            r.server->stop();
            EXPECT_LT(r.in.on().tasks.now() - began, std::chrono::milliseconds{500})
                << "something waited for its deadline";
        }
        expect_clean(r);
    });
}

TYPED_TEST_P(serving_laws, it_reads_what_was_written) {
    in_many_worlds(
        [](const conditions& given) { TestFixture::serve(given, TestFixture::usual()); });
}

/// Every client works on the same few blocks, so that requests overlap all the time.
TYPED_TEST_P(serving_laws, it_bears_requests_that_overlap) {
    in_many_worlds([](const conditions& given) {
        habits crowded = TestFixture::usual();
        crowded.region = 24;
        TestFixture::serve(given, crowded);
    });
}

TYPED_TEST_P(serving_laws, it_bears_a_hostile_kernel) {
    in_many_worlds([](conditions given) {
        given.often = {.interrupted = 8,
                       .try_again = 16,
                       .reap_first = 16,
                       .short_submit = 3,
                       .idle_return = 8,
                       .short_transfer = 3,
                       .operation_again = 6,
                       .unregistered = 3};
        given.transfer_unit = sector_size;  // a block that is read while it is written stays whole
        given.switches = 2;
        given.completions = given.seed % 2 == 0 ? 2 : 0;
        TestFixture::serve(given, TestFixture::usual());
    });
}

/// Files answer with fewer bytes than were asked for, or not at all for now, as often as they like.
TYPED_TEST_P(serving_laws, it_goes_on_after_short_transfers) {
    in_many_worlds([](conditions given) {
        given.often.short_transfer = 2;
        given.often.operation_again = 4;
        habits alone = TestFixture::usual();
        alone.submitters = alone.in_flight = 1;
        TestFixture::serve(given, alone);
    });
}

/// What a flush or a write with FUA promised: for a disk that writes by its ring.
TYPED_TEST_P(serving_laws, its_flushes_are_durable) {
    in_many_worlds([](conditions given) {
        journal book;
        given.book = &book;
        habits careful = TestFixture::usual();
        careful.flushes = 8;
        careful.fua = 4;
        TestFixture::serve(given, careful);
        EXPECT_EQ(broken_promise(book), "");
    });
}

/// Single blocks and the largest transfers, at the begin and at the end of the disk.
TYPED_TEST_P(serving_laws, it_serves_its_edges) {
    in_many_worlds([](const conditions& given) {
        rig<TypeParam> r{given};
        r.start();
        {
            client disk{r.in, r.server->id()};
            const std::uint64_t block = disk.block_size();
            const std::uint64_t largest =
                std::min<std::uint64_t>(r.server->info().max_io_bytes, disk.size());
            for (const std::uint64_t length :
                 {block, largest, std::min(4 * largest, disk.size())}) {
                std::vector<std::byte> data(length, std::byte{0x5a});
                for (const std::uint64_t offset : {std::uint64_t{0}, disk.size() - length}) {
                    const int written = r.disk.read_only ? EPERM : 0;
                    using uapi::op;
                    EXPECT_EQ(disk.write(offset, data), written)
                        << in_words(op::write, offset, length);
                    EXPECT_EQ(disk.read(offset, data), 0) << in_words(op::read, offset, length);
                    if (r.disk.discards) {
                        EXPECT_EQ(disk.discard(offset, length), written)
                            << in_words(op::discard, offset, length);
                    }
                    if (r.disk.max_write_zeroes_size != 0) {
                        EXPECT_EQ(disk.write_zeroes(offset, length), written)
                            << in_words(op::write_zeroes, offset, length);
                    }
                }
            }
            EXPECT_EQ(disk.flush(), 0);
            std::vector<std::byte> beyond(block);
            EXPECT_EQ(disk.read(disk.size(), beyond), EIO);
        }
        expect_clean(r);
    });
}

/// A buffer comes to `read` with what others left in it; a client must not see that.
TYPED_TEST_P(serving_laws, it_fills_the_whole_of_what_is_read) {
    in_many_worlds([](const conditions& given) {
        rig<TypeParam> r{given};
        r.start();
        {
            client disk{r.in, r.server->id()};
            std::vector<std::byte> data(
                std::min<std::uint64_t>(r.server->info().max_io_bytes, disk.size()));
            EXPECT_EQ(disk.read(0, data), 0);
            const std::span<const std::byte> all{data};
            for (std::size_t at = 0; at + 64 <= all.size(); at += 64) {
                const auto piece = all.subspan(at, 64);
                ASSERT_FALSE(
                    std::all_of(piece.begin(), piece.end(), [](std::byte b) { return b == stale; }))
                    << "byte " << at << " and those after it were left as they were";
            }
        }
        expect_clean(r);
    });
}

REGISTER_TYPED_TEST_SUITE_P(serving_laws, its_attributes_are_valid,
                            it_starts_and_stops_without_a_trace, it_reads_what_was_written,
                            it_bears_requests_that_overlap, it_bears_a_hostile_kernel,
                            it_goes_on_after_short_transfers, its_flushes_are_durable,
                            it_serves_its_edges, it_fills_the_whole_of_what_is_read);

}  // namespace ublk::inline v0::sim
