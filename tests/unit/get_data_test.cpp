// SPDX-License-Identifier: MIT
#include "../support/crank.hpp"

#include <ublk/data/get_data.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>

namespace get_data_test {
namespace {

using ublk::ok;
using ublk::request;
using ublk::result;
using ublk::detail::get_data_state;
using ublk::test::make_request;
namespace uapi = ublk::uapi;

struct store {
    std::array<std::byte, 1u << 16> memory{};
    std::size_t bytes = 0;  ///< that it gets_data, whatever is asked for; 0: as many as asked for
    unsigned lent = 0;

    std::span<std::byte> memory_for(const request& r) noexcept {
        ++lent;
        return {memory.data() + r.offset(), bytes != 0 ? bytes : r.length()};
    }
};

const request write = make_request(uapi::op::write, 4096, 8192);
const request read = make_request(uapi::op::read, 4096, 8192);
const request flush = make_request(uapi::op::flush, 0, 0);

TEST(get_data_state, says_where_the_bytes_of_a_write_belong) {
    store disk;
    get_data_state l;
    l.add_queue(4);
    EXPECT_EQ(l.for_write(disk, write, 3), disk.memory.data() + 4096);
    EXPECT_TRUE(l.arrived(write, 3).ok());
}

TEST(get_data_state, takes_no_memory_of_another_size) {
    for (const std::size_t wrong : {512u, 7680u, 8193u, 16384u}) {
        store disk;
        disk.bytes = wrong;
        get_data_state l;
        l.add_queue(4);
        EXPECT_EQ(l.for_write(disk, write, 0), nullptr);
        result answer = ok;
        EXPECT_NE(l.for_read(disk, read, answer), 0u);
        EXPECT_EQ(answer.error(), EIO);
    }
}

TEST(get_data_state, a_write_that_was_cut_has_not_arrived) {
    store disk;
    get_data_state l;
    l.add_queue(2);
    (void)l.for_write(disk, write, 1);
    EXPECT_EQ(l.arrived(make_request(uapi::op::write, 4096, 7680), 1).error(), EIO);
    EXPECT_TRUE(l.arrived(write, 1).ok());
}

TEST(get_data_state, tags_of_all_queues_of_a_thread_are_told_apart) {
    store disk;
    get_data_state l;
    l.add_queue(4);
    l.add_queue(4);
    for (std::uint16_t i = 0; i < 8; ++i) {
        (void)l.for_write(disk, make_request(uapi::op::write, 0, 512u * (i + 1u)), i);
    }
    for (std::uint16_t i = 0; i < 8; ++i) {
        EXPECT_TRUE(l.arrived(make_request(uapi::op::write, 0, 512u * (i + 1u)), i).ok());
        EXPECT_FALSE(l.arrived(make_request(uapi::op::write, 0, 512u * (i + 2u)), i).ok());
    }
}

TEST(get_data_state, the_place_of_a_read_goes_with_its_commit) {
    store disk;
    get_data_state l;
    l.add_queue(1);
    result answer = ok;
    EXPECT_EQ(l.for_read(disk, read, answer),
              reinterpret_cast<std::uintptr_t>(disk.memory.data() + 4096));
    EXPECT_TRUE(answer.ok());
    EXPECT_TRUE(l.arrived(read, 0).ok());
}

// The driver refuses the commit of a read without an address, even of one that failed.
TEST(get_data_state, a_read_that_failed_names_a_place_without_asking_for_one) {
    store disk;
    get_data_state l;
    l.add_queue(1);
    result answer = std::errc::no_link;
    EXPECT_NE(l.for_read(disk, read, answer), 0u);
    EXPECT_EQ(answer.error(), ENOLINK);
    EXPECT_EQ(disk.lent, 0u);
}

TEST(get_data_state, nothing_else_has_a_place) {
    store disk;
    get_data_state l;
    l.add_queue(1);
    for (const request& each : {write, flush, make_request(uapi::op::discard, 0, 1u << 20)}) {
        result answer = ok;
        EXPECT_EQ(l.for_read(disk, each, answer), 0u);
        EXPECT_TRUE(answer.ok());
    }
    EXPECT_EQ(disk.lent, 0u);
    EXPECT_TRUE(ublk::detail::no_get_data_state::arrived(write, 0).ok());
}

}  // namespace
}  // namespace get_data_test
