// SPDX-License-Identifier: MIT
#include <ublk/detail/mapping.hpp>

#include <gtest/gtest.h>

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>

namespace mapping_test {
namespace {

using ublk::detail::mapping;

static_assert(!std::is_copy_constructible_v<mapping> && !std::is_copy_assignable_v<mapping>);
static_assert(std::is_nothrow_move_constructible_v<mapping>);
static_assert(std::is_nothrow_move_assignable_v<mapping>);

const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));

mapping anonymous(std::size_t bytes) {
    return mapping{bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, "testing"};
}

bool is_mapped(const std::byte* address) {
    unsigned char resident = 0;
    return ::mincore(const_cast<std::byte*>(address), page, &resident) == 0;
}

TEST(mapping, an_empty_one_owns_nothing) {
    const mapping none;
    EXPECT_EQ(none.data(), nullptr);
    EXPECT_EQ(none.size(), 0u);
}

TEST(mapping, memory_is_there_until_the_end) {
    std::byte* address = nullptr;
    {
        const mapping memory = anonymous(3 * page);
        address = memory.data();
        EXPECT_EQ(memory.size(), 3 * page);
        address[3 * page - 1] = std::byte{1};
        EXPECT_TRUE(is_mapped(address));
    }
    EXPECT_FALSE(is_mapped(address));
}

TEST(mapping, moving_hands_over) {
    mapping first = anonymous(page);
    std::byte* const address = first.data();
    const mapping second{std::move(first)};
    EXPECT_EQ(first.data(), nullptr);
    EXPECT_EQ(first.size(), 0u);
    EXPECT_EQ(second.data(), address);
    EXPECT_EQ(second.size(), page);
    EXPECT_TRUE(is_mapped(address));
}

TEST(mapping, assigning_unmaps_what_was_there) {
    mapping first = anonymous(page);
    mapping second = anonymous(2 * page);
    const std::byte* const one = first.data();
    std::byte* const two = second.data();
    first = std::move(second);
    EXPECT_FALSE(is_mapped(one));
    EXPECT_EQ(first.data(), two);
    EXPECT_EQ(first.size(), 2 * page);
    mapping& same = first;
    first = std::move(same);
    EXPECT_EQ(first.data(), two);
    EXPECT_TRUE(is_mapped(two));
}

TEST(mapping, a_refusal_names_the_step_the_errno_and_the_size) {
    try {
        const mapping memory{page, PROT_READ, MAP_SHARED, -1, 0, "mapping the descriptors"};
        FAIL();
    } catch (const ublk::error& e) {
        EXPECT_EQ(e.errno_value(), EBADF);
        EXPECT_EQ(e.command(), "mapping the descriptors");
        EXPECT_NE(std::string{e.what()}.find(std::to_string(page) + " bytes"), std::string::npos);
    }
}

TEST(mapping, no_bytes_are_refused) {
    EXPECT_THROW(anonymous(0), ublk::error);
}

}  // namespace
}  // namespace mapping_test
