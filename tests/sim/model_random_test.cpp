// SPDX-License-Identifier: MIT
// Random worlds: a correct disk, however nasty, is never complained about, and every kind of broken
// disk is, for some seed. UBLK_SIM_SEEDS says how many worlds to try of each kind.
#include <ublk/sim/medium.hpp>
#include <ublk/sim/model.hpp>
#include <ublk/sim/random.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace model_random_test {
namespace {

using ublk::sim::io;
using ublk::sim::medium;
using ublk::sim::model;
using ublk::uapi::op;
using dice = ublk::sim::random;
using bytes = std::vector<std::byte>;

constexpr std::uint32_t block_size = 64;
constexpr std::uint64_t disk_blocks = 12;

enum class fault {
    none,
    loses_a_flush,
    flushes_all_but_one_block,
    ignores_fua,
    tears_a_block,
    writes_to_the_neighbour,
    reads_from_the_neighbour,
    reads_stale_data,
    flips_a_bit,
    keeps_data_after_write_zeroes,
    drops_a_block_of_a_write,
    drops_a_block_of_a_read,
    writes_after_the_answer,
    writes_back_old_data_after_a_flush,
    discards_to_garbage,
    tears_at_a_power_cut,
    wavers_after_a_power_cut,
    lets_a_dead_server_write,
    discards_the_neighbour,
    has_a_cache_but_says_it_has_none,
};

struct in_flight {
    io intent;
    model::ticket ticket = 0;
    bytes data;
    std::vector<std::uint32_t> to_do{};  // blocks, in the order in which they are carried out
    std::vector<std::uint32_t> done{};
    bool fails = false;
};

class world {
public:
    world(std::uint64_t seed, fault broken)
        : dice_{seed}, broken_{broken}, cached_{!dice_.chance(4)},
          model_{disk_blocks, block_size,
                 cached_ && broken != fault::has_a_cache_but_says_it_has_none},
          store_{disk_blocks * block_size, block_size}, depth_{1 + dice_.below(8)},
          old_of_block_(disk_blocks, bytes(block_size)) {
        cached_ = cached_ || broken == fault::has_a_cache_but_says_it_has_none;
    }

    // The first complaint.
    std::string run(int steps) {
        for (int step = 0; step < steps && complaint_.empty(); ++step) {
            if (dice_.chance(150)) {
                power_cut();
            } else if (dice_.chance(150)) {
                server_death();
            } else if (in_flight_.size() < depth_ && dice_.chance(3)) {
                begin();
            } else if (!in_flight_.empty()) {
                advance(dice_.below(in_flight_.size()));
            }
            if (!late_.empty() && dice_.chance(20)) {
                carry_out_late();
            }
            if (cached_ && dice_.chance(20)) {
                write_back(dice_.below(disk_blocks));
            }
        }
        return complaint_;
    }

private:
    bool goes_wrong(fault intent) { return broken_ == intent && dice_.chance(6); }

    void begin() {
        static constexpr op ops[] = {op::write,   op::write,       op::write, op::write,
                                     op::read,    op::read,        op::read,  op::flush,
                                     op::discard, op::write_zeroes};
        in_flight r{{ops[dice_.below(std::size(ops))]}, 0, {}};
        if (r.intent.op != op::flush) {
            r.intent.block = dice_.below(disk_blocks);
            r.intent.blocks = static_cast<std::uint32_t>(
                1 + dice_.below(std::min<std::uint64_t>(4, disk_blocks - r.intent.block)));
            r.intent.fua = dice_.chance(4);
        } else {
            r.intent.blocks = 0;
        }
        if (r.intent.op == op::write || r.intent.op == op::read) {
            r.data.resize(r.intent.blocks * block_size);
        }
        const std::uint32_t parts = r.intent.op == op::flush ? disk_blocks : r.intent.blocks;
        for (std::uint32_t i = 0; i < parts; ++i) {
            r.to_do.insert(r.to_do.begin() + static_cast<std::ptrdiff_t>(dice_.below(i + 1)), i);
        }
        r.fails = dice_.chance(12);
        r.ticket = model_.begin(r.intent, r.data);
        in_flight_.push_back(std::move(r));
    }

    // Some more blocks of a request are carried out; then it is answered.
    void advance(std::size_t index) {
        in_flight& r = in_flight_[index];
        const bool whole = dice_.chance(2);
        while (!r.to_do.empty()) {
            const std::uint32_t part = r.to_do.back();
            r.to_do.pop_back();
            carry_out(r, part);
            r.done.push_back(part);
            if (!whole) {
                return;
            }
            if (r.fails && dice_.chance(3)) {
                break;
            }
        }
        if (!r.done.empty() && r.intent.op != op::read && dice_.chance(8)) {
            carry_out(
                r, r.done[dice_.below(r.done.size())]);  // again, as a server does that recovered
            return;
        }
        complaint_ = model_.end(r.ticket, r.fails ? EIO : 0, r.data);
        std::swap(r, in_flight_.back());
        in_flight_.pop_back();
    }

    std::uint64_t place(std::uint64_t block) const { return block * block_size; }

    bytes content(std::uint64_t block) const {
        bytes found(block_size);
        store_.read(place(block), found);
        return found;
    }

    void write_back(std::uint64_t block) { store_.write_through(place(block), content(block)); }

    void carry_out(in_flight& r, std::uint32_t part) {
        const std::uint64_t block = r.intent.block + part;
        switch (r.intent.op) {
        case op::read:
            read(block, std::span{r.data}.subspan(part * block_size, block_size));
            break;
        case op::write: {
            const auto first = r.data.begin() + static_cast<std::ptrdiff_t>(part * block_size);
            write(r, block, bytes(first, first + block_size));
            break;
        }
        case op::flush:
            if (r.fails || goes_wrong(fault::flushes_all_but_one_block) ||
                (broken_ == fault::loses_a_flush && r.ticket % 2 == 0)) {
                break;
            }
            old_of_block(part) = content(part);
            write_back(part);
            break;
        case op::discard:
            if (goes_wrong(fault::discards_to_garbage)) {
                store(block, bytes(block_size, std::byte{0xff}), false);
            } else if (dice_.chance(2)) {
                const bool next = goes_wrong(fault::discards_the_neighbour);
                store((block + next) % disk_blocks, bytes(block_size), false);
            }
            break;
        default:
            if (!goes_wrong(fault::keeps_data_after_write_zeroes)) {
                store(block, bytes(block_size), r.intent.fua);
            }
        }
    }

    void read(std::uint64_t block, std::span<std::byte> out) {
        if (goes_wrong(fault::drops_a_block_of_a_read)) {
            return;
        }
        if (goes_wrong(fault::reads_from_the_neighbour)) {
            block = (block + 1) % disk_blocks;
        }
        store_.read(place(block), out);
        if (goes_wrong(fault::reads_stale_data)) {
            std::copy(old_of_block(block).begin(), old_of_block(block).end(), out.begin());
        }
        if (goes_wrong(fault::flips_a_bit)) {
            out[dice_.below(out.size())] ^= std::byte{4};
        }
        if (broken_ == fault::wavers_after_a_power_cut && !other_.empty() && dice_.chance(2)) {
            const auto from = other_.begin() + static_cast<std::ptrdiff_t>(place(block));
            std::copy(from, from + block_size, out.begin());
        }
    }

    void write(const in_flight& r, std::uint64_t block, bytes data) {
        if (goes_wrong(fault::drops_a_block_of_a_write)) {
            return;
        }
        if (goes_wrong(fault::writes_after_the_answer)) {
            late_.emplace_back(block, data);
            return;
        }
        if (goes_wrong(fault::writes_to_the_neighbour)) {
            block = (block + 1) % disk_blocks;
        }
        if (goes_wrong(fault::tears_a_block)) {
            const bytes before = content(block);
            std::copy(before.begin() + 32, before.end(), data.begin() + 32);
        }
        store(block, data, r.intent.fua && !goes_wrong(fault::ignores_fua));
    }

    void store(std::uint64_t block, const bytes& data, bool fua) {
        if (!store_.frozen()) {
            other_.clear();
        }
        if (broken_ == fault::reads_stale_data) {
            old_of_block(block) = content(block);
        }
        if (fua || !cached_) {
            store_.write_through(place(block), data);
        } else {
            store_.write(place(block), data);
        }
    }

    void carry_out_late() {
        store(late_.back().first, late_.back().second, false);
        late_.pop_back();
    }

    void power_cut() {
        bytes before(disk_blocks * block_size);
        store_.read(0, before);
        store_.power_cut(dice_);
        store_.thaw();
        if (broken_ == fault::wavers_after_a_power_cut) {
            other_ = before;
        }
        const std::uint64_t block = dice_.below(disk_blocks);
        const auto mid = before.begin() + static_cast<std::ptrdiff_t>(place(block));
        if (broken_ == fault::tears_at_a_power_cut) {
            store_.write_through(place(block), mixed(content(block), {mid, mid + block_size}));
        }
        if (broken_ == fault::writes_back_old_data_after_a_flush) {
            store_.write_through(place(block), old_of_block(block));
        }
        model_.power_cut();
        in_flight_.clear();
    }

    static bytes mixed(bytes first, const bytes& second) {
        std::copy(second.begin(), second.begin() + 32, first.begin());
        return first;
    }

    void server_death() {
        for (const in_flight& r : in_flight_) {
            if (broken_ == fault::lets_a_dead_server_write && r.intent.op == op::write) {
                late_.emplace_back(r.intent.block,
                                   bytes(r.data.begin(), r.data.begin() + block_size));
            }
        }
        model_.server_died();
        in_flight_.clear();
    }

    // What a block held at a flush, or before the latest write.
    bytes& old_of_block(std::uint64_t block) { return old_of_block_[block]; }

    dice dice_;
    fault broken_;
    bool cached_;
    model model_;
    medium store_;
    std::uint64_t depth_;
    std::vector<bytes> old_of_block_;
    bytes other_{};
    std::vector<in_flight> in_flight_{};
    std::vector<std::pair<std::uint64_t, bytes>> late_{};
    std::string complaint_{};
};

std::uint64_t seeds(std::uint64_t usual) {
    const char* const requested = std::getenv("UBLK_SIM_SEEDS");
    return requested != nullptr ? std::strtoull(requested, nullptr, 10) : usual;
}

TEST(random_worlds, never_complain_about_a_correct_disk) {
    for (std::uint64_t seed = 0; seed < seeds(3000); ++seed) {
        ASSERT_EQ((world{seed, fault::none}.run(1000)), "") << "seed " << seed;
    }
}

class broken_disk : public testing::TestWithParam<fault> {};

TEST_P(broken_disk, is_complained_about) {
    std::uint64_t caught = 0;
    std::string example;
    constexpr std::uint64_t tries = 300;
    for (std::uint64_t seed = 0; seed < tries; ++seed) {
        const std::string complaint = world{seed, GetParam()}.run(1000);
        caught += !complaint.empty();
        example = complaint.empty() ? example : complaint;
    }
    EXPECT_GE(caught, tries / 20);
    std::cout << "    in " << caught << " of " << tries << " worlds, such as:\n    " << example
              << '\n';
}

INSTANTIATE_TEST_SUITE_P(
    every_kind, broken_disk,
    testing::Values(fault::loses_a_flush, fault::flushes_all_but_one_block, fault::ignores_fua,
                    fault::tears_a_block, fault::writes_to_the_neighbour,
                    fault::reads_from_the_neighbour, fault::reads_stale_data, fault::flips_a_bit,
                    fault::keeps_data_after_write_zeroes, fault::drops_a_block_of_a_write,
                    fault::drops_a_block_of_a_read, fault::writes_after_the_answer,
                    fault::writes_back_old_data_after_a_flush, fault::discards_to_garbage,
                    fault::tears_at_a_power_cut, fault::wavers_after_a_power_cut,
                    fault::lets_a_dead_server_write, fault::discards_the_neighbour,
                    fault::has_a_cache_but_says_it_has_none));

}  // namespace
}  // namespace model_random_test
