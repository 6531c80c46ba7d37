// SPDX-License-Identifier: MIT
// Each law of a disk by hand, in both directions. Random worlds are in model_random_test.cpp.
#include <ublk/sim/model.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace model_test {
namespace {

using ublk::sim::io;
using ublk::sim::model;
using ublk::uapi::op;
using bytes = std::vector<std::byte>;

constexpr std::uint32_t block_size = 512;

bytes join(const bytes& first, const bytes& second) {
    bytes both = first;
    both.insert(both.end(), second.begin(), second.end());
    return both;
}

bytes zeroes(std::size_t blocks = 1) {
    return bytes(blocks * block_size);
}

// The part of a block up to `at` of one version, the rest of another.
bytes torn(const bytes& first, const bytes& second, std::size_t at) {
    bytes mixed = second;
    std::copy_n(first.begin(), at, mixed.begin());
    return mixed;
}

// A request in flight, and what was or will be in its buffer.
struct sent {
    model::ticket ticket;
    bytes data;
};

class a_model : public testing::Test {
protected:
    explicit a_model(bool volatile_cache = true) : disk{16, block_size, volatile_cache} {}

    sent begin(op op_code, std::uint64_t block = 3, std::uint32_t blocks = 1, bool fua = false) {
        const bool has_data = op_code == op::write || op_code == op::read;
        sent s{0, zeroes(has_data ? blocks : 0)};
        s.ticket = disk.begin({op_code, block, blocks, fua}, s.data);
        return s;
    }
    void end(const sent& s, int error = 0) { EXPECT_EQ(disk.end(s.ticket, error, s.data), ""); }
    std::string found(const sent& read, const bytes& data) {
        return disk.end(read.ticket, 0, data);
    }

    bytes write(std::uint64_t block = 3, std::uint32_t blocks = 1, bool fua = false) {
        const sent s = begin(op::write, block, blocks, fua);
        end(s);
        return s.data;
    }
    bytes failed_write(std::uint64_t block = 3, std::uint32_t blocks = 1) {
        const sent s = begin(op::write, block, blocks);
        end(s, EIO);
        return s.data;
    }
    void carry_out(op op_code, std::uint64_t block = 3, std::uint32_t blocks = 1, int error = 0,
                   bool fua = false) {
        end(begin(op_code, block, blocks, fua), error);
    }
    void flush(int error = 0) { carry_out(op::flush, 0, 0, error); }

    // Reads and finds this; the complaint.
    std::string read(const bytes& data, std::uint64_t block = 3) {
        const auto blocks = static_cast<std::uint32_t>(data.size() / block_size);
        return found(begin(op::read, block, blocks), data);
    }
    bool may_be(const bytes& data) { return read(data).empty(); }

    model disk;
};

class a_model_without_cache : public a_model {
protected:
    a_model_without_cache() : a_model{false} {}
};

TEST_F(a_model, is_zero_at_first) {
    EXPECT_EQ(read(zeroes(16), 0), "");
    bytes one = zeroes(16);
    one[5 * block_size + 77] = std::byte{1};
    EXPECT_EQ(read(one, 0),
              "read of 8192 bytes at 0: the block at 2560 holds zeroes and from byte 72 on "
              "bytes that nobody wrote, but may only hold zeroes");
}

TEST_F(a_model, gives_every_write_content_of_its_own) {
    const bytes first = write(3, 2);
    const bytes second = write(3, 2);
    for (std::size_t i = 0; i < first.size(); i += 8) {
        EXPECT_FALSE(std::equal(&first[i], &first[i] + 8, &second[i])) << i;
    }
    EXPECT_FALSE(std::equal(first.begin(), first.begin() + block_size, first.begin() + block_size));
}

TEST_F(a_model, knows_what_was_written) {
    const bytes first = write();
    EXPECT_TRUE(may_be(first));
    const bytes second = write();
    EXPECT_TRUE(may_be(second));
    EXPECT_EQ(read(first).find(
                  "read of 512 bytes at 1536: the block at 1536 holds write 2, but may only hold "),
              0u);
    EXPECT_FALSE(may_be(zeroes()));
}

TEST_F(a_model, notices_a_block_at_the_wrong_place) {
    const bytes both = write(3, 2);
    EXPECT_EQ(read(both), "");
    EXPECT_NE(
        read({both.begin() + block_size, both.end()}).find("holds write 2 of the block at 2048"),
        std::string::npos);
    EXPECT_NE(read(join({both.begin() + block_size, both.end()},
                        {both.begin(), both.begin() + block_size})),
              "");
}

TEST_F(a_model, notices_every_torn_block_and_every_flipped_bit) {
    const bytes old = write();
    const bytes half_done = failed_write();
    EXPECT_NE(read(torn(half_done, old, 256)).find("write 4 and from byte 256 on write 2"),
              std::string::npos);
    for (std::size_t at = 1; at < block_size; ++at) {
        EXPECT_FALSE(may_be(torn(half_done, old, at))) << at;
        EXPECT_FALSE(may_be(torn(zeroes(), half_done, at))) << at;
        bytes flipped = old;
        flipped[at] ^= std::byte{0x10};
        EXPECT_FALSE(may_be(flipped)) << at;
    }
    EXPECT_TRUE(may_be(old));
}

TEST_F(a_model, takes_a_write_in_flight_for_old_or_new_block_by_block) {
    const bytes old = write(3, 2);
    const sent w = begin(op::write, 3, 2);
    const bytes old_new =
        join({old.begin(), old.begin() + block_size}, {w.data.begin() + block_size, w.data.end()});
    EXPECT_EQ(read(old_new), "");
    EXPECT_EQ(read(w.data), "");
    EXPECT_NE(read(old_new), "") << "it was seen before";
    end(w);
    EXPECT_EQ(read(w.data), "");
}

TEST_F(a_model, takes_a_failed_write_for_old_or_new) {
    const bytes old = write(3, 2);
    const bytes half = failed_write(3, 2);
    const bytes mixed =
        join({half.begin(), half.begin() + block_size}, {old.begin() + block_size, old.end()});
    EXPECT_EQ(read(mixed), "");
    EXPECT_NE(read(old), "") << "a disk does not flip back";
    EXPECT_NE(read(half), "") << "nor does it write late";
    EXPECT_EQ(read(mixed), "");
    const bytes next = write(3, 2);
    EXPECT_NE(read(mixed), "");
    EXPECT_EQ(read(next), "");
}

TEST_F(a_model, takes_either_of_two_writes_that_overlapped) {
    for (const bool first_wins : {true, false}) {
        const bytes old = write();
        const sent one = begin(op::write);
        const sent other = begin(op::write);
        end(one);
        const sent early = begin(op::read);
        EXPECT_FALSE(may_be(old));
        end(other);
        EXPECT_TRUE(may_be(first_wins ? one.data : other.data));
        EXPECT_FALSE(may_be(first_wins ? other.data : one.data)) << "it was seen otherwise";
        EXPECT_EQ(found(early, one.data), "");
    }
}

TEST_F(a_model, lets_reads_that_overlap_find_the_same_where_nobody_writes) {
    const sent one = begin(op::write);
    const sent other = begin(op::write);
    end(one);
    end(other);
    const sent first = begin(op::read);
    const sent second = begin(op::read);
    const sent third = begin(op::read);
    EXPECT_EQ(found(first, one.data), "");
    EXPECT_NE(found(second, other.data), "");
    EXPECT_EQ(found(third, one.data), "");
}

TEST_F(a_model, knows_which_of_three_writes_came_last) {
    const sent lasting = begin(op::write);
    const bytes gone = write();
    const bytes later = write();
    EXPECT_FALSE(may_be(gone));
    EXPECT_TRUE(may_be(later));
    EXPECT_TRUE(may_be(lasting.data));
    end(lasting);
    EXPECT_FALSE(may_be(later));
    EXPECT_TRUE(may_be(lasting.data));
}

TEST_F(a_model, lets_a_read_find_anything_that_was_there_while_it_lasted) {
    const bytes old = write();
    std::vector<sent> reads;
    for (int i = 0; i < 4; ++i) {
        reads.push_back(begin(op::read));
    }
    const bytes middle = write();
    const sent last = begin(op::write);
    const sent late = begin(op::read);
    end(last);
    EXPECT_EQ(found(reads[0], middle), "");
    EXPECT_EQ(found(reads[1], old), "");
    EXPECT_EQ(found(reads[2], last.data), "");
    EXPECT_NE(found(reads[3], zeroes()), "");
    EXPECT_NE(found(late, old), "");
    EXPECT_TRUE(may_be(last.data));
}

TEST_F(a_model, does_not_let_a_read_find_what_an_earlier_read_ruled_out) {
    const bytes old = write();
    const sent w = begin(op::write);
    EXPECT_TRUE(may_be(old));
    EXPECT_TRUE(may_be(w.data));
    EXPECT_FALSE(may_be(old));
    end(w);
    EXPECT_FALSE(may_be(old));
}

TEST_F(a_model, learns_nothing_from_a_failed_read) {
    const bytes old = write();
    const bytes half = failed_write();
    end(begin(op::read), EIO);
    const sent r = begin(op::read);
    EXPECT_EQ(disk.end(r.ticket, EIO, {}), "");
    EXPECT_TRUE(may_be(half));
}

TEST_F(a_model, spoils_what_a_read_does_not_fill) {
    sent r{0, write()};
    r.ticket = disk.begin({op::read, 3, 1}, r.data);
    EXPECT_NE(found(r, r.data), "");
}

TEST_F(a_model, leaves_a_discarded_block_old_or_zero) {
    const bytes old = write(3, 2);
    carry_out(op::discard, 3, 2);
    const bytes half = join({old.begin(), old.begin() + block_size}, zeroes());
    EXPECT_EQ(read(half), "");
    EXPECT_NE(read(old), "");
    EXPECT_NE(read(zeroes(2)), "");
    carry_out(op::discard, 0, 16);
    EXPECT_EQ(read(zeroes(2)), "");
}

TEST_F(a_model, wants_zeroes_after_write_zeroes) {
    const bytes old = write();
    carry_out(op::write_zeroes);
    EXPECT_FALSE(may_be(old));
    EXPECT_TRUE(may_be(zeroes()));
    const bytes next = write();
    carry_out(op::write_zeroes, 3, 1, EIO);
    EXPECT_TRUE(may_be(next));
    EXPECT_FALSE(may_be(zeroes()));
    const sent one = begin(op::write_zeroes);
    const sent other = begin(op::write_zeroes);
    EXPECT_TRUE(may_be(next));
    end(one);
    EXPECT_FALSE(may_be(next));
    end(other);
    EXPECT_TRUE(may_be(zeroes()));
}

TEST_F(a_model, may_lose_what_was_not_flushed) {
    for (int choice = 0; choice < 4; ++choice) {
        const bytes durable = write();
        flush();
        const bytes middle = write();
        const bytes newest = write();
        const sent w = begin(op::write);
        disk.power_cut();
        EXPECT_EQ(disk.in_flight(), 0u);
        const bytes* const all[] = {&durable, &middle, &newest, &w.data};
        EXPECT_FALSE(may_be(zeroes()));
        for (int i = 0; i < 4; ++i) {
            EXPECT_EQ(may_be(*all[(choice + i) % 4]), i == 0) << choice << ' ' << i;
        }
        disk.power_cut();
        for (int i = 3; i >= 0; --i) {
            EXPECT_EQ(may_be(*all[(choice + i) % 4]), i == 0) << "what was read is durable";
        }
    }
}

TEST_F(a_model, keeps_what_was_flushed) {
    const bytes first = write();
    const bytes second = write();
    flush();
    disk.power_cut();
    EXPECT_FALSE(may_be(zeroes()));
    EXPECT_FALSE(may_be(first));
    EXPECT_TRUE(may_be(second));
    disk.power_cut();
    EXPECT_TRUE(may_be(second));
}

TEST_F(a_model, expects_nothing_of_a_failed_flush) {
    write();
    flush(EIO);
    disk.power_cut();
    EXPECT_TRUE(may_be(zeroes()));
}

TEST_F(a_model, expects_a_flush_to_cover_what_was_answered_before_it_began) {
    for (const bool lost : {true, false}) {
        const bytes before = write();
        const bytes covered = write();
        const sent started = begin(op::write, 4);
        const sent f = begin(op::flush, 0, 0);
        end(started);
        const bytes during = write();
        end(f);
        disk.power_cut();
        EXPECT_FALSE(may_be(before));
        EXPECT_FALSE(may_be(zeroes()));
        EXPECT_TRUE(may_be(lost ? covered : during));
        EXPECT_FALSE(may_be(lost ? during : covered));
        EXPECT_EQ(read(lost ? zeroes() : started.data, 4), "");
        carry_out(op::write_zeroes, 4, 1, 0, true);
    }
}

TEST_F(a_model, keeps_a_fua_write) {
    const bytes old = write();
    const bytes fua = write(3, 1, true);
    disk.power_cut();
    EXPECT_FALSE(may_be(old));
    EXPECT_FALSE(may_be(zeroes()));
    EXPECT_TRUE(may_be(fua));
    write();
    const bytes other = write(3, 1, true);
    const bytes last = write();
    disk.power_cut();
    EXPECT_FALSE(may_be(fua));
    EXPECT_TRUE(may_be(other));
    EXPECT_FALSE(may_be(last));
}

TEST_F(a_model, may_lose_a_fua_write_that_failed) {
    const bytes old = write();
    flush();
    const sent fua = begin(op::write, 3, 1, true);
    end(fua, EIO);
    EXPECT_TRUE(may_be(fua.data));
    flush();
    disk.power_cut();
    EXPECT_TRUE(may_be(old)) << "nobody ever said that it was done";
}

TEST_F(a_model, may_find_a_failed_write_after_a_power_cut_though_it_was_not_seen_before) {
    const bytes old = write();
    const bytes failed = failed_write();
    EXPECT_TRUE(may_be(old));
    EXPECT_FALSE(may_be(failed));
    flush();
    disk.power_cut();
    EXPECT_TRUE(may_be(failed));
    const bytes hidden = failed_write();
    EXPECT_TRUE(may_be(failed));
    write(3, 1, true);
    disk.power_cut();
    EXPECT_FALSE(may_be(hidden)) << "superseded durably";
}

TEST_F(a_model, remembers_what_is_buried_between_versions_that_are_not) {
    const sent lasting = begin(op::write);
    const bytes buried = write();
    const bytes fua = write(3, 1, true);
    end(lasting);
    EXPECT_TRUE(may_be(fua));
    const bytes newest = write();
    disk.power_cut();
    EXPECT_FALSE(may_be(buried));
    EXPECT_FALSE(may_be(zeroes()));
    EXPECT_TRUE(may_be(fua));
    EXPECT_FALSE(may_be(newest));
}

TEST_F(a_model, makes_zeroes_durable_like_any_other_write) {
    const bytes old = write(3, 1, true);
    carry_out(op::write_zeroes);
    disk.power_cut();
    EXPECT_TRUE(may_be(old));
    carry_out(op::write_zeroes);
    flush();
    disk.power_cut();
    EXPECT_FALSE(may_be(old));
    const bytes next = write(3, 1, true);
    carry_out(op::write_zeroes, 3, 1, 0, true);
    disk.power_cut();
    EXPECT_FALSE(may_be(next));
    EXPECT_TRUE(may_be(zeroes()));
}

TEST_F(a_model, lets_a_fua_write_be_followed_by_one_that_overlapped) {
    const bytes old = write();
    const sent plain = begin(op::write);
    write(3, 1, true);
    end(plain);
    disk.power_cut();
    EXPECT_FALSE(may_be(old));
    EXPECT_TRUE(may_be(plain.data));
}

TEST_F(a_model, does_not_know_what_a_dead_server_had_done) {
    const bytes old = write(3, 2);
    const sent w = begin(op::write, 3, 2);
    const sent r = begin(op::read, 3, 2);
    const sent f = begin(op::flush, 0, 0);
    disk.server_died();
    EXPECT_EQ(disk.in_flight(), 0u);
    for (const sent* s : {&w, &r, &f}) {
        EXPECT_NE(disk.end(s->ticket, 0, s->data), "") << "the ticket is void";
    }
    const bytes mixed =
        join({old.begin(), old.begin() + block_size}, {w.data.begin() + block_size, w.data.end()});
    EXPECT_EQ(read(mixed), "");
    EXPECT_NE(read(w.data), "") << "a dead server writes no more";
    EXPECT_NE(read(zeroes(2)), "") << "the disk had power";
    disk.power_cut();
    EXPECT_EQ(read(zeroes(2)), "");
}

TEST_F(a_model, knows_its_requests) {
    EXPECT_EQ(disk.in_flight(), 0u);
    const sent w = begin(op::write);
    const sent r = begin(op::read);
    EXPECT_EQ(disk.in_flight(), 2u);
    end(w);
    end(r, EIO);
    EXPECT_EQ(disk.in_flight(), 0u);
    EXPECT_NE(disk.end(w.ticket, 0, w.data), "");
    const sent other = begin(op::write);
    EXPECT_NE(disk.end(w.ticket, 0, w.data), "") << "the place is taken again, the ticket is void";
    end(other);
    EXPECT_NE(disk.end(1000, 0, {}), "");
    EXPECT_NE(disk.end(begin(op::read).ticket, 0, zeroes(2)), "") << "of another size";
}

TEST_F(a_model, refuses_what_cannot_be) {
    EXPECT_THROW((model{16, 500, true}), std::invalid_argument);
    EXPECT_THROW((model{16, 0, true}), std::invalid_argument);
    EXPECT_THROW(begin(op::read, 15, 2), std::out_of_range);
    EXPECT_THROW(begin(op::discard, 17, 0), std::out_of_range);
    bytes one = zeroes();
    EXPECT_THROW(disk.begin({op::write, 0, 2}, one), std::invalid_argument);
    EXPECT_THROW(disk.begin({op::read, 0, 2}, one), std::invalid_argument);
    EXPECT_EQ(disk.in_flight(), 0u);
}

TEST_F(a_model, survives_a_block_that_never_comes_to_rest) {
    std::vector<sent> writes{begin(op::write)};
    for (int i = 0; i < 1000; ++i) {
        writes.push_back(begin(op::write));
        const sent r = begin(op::read);
        EXPECT_EQ(found(r, writes[writes.size() - 2].data), "");
        end(writes[writes.size() - 2], i % 3 == 0 ? EIO : 0);
    }
    end(writes.back());
    EXPECT_FALSE(may_be(zeroes()));
    EXPECT_FALSE(may_be(writes[100].data));
    EXPECT_TRUE(may_be(writes.back().data));
    disk.power_cut();
    EXPECT_TRUE(may_be(writes[100].data));
}

TEST_F(a_model_without_cache, takes_every_write_for_durable) {
    const bytes old = write();
    const bytes newest = write();
    const sent w = begin(op::write, 4);
    disk.power_cut();
    EXPECT_FALSE(may_be(zeroes()));
    EXPECT_FALSE(may_be(old));
    EXPECT_TRUE(may_be(newest));
    EXPECT_EQ(read(w.data, 4), "");
    EXPECT_NE(read(zeroes(), 4), "");
    const bytes failed = failed_write();
    disk.power_cut();
    EXPECT_FALSE(may_be(old));
    EXPECT_TRUE(may_be(failed));
    flush();
    disk.power_cut();
    EXPECT_FALSE(may_be(newest));
}

}  // namespace
}  // namespace model_test
