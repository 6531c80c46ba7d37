// SPDX-License-Identifier: MIT
#include <ublk/kernel/operation.hpp>

#include <gtest/gtest.h>

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

namespace operation_test {
namespace {

using ublk::detail::opcode;
using ublk::detail::operation;

constexpr std::uint64_t place = 1ull << 40;
constexpr std::array<std::uint16_t, 4> units{1, 512, 1024, 4096};

void ask_one(operation& op, std::byte* memory, std::uint32_t bytes, std::uint16_t unit,
             opcode code = opcode::read) {
    op.submitted = {.code = code,
                    .file = 3,
                    .offset = place,
                    .address = reinterpret_cast<std::uintptr_t>(memory),
                    .length = bytes};
    op.transfer_whole(bytes, unit);
}

TEST(operation, without_a_unit_the_first_answer_is_the_end) {
    for (const int outcome : {0, 1, 4096, 1 << 30, -EINTR, -EAGAIN, -EIO, -ECANCELED, -ETIME}) {
        operation op;
        op.transfer_whole(4096, 0);
        EXPECT_TRUE(op.ends_with(outcome));
        EXPECT_EQ(op.answer, outcome);
    }
}

TEST(operation, a_whole_transfer_ends_at_once) {
    std::array<std::byte, 4096> memory;
    for (const std::uint16_t unit : units) {
        operation op;
        ask_one(op, memory.data(), memory.size(), unit);
        EXPECT_TRUE(op.ends_with(4096));
        EXPECT_EQ(op.answer, 4096);
        EXPECT_EQ(op.submitted.offset, place);
    }
}

// Each place where a transfer may stop, in each unit.
TEST(operation, a_short_transfer_goes_on_behind_what_is_done) {
    constexpr std::uint32_t bytes = 8192;
    std::vector<std::byte> memory(bytes);
    for (const std::uint16_t unit : units) {
        for (std::uint32_t done = unit; done < bytes; done += unit) {
            for (const opcode code :
                 {opcode::read, opcode::write, opcode::read_fixed, opcode::write_fixed}) {
                operation op;
                ask_one(op, memory.data(), bytes, unit, code);
                ASSERT_FALSE(op.ends_with(static_cast<int>(done)));
                ASSERT_EQ(op.submitted.code, code);
                ASSERT_EQ(op.submitted.file, 3);
                ASSERT_EQ(op.submitted.offset, place + done);
                ASSERT_EQ(op.submitted.address, reinterpret_cast<std::uintptr_t>(&memory[done]));
                ASSERT_EQ(op.submitted.length, bytes - done);
                ASSERT_TRUE(op.ends_with(static_cast<int>(bytes - done)));
                ASSERT_EQ(op.answer, int{bytes});
            }
        }
    }
}

TEST(operation, may_move_its_bytes_unit_by_unit) {
    std::array<std::byte, 4096> memory;
    operation op;
    ask_one(op, memory.data(), memory.size(), 512);
    for (std::uint32_t done = 512; done < memory.size(); done += 512) {
        ASSERT_FALSE(op.ends_with(512));
        EXPECT_EQ(op.submitted.offset, place + done);
        EXPECT_EQ(op.submitted.length, memory.size() - done);
    }
    EXPECT_TRUE(op.ends_with(512));
    EXPECT_EQ(op.answer, 4096);
}

TEST(operation, a_transfer_that_ends_off_its_unit_is_the_end_of_the_file) {
    std::array<std::byte, 4096> memory;
    for (const int outcome : {1, 511, 513, 1000, 4095}) {
        operation op;
        ask_one(op, memory.data(), memory.size(), 512);
        EXPECT_TRUE(op.ends_with(outcome));
        EXPECT_EQ(op.answer, outcome);
    }
    operation later;
    ask_one(later, memory.data(), memory.size(), 512);
    EXPECT_FALSE(later.ends_with(1024));
    EXPECT_TRUE(later.ends_with(100));
    EXPECT_EQ(later.answer, 1124);
}

TEST(operation, zero_bytes_are_the_end_of_the_file) {
    std::array<std::byte, 4096> memory;
    operation at_once;
    ask_one(at_once, memory.data(), memory.size(), 1);
    EXPECT_TRUE(at_once.ends_with(0));
    EXPECT_EQ(at_once.answer, 0);

    operation later;
    ask_one(later, memory.data(), memory.size(), 1);
    EXPECT_FALSE(later.ends_with(77));
    EXPECT_TRUE(later.ends_with(0));
    EXPECT_EQ(later.answer, 77);
}

TEST(operation, an_error_after_a_part_is_an_error) {
    std::array<std::byte, 4096> memory;
    for (const int code : {-EIO, -ENOSPC, -ECANCELED, -EFAULT}) {
        operation op;
        ask_one(op, memory.data(), memory.size(), 1);
        EXPECT_FALSE(op.ends_with(1000));
        EXPECT_TRUE(op.ends_with(code));
        EXPECT_EQ(op.answer, code);
    }
}

TEST(operation, a_refusal_that_passes_is_asked_again_unchanged) {
    std::array<std::byte, 4096> memory;
    for (const int code : {-EINTR, -EAGAIN}) {
        operation op;
        ask_one(op, memory.data(), memory.size(), 1);
        EXPECT_FALSE(op.ends_with(code));
        EXPECT_EQ(op.submitted.offset, place);
        EXPECT_EQ(op.submitted.address, reinterpret_cast<std::uintptr_t>(memory.data()));
        EXPECT_EQ(op.submitted.length, memory.size());
        EXPECT_TRUE(op.ends_with(4096));
        EXPECT_EQ(op.answer, 4096);
    }
}

TEST(operation, a_refusal_that_does_not_pass_is_an_error_in_the_end) {
    std::array<std::byte, 4096> memory;
    operation op;
    ask_one(op, memory.data(), memory.size(), 1);
    for (int i = 1; i < 1000; ++i) {
        ASSERT_FALSE(op.ends_with(i % 2 == 0 ? -EINTR : -EAGAIN)) << i;
    }
    EXPECT_TRUE(op.ends_with(-EAGAIN));
    EXPECT_EQ(op.answer, -EAGAIN);
}

TEST(operation, progress_forgives_earlier_refusals) {
    std::array<std::byte, 3> memory;
    operation op;
    ask_one(op, memory.data(), memory.size(), 1);
    for (int byte = 0; byte < 3; ++byte) {
        for (int i = 1; i < 1000; ++i) {
            ASSERT_FALSE(op.ends_with(-EINTR));
        }
        EXPECT_EQ(op.ends_with(1), byte == 2);
    }
    EXPECT_EQ(op.answer, 3);
}

// ---------------------------------------------------------------- vectors

// Pieces of one memory with gaps between them, and the bytes that an operation has still to move.
struct pieces {
    explicit pieces(const std::vector<std::size_t>& sizes) {
        std::size_t at = 0;
        for (const std::size_t size : sizes) {
            vector.push_back({&memory[at], size});
            for (std::size_t i = 0; i < size; ++i) {
                order.push_back(&memory[at + i]);
            }
            at += size + 3;
        }
    }

    void ask(operation& op, std::uint16_t unit, opcode code = opcode::readv) {
        op.submitted = {.code = code,
                        .file = 3,
                        .offset = place,
                        .address = reinterpret_cast<std::uintptr_t>(vector.data()),
                        .length = static_cast<std::uint32_t>(vector.size())};
        op.transfer_whole(static_cast<std::uint32_t>(order.size()), unit);
    }

    static std::vector<std::byte*> left(const operation& op) {
        std::vector<std::byte*> all;
        const auto* const first = reinterpret_cast<const iovec*>(op.submitted.address);
        for (std::uint32_t i = 0; i < op.submitted.length; ++i) {
            for (std::size_t b = 0; b < first[i].iov_len; ++b) {
                all.push_back(static_cast<std::byte*>(first[i].iov_base) + b);
            }
        }
        return all;
    }

    std::array<std::byte, 4096> memory{};
    std::vector<iovec> vector{};
    std::vector<std::byte*> order{};
};

TEST(operation, a_vector_is_used_up_piece_by_piece_wherever_it_stops) {
    const std::vector<std::size_t> sizes{1, 7, 0, 0, 64, 1, 1, 0, 30};
    const std::size_t total = std::accumulate(sizes.begin(), sizes.end(), std::size_t{0});
    for (const opcode code : {opcode::readv, opcode::writev}) {
        for (std::size_t done = 1; done < total; ++done) {
            pieces p{sizes};
            operation op;
            p.ask(op, 1, code);
            ASSERT_FALSE(op.ends_with(static_cast<int>(done)));
            ASSERT_EQ(op.submitted.code, code);
            ASSERT_EQ(op.submitted.offset, place + done);
            ASSERT_EQ(pieces::left(op),
                      std::vector<std::byte*>(p.order.begin() + static_cast<std::ptrdiff_t>(done),
                                              p.order.end()))
                << done;
            ASSERT_TRUE(op.ends_with(static_cast<int>(total - done)));
            ASSERT_EQ(op.answer, static_cast<int>(total));
        }
    }
}

// What is moved in random steps is moved once and in order.
TEST(operation, any_sequence_of_short_transfers_moves_each_byte_once) {
    std::mt19937 random{1};
    for (int round = 0; round < 500; ++round) {
        std::vector<std::size_t> sizes;
        for (unsigned i = 0; i < 1 + random() % 8; ++i) {
            sizes.push_back(random() % 64);
        }
        sizes.push_back(1 + random() % 64);
        pieces p{sizes};
        operation op;
        p.ask(op, 1);
        std::vector<std::byte*> moved;
        while (true) {
            const std::vector<std::byte*> left = pieces::left(op);
            ASSERT_FALSE(left.empty());
            if (random() % 4 == 0) {
                ASSERT_FALSE(op.ends_with(-EINTR));
                continue;
            }
            const std::size_t some = 1 + random() % left.size();
            moved.insert(moved.end(), left.begin(),
                         left.begin() + static_cast<std::ptrdiff_t>(some));
            if (op.ends_with(static_cast<int>(some))) {
                break;
            }
        }
        EXPECT_EQ(moved, p.order);
        EXPECT_EQ(op.answer, static_cast<int>(p.order.size()));
    }
}

TEST(operation, more_than_was_asked_for_is_no_more_than_the_end) {
    std::array<std::byte, 8> memory;
    operation op;
    ask_one(op, memory.data(), memory.size(), 1);
    EXPECT_TRUE(op.ends_with(9));
    EXPECT_EQ(op.answer, 9);
}

}  // namespace
}  // namespace operation_test
