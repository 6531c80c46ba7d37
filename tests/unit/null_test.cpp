// SPDX-License-Identifier: MIT
#include <ublk/backends/null.hpp>
#include <ublk/backends/null_any_path.hpp>

#include <ublk/data/dispatch.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace null_test {
namespace {

using ublk::request;
using ublk::backends::null;
using ublk::backends::null_any_path;
namespace uapi = ublk::uapi;

static_assert(ublk::backend<null> && ublk::check_backend<null>());
static_assert(ublk::check_backend<null_any_path>());
static_assert(ublk::offers<null>(ublk::data_path::user_copy));
static_assert(!ublk::asynchronous<null_any_path, ublk::client_pages>);

TEST(null, serves_every_path) {
    for (const auto& [path, name] : ublk::data_path_names) {
        EXPECT_TRUE(ublk::offers<null_any_path>(path)) << name;
    }
}

request asking(uapi::op op) {
    return request{uapi::io_desc{static_cast<std::uint32_t>(op), 8, 1ull << 40, 0},
                   ublk::queue_id{0}, ublk::tag{0}};
}

// The buffer is shared by all clients of a tag: what is left in it would leak from one to another.
TEST(null, overwrites_the_whole_buffer_of_a_read_with_zeroes) {
    null disk{1ull << 50};
    std::array<std::byte, 4096> buffer;
    buffer.fill(std::byte{0xaa});
    EXPECT_TRUE(disk.read(asking(uapi::op::read), buffer).ok());
    EXPECT_EQ(buffer, (std::array<std::byte, 4096>{}));
}

TEST(null, lends_zeroes_that_stay_zeroes) {
    const null disk{1ull << 50};
    const std::span<std::byte> out = disk.memory_for(asking(uapi::op::read));
    const std::span<std::byte> in = disk.memory_for(asking(uapi::op::write));
    ASSERT_EQ(out.size(), 4096u);
    ASSERT_EQ(in.size(), 4096u);
    EXPECT_NE(out.data(), in.data());
    std::fill(in.begin(), in.end(), std::byte{0xaa});
    EXPECT_TRUE(std::all_of(out.begin(), out.end(), [](std::byte b) { return b == std::byte{0}; }));
    EXPECT_EQ(null{1u << 20}.memory_for(asking(uapi::op::read)).data(), out.data())
        << "of all disks";
}

TEST(null, is_copied_to_unless_asked_otherwise) {
    EXPECT_EQ(ublk::attributes_of(null{1u << 20}).preferred_path, ublk::data_path::copy);
}

TEST(null, takes_everything_else) {
    null disk{1ull << 50};
    std::array<std::byte, 4096> buffer{};
    for (const auto op :
         {uapi::op::write, uapi::op::discard, uapi::op::write_zeroes, uapi::op::flush}) {
        EXPECT_TRUE(ublk::detail::dispatch(disk, asking(op), buffer).ok());
    }
}

TEST(null, offers_discards_and_no_cache) {
    const ublk::disk_attributes disk = ublk::attributes_of(null{1u << 30});
    EXPECT_TRUE(disk.discards);
    EXPECT_NE(disk.max_write_zeroes_size, 0u);
    EXPECT_FALSE(disk.volatile_cache);
    EXPECT_NO_THROW(ublk::validate(disk, 4096));
}

}  // namespace
}  // namespace null_test
