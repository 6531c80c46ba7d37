// SPDX-License-Identifier: MIT

// What a flush promises, read from what the rings of a world saw.

#include "async_specimens.hpp"

#include <ublk/sim/durability.hpp>
#include <ublk/sim/rig.hpp>
#include <ublk/sim/workload.hpp>

#include <gtest/gtest.h>

#include <string>

/// Answers a flush without a sync.
struct forgetful_disk : file_disk {
    ublk::result flush(const ublk::request&) { return ublk::ok; }
};

/// Takes a write with FUA for any other.
struct hasty_disk : file_disk {
    template <class Payload>
    ublk::task write(ublk::io& with, const ublk::request& r, Payload in) {
        const int outcome = co_await with.write(file().get(), in, r.offset());
        co_return outcome < 0 ? ublk::result::failure(-outcome) : ublk::ok;
    }
};

namespace durability_test {
namespace {

namespace sim = ublk::sim;
using ublk::detail::opcode;
using ublk::sim::journal;
using ublk::uapi::op;

/// What clients at work make of that disk on a kernel like this.
template <class Disk>
std::string verdict_on(std::uint64_t seed) {
    journal book;
    {
        sim::rig<sim::composition<Disk, ublk::per_cpu, ublk::per_wakeup>> r{
            {.seed = seed, .book = &book}};
        r.start();
        sim::habits clients_do;
        clients_do.requests = 60;
        clients_do.flushes = 8;
        clients_do.fua = 4;
        sim::workload clients{r.in, r.server->id(), r.expected, clients_do};
        clients.run();
        r.server->stop();
    }
    EXPECT_FALSE(book.entries().empty());
    return sim::broken_promise(book);
}

TEST(durability, a_disk_that_syncs_keeps_its_promises) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        EXPECT_EQ(verdict_on<file_disk>(seed), "") << seed;
    }
}

TEST(durability, a_flush_without_a_sync_is_noticed) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        EXPECT_NE(verdict_on<forgetful_disk>(seed), "") << seed;
    }
}

TEST(durability, fua_without_a_sync_is_noticed) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        EXPECT_NE(verdict_on<hasty_disk>(seed).find("FUA"), std::string::npos) << seed;
    }
}

/// A journal by hand.
class diary {
public:
    void handed(std::uint64_t number, op what) {
        book_.add({.type = journal::kind::handed, .number = number, .op = what});
    }
    void committed(std::uint64_t number, int result = 0) {
        book_.add({.type = journal::kind::committed, .number = number, .result = result});
    }
    void began(std::uint64_t number, opcode code, std::uint64_t file, std::uint64_t request = 0) {
        book_.add({.type = journal::kind::began,
                   .number = number,
                   .sqe = {.code = code},
                   .file = {1, file},
                   .request = request});
    }
    void ended(std::uint64_t number, int result = 0) {
        book_.add({.type = journal::kind::ended, .number = number, .result = result});
    }
    /// A write of one operation, whole.
    void write(std::uint64_t number, std::uint64_t file) {
        handed(number, op::write);
        began(number + 1000, opcode::write, file, number);
        ended(number + 1000, 512);
        committed(number);
    }
    void sync(std::uint64_t number, std::uint64_t file, int result = 0) {
        began(number, opcode::fsync, file);
        ended(number, result);
    }
    [[nodiscard]] bool kept() const { return sim::broken_promise(book_).empty(); }

private:
    journal book_;
};

TEST(durability, a_sync_counts_for_its_own_file_only) {
    diary d;
    d.write(1, 7);
    d.handed(2, op::flush);
    d.sync(3, 8);
    d.committed(2);
    EXPECT_FALSE(d.kept());
}

TEST(durability, a_sync_that_began_before_the_write_ended_does_not_count) {
    diary d;
    d.handed(1, op::write);
    d.began(11, opcode::write, 7, 1);
    d.began(12, opcode::fsync, 7);
    d.ended(11, 512);
    d.committed(1);
    d.handed(2, op::flush);
    d.ended(12);
    d.committed(2);
    EXPECT_FALSE(d.kept());
}

TEST(durability, a_sync_that_failed_or_came_too_late_does_not_count) {
    diary failed;
    failed.write(1, 7);
    failed.handed(2, op::flush);
    failed.sync(3, 7, -EIO);
    failed.committed(2);
    EXPECT_FALSE(failed.kept());

    diary late;
    late.write(1, 7);
    late.handed(2, op::flush);
    late.committed(2);
    late.sync(3, 7);
    EXPECT_FALSE(late.kept());
}

TEST(durability, a_flush_that_failed_promises_nothing) {
    diary d;
    d.write(1, 7);
    d.handed(2, op::flush);
    d.committed(2, -EIO);
    EXPECT_TRUE(d.kept());
}

TEST(durability, a_write_that_was_not_answered_yet_is_not_promised) {
    diary d;
    d.handed(1, op::write);
    d.began(11, opcode::write, 7, 1);
    d.handed(2, op::flush);
    d.sync(3, 7);
    d.committed(2);
    d.ended(11, 512);
    d.committed(1);
    EXPECT_TRUE(d.kept());
}

}  // namespace
}  // namespace durability_test
