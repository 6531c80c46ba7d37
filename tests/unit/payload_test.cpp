// SPDX-License-Identifier: MIT
#include <ublk/detail/fd.hpp>
#include <ublk/payload.hpp>

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace payload_test {
namespace {

using ublk::registered_buffer;
using ublk::user_copy;

constexpr std::uint64_t position = 1ull << 41;  // a second queue's, beyond 32 bits

// A sparse file for /dev/ublkcN: `bytes` of it are the request's.
ublk::fd client_of(std::size_t bytes) {
    ublk::fd file{::memfd_create("client", MFD_CLOEXEC)};
    EXPECT_EQ(::ftruncate(file.get(), static_cast<off_t>(position + bytes)), 0);
    return file;
}

std::vector<std::byte> pattern(std::size_t bytes, unsigned seed = 1) {
    std::vector<std::byte> all(bytes);
    for (std::size_t i = 0; i < bytes; ++i) {
        all[i] = static_cast<std::byte>(i * 7 + seed);
    }
    return all;
}

TEST(user_copy, puts_and_gets_at_the_position_of_the_request) {
    const ublk::fd file = client_of(8192);
    const user_copy bytes{file.get(), position, 8192};
    EXPECT_EQ(bytes.size(), 8192u);
    const std::vector<std::byte> in = pattern(8192);
    EXPECT_TRUE(bytes.put(0, in).ok());

    std::vector<std::byte> raw(8192);
    ASSERT_EQ(::pread(file.get(), raw.data(), raw.size(), static_cast<off_t>(position)), 8192);
    EXPECT_EQ(raw, in);
    std::vector<std::byte> out(8192);
    EXPECT_TRUE(bytes.get(0, out).ok());
    EXPECT_EQ(out, in);
}

TEST(user_copy, moves_parts_at_their_offset) {
    const ublk::fd file = client_of(8192);
    const user_copy bytes{file.get(), position, 8192};
    const std::vector<std::byte> in = pattern(1000, 9);
    EXPECT_TRUE(bytes.put(5000, in).ok());
    std::vector<std::byte> out(8192);
    EXPECT_TRUE(bytes.get(0, out).ok());
    EXPECT_TRUE(std::equal(in.begin(), in.end(), out.begin() + 5000));
    EXPECT_EQ(std::count(out.begin(), out.begin() + 5000, std::byte{}), 5000);
    std::vector<std::byte> some(10);
    EXPECT_TRUE(bytes.get(5990, some).ok());
    EXPECT_TRUE(std::equal(some.begin(), some.end(), in.end() - 10));
}

TEST(user_copy, a_part_of_it_is_another_at_its_place) {
    const ublk::fd file = client_of(8192);
    const user_copy bytes{file.get(), position, 8192};
    const user_copy part = bytes.subspan(4096, 2048).subspan(512, 100);
    EXPECT_EQ(part.size(), 100u);
    const std::vector<std::byte> in = pattern(100);
    EXPECT_TRUE(part.put(0, in).ok());
    std::vector<std::byte> out(100);
    EXPECT_TRUE(bytes.get(4608, out).ok());
    EXPECT_EQ(out, in);
}

TEST(user_copy, nothing_to_move_is_no_system_call) {
    const user_copy bytes{-1, position, 0};
    EXPECT_TRUE(bytes.get(0, {}).ok());
    EXPECT_TRUE(bytes.put(0, {}).ok());
}

// Short counts are gone on after; where nothing comes any more, that is an error.
TEST(user_copy, an_end_in_the_middle_is_an_error) {
    const ublk::fd file = client_of(4096);
    const user_copy bytes{file.get(), position, 8192};
    std::vector<std::byte> out(8192);
    EXPECT_EQ(bytes.get(0, out).error(), EIO);
}

TEST(user_copy, what_the_driver_says_is_the_answer) {
    std::vector<std::byte> some(512);
    const user_copy nowhere{-1, position, 512};
    EXPECT_EQ(nowhere.get(0, some).error(), EBADF);
    EXPECT_EQ(nowhere.put(0, some).error(), EBADF);

    const ublk::fd only_read{::open("/proc/self/exe", O_RDONLY | O_CLOEXEC)};
    EXPECT_EQ((user_copy{only_read.get(), 0, 512}.put(0, some).error()), EBADF);
    EXPECT_TRUE((user_copy{only_read.get(), 0, 512}.get(0, some).ok()));
}

// A file that takes less than it is asked for: a limit on its size, and not a device.
TEST(user_copy, a_short_count_is_gone_on_after_until_there_is_an_answer) {
    const ublk::fd file{::memfd_create("client", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    ASSERT_EQ(::ftruncate(file.get(), 4096), 0);
    ASSERT_EQ(::fcntl(file.get(), F_ADD_SEALS, F_SEAL_GROW), 0);
    const user_copy bytes{file.get(), 2048, 4096};
    const std::vector<std::byte> in = pattern(4096);
    EXPECT_FALSE(bytes.put(0, in).ok());
    std::vector<std::byte> first(2048);
    EXPECT_TRUE(bytes.get(0, first).ok());
}

static_assert(registered_buffer{7, 4096, 512}.index() == 7);
static_assert(registered_buffer{7, 4096, 512}.base() == 4096);
static_assert(registered_buffer{7, 4096, 512}.size() == 512);

TEST(registered_buffer, a_part_of_it_keeps_the_index_and_moves_the_address) {
    constexpr registered_buffer whole{16383, 1ull << 40, 1u << 20};
    constexpr registered_buffer part = whole.subspan(4096, 8192).subspan(512, 1024);
    EXPECT_EQ(part.index(), 16383);
    EXPECT_EQ(part.base(), (1ull << 40) + 4608);
    EXPECT_EQ(part.size(), 1024u);
    constexpr registered_buffer of_client = registered_buffer{3, 0, 8192}.subspan(512, 512);
    EXPECT_EQ(of_client.base(), 512u);
}

TEST(client_pages, a_part_of_them_is_of_the_same_request) {
    constexpr ublk::client_pages part =
        ublk::client_pages{9, 3, 100, 0, 8192}.subspan(4096, 2048).subspan(512, 100);
    EXPECT_EQ(part.file(), 9);
    EXPECT_EQ(part.queue(), 3);
    EXPECT_EQ(part.tag(), 100);
    EXPECT_EQ(part.base(), 4608u);
    EXPECT_EQ(part.size(), 100u);
}

}  // namespace
}  // namespace payload_test
