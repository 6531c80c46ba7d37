// SPDX-License-Identifier: MIT
#include <ublk/detail/fixed_array.hpp>

#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <utility>

namespace fixed_array_test {
namespace {

using ublk::detail::fixed_array;

/// Neither copied nor moved, and counted.
struct fixture {
    fixture() { ++alive; }
    fixture(const fixture&) = delete;
    fixture& operator=(const fixture&) = delete;
    ~fixture() { --alive; }
    int value = 7;
    inline static int alive = 0;
};

TEST(fixed_array, has_as_many_elements_as_were_asked_for) {
    {
        fixed_array<fixture> three{3};
        EXPECT_EQ(three.size(), 3u);
        EXPECT_EQ(fixture::alive, 3);
        EXPECT_EQ(three[2].value, 7);
        three[1].value = 8;
        int sum = 0;
        for (const fixture& each : std::as_const(three)) {
            sum += each.value;
        }
        EXPECT_EQ(sum, 7 + 8 + 7);
    }
    EXPECT_EQ(fixture::alive, 0);
}

TEST(fixed_array, of_nothing_is_empty) {
    const fixed_array<fixture> none;
    const fixed_array<fixture> zero{std::size_t{0}};
    EXPECT_TRUE(none.empty());
    EXPECT_TRUE(zero.empty());
    EXPECT_EQ(none.begin(), none.end());
    EXPECT_EQ(zero.begin(), zero.end());
}

TEST(fixed_array, begins_with_zeroes) {
    const fixed_array<unsigned> numbers{64};
    for (const unsigned each : numbers) {
        EXPECT_EQ(each, 0u);
    }
}

TEST(fixed_array, moves_without_moving_its_elements) {
    fixed_array<fixture> from{2};
    const fixture* const first = &from[0];
    fixed_array<fixture> to{std::move(from)};
    EXPECT_EQ(&to[0], first);
    EXPECT_TRUE(from.empty());

    fixed_array<fixture> other{5};
    other = std::move(to);
    EXPECT_EQ(&other[0], first);
    EXPECT_EQ(other.size(), 2u);
    other = {};
    EXPECT_TRUE(other.empty());
}

TEST(fixed_array, gives_up_its_elements_when_another_takes_their_place) {
    {
        fixed_array<fixture> held{5};
        held = fixed_array<fixture>{2};
        EXPECT_EQ(fixture::alive, 2);
        held = {};
        EXPECT_EQ(fixture::alive, 0);
    }
    EXPECT_EQ(fixture::alive, 0);
}

TEST(fixed_array, leaves_nothing_where_an_element_cannot_be_made) {
    struct picky : fixture {
        picky() {
            if (alive == 3) {
                throw std::runtime_error{"enough"};
            }
        }
    };
    EXPECT_THROW(fixed_array<picky>{4}, std::runtime_error);
    EXPECT_EQ(fixture::alive, 0);
}

}  // namespace
}  // namespace fixed_array_test
