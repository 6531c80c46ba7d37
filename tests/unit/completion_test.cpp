// SPDX-License-Identifier: MIT
#include <ublk/data/completion.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

namespace completion_test {
namespace {

namespace uapi = ublk::uapi;

struct sink {
    struct answer {
        std::uint16_t place;
        std::uint16_t tag;
        ublk::result outcome;
    };
    std::vector<answer> answers{};
    void complete(std::uint16_t place, const ublk::request& r, ublk::result outcome) {
        answers.push_back({place, r.tag().value(), outcome});
    }
};

using promise = ublk::detail::promise<sink>;

static_assert(!std::is_copy_constructible_v<promise> && !std::is_copy_assignable_v<promise>);
static_assert(std::is_nothrow_move_constructible_v<promise>);
static_assert(!std::is_move_assignable_v<promise>, "assigning would drop a duty in silence");

// Only a promise that is given away can be fulfilled.
template <class P>
concept fulfillable = requires(P promised) {
    static_cast<P>(promised).fulfil(ublk::ok);
};
static_assert(fulfillable<promise&&> && !fulfillable<promise&>);

const ublk::request requested{uapi::io_desc{}, ublk::queue_id{1}, ublk::tag{5}};

TEST(promise, a_fulfilled_one_answers_once) {
    sink to;
    {
        promise duty{to, 2, requested};
        std::move(duty).fulfil(ublk::ok);
        ASSERT_EQ(to.answers.size(), 1u);
    }
    ASSERT_EQ(to.answers.size(), 1u);
    EXPECT_EQ(to.answers[0].place, 2u);
    EXPECT_EQ(to.answers[0].tag, 5u);
    EXPECT_TRUE(to.answers[0].outcome.ok());
}

TEST(promise, a_failure_is_passed_on) {
    sink to;
    promise{to, 0, requested}.fulfil(std::errc::no_space_on_device);
    ASSERT_EQ(to.answers.size(), 1u);
    EXPECT_EQ(to.answers[0].outcome.error(), ENOSPC);
}

TEST(promise, a_dropped_one_answers_eio) {
    sink to;
    { promise dropped{to, 4, requested}; }
    ASSERT_EQ(to.answers.size(), 1u);
    EXPECT_EQ(to.answers[0].place, 4u);
    EXPECT_EQ(to.answers[0].tag, 5u);
    EXPECT_EQ(to.answers[0].outcome.error(), EIO);
}

TEST(promise, one_that_an_exception_passes_answers_eio) {
    sink to;
    try {
        promise dropped{to, 0, requested};
        throw std::runtime_error{"no"};
    } catch (const std::runtime_error&) {
    }
    ASSERT_EQ(to.answers.size(), 1u);
    EXPECT_EQ(to.answers[0].outcome.error(), EIO);
}

TEST(promise, one_that_was_moved_from_is_silent) {
    sink to;
    {
        promise first{to, 6, requested};
        {
            promise second{std::move(first)};
            EXPECT_TRUE(to.answers.empty());
            std::move(second).fulfil(ublk::ok);
        }
    }
    ASSERT_EQ(to.answers.size(), 1u);
    EXPECT_EQ(to.answers[0].place, 6u);
    EXPECT_EQ(to.answers[0].tag, 5u);
    EXPECT_TRUE(to.answers[0].outcome.ok());
}

TEST(promise, fulfilling_one_twice_asserts) {
    EXPECT_DEATH(
        {
            sink to;
            promise duty(to, 0, requested);
            std::move(duty).fulfil(ublk::ok);
            std::move(duty).fulfil(ublk::ok);
        },
        "a tag is completed exactly once");
}

TEST(promise, fulfilling_one_that_was_moved_from_asserts) {
    EXPECT_DEATH(
        {
            sink to;
            promise duty(to, 0, requested);
            promise taken(std::move(duty));
            std::move(duty).fulfil(ublk::ok);
        },
        "a tag is completed exactly once");
}

}  // namespace
}  // namespace completion_test
