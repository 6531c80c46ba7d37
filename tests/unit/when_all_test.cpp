// SPDX-License-Identifier: MIT
#include "io_fixture.hpp"

#include <ublk/when_all.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <random>
#include <span>
#include <utility>
#include <vector>

namespace when_all_test {
namespace {

using ublk::io;
using ublk::ok;
using ublk::result;
using ublk::task;
using ublk::when_all;
using ublk::detail::operation;
using ublk_test::io_fixture;

task at_once(io&, result known) {
    co_return known;
}

task later(io& with) {
    const int outcome = co_await with.read_some(3, {});
    co_return outcome < 0 ? result::failure(outcome) : ok;
}

task all_of(io&, std::span<task> tasks, int* resumed = nullptr) {
    const result all = co_await when_all(tasks);
    if (resumed != nullptr) {
        ++*resumed;
    }
    co_return all;
}

TEST(when_all, of_nothing_is_ok_at_once) {
    io_fixture d;
    task t = all_of(d.with, {});
    d.start(t);
    EXPECT_TRUE(t.done());
    EXPECT_TRUE(t.answer().ok());
}

TEST(when_all, of_tasks_that_end_at_once_waits_for_nothing) {
    io_fixture d;
    {
        std::vector<task> tasks;
        for (int i = 0; i < 3; ++i) {
            tasks.push_back(at_once(d.with, ok));
        }
        tasks.emplace_back(ok);
        int resumed = 0;
        task t = all_of(d.with, tasks, &resumed);
        d.start(t);
        EXPECT_TRUE(t.done());
        EXPECT_TRUE(t.answer().ok());
        EXPECT_EQ(resumed, 1);
        EXPECT_EQ(d.heard_of(), 1u);
    }
    EXPECT_EQ(d.frames(), 0u);
}

TEST(when_all, starts_all_before_it_waits_for_any) {
    io_fixture d;
    std::vector<task> tasks;
    for (int i = 0; i < 4; ++i) {
        tasks.push_back(later(d.with));
    }
    task t = all_of(d.with, tasks);
    d.start(t);
    EXPECT_EQ(d.submitted().size(), 4u);
    EXPECT_FALSE(t.done());
}

TEST(when_all, waits_for_the_last_whichever_that_is) {
    std::vector<std::size_t> order{0, 1, 2, 3};
    do {
        io_fixture d;
        std::vector<task> tasks;
        for (int i = 0; i < 4; ++i) {
            tasks.push_back(later(d.with));
        }
        int resumed = 0;
        task t = all_of(d.with, tasks, &resumed);
        d.start(t);
        const std::vector<operation*> requested = d.submitted();
        for (const std::size_t i : order) {
            EXPECT_FALSE(t.done());
            d.answer(*requested[i], 1);
        }
        EXPECT_TRUE(t.done());
        EXPECT_EQ(resumed, 1);
        EXPECT_TRUE(t.answer().ok());
    } while (std::next_permutation(order.begin(), order.end()));
}

// Answers at once, coroutines that end at once and ones that wait, in each mixture and order.
TEST(when_all, waits_for_those_that_wait_among_those_that_do_not) {
    for (unsigned mixture = 0; mixture < 81; ++mixture) {
        io_fixture d;
        std::vector<task> tasks;
        std::size_t waiting = 0;
        for (unsigned i = 0, rest = mixture; i < 4; ++i, rest /= 3) {
            switch (rest % 3) {
            case 0:
                tasks.emplace_back(ok);
                break;
            case 1:
                tasks.push_back(at_once(d.with, ok));
                break;
            default:
                tasks.push_back(later(d.with));
                ++waiting;
            }
        }
        task t = all_of(d.with, tasks);
        d.start(t);
        const std::vector<operation*> requested = d.submitted();
        ASSERT_EQ(requested.size(), waiting);
        for (operation* each : requested) {
            EXPECT_FALSE(t.done());
            d.answer(*each, 0);
        }
        EXPECT_TRUE(t.done());
        EXPECT_TRUE(t.answer().ok());
    }
}

TEST(when_all, answers_with_the_first_failure_in_order_and_not_in_time) {
    io_fixture d;
    std::vector<task> tasks;
    tasks.push_back(later(d.with));
    tasks.push_back(later(d.with));
    tasks.push_back(at_once(d.with, std::errc::no_link));
    task t = all_of(d.with, tasks);
    d.start(t);
    const std::vector<operation*> requested = d.submitted();
    d.answer(*requested[1], -ENOSPC);
    EXPECT_FALSE(t.done());  // all are waited for, also after a failure
    d.answer(*requested[0], 5);
    EXPECT_EQ(t.answer().error(), ENOSPC);
}

TEST(when_all, takes_a_task_that_was_moved_away_for_lost) {
    io_fixture d;
    std::vector<task> tasks;
    tasks.emplace_back(ok);
    tasks.emplace_back(ok);
    const task elsewhere{std::move(tasks[1])};
    task t = all_of(d.with, tasks);
    d.start(t);
    EXPECT_EQ(t.answer().error(), EIO);
}

task named(io& with, int* resumed) {
    const result all =
        co_await when_all(later(with), at_once(with, ok), task{ok}, later(with), later(with));
    ++*resumed;
    co_return all;
}

TEST(when_all, takes_tasks_one_by_one) {
    for (const int fails : {-1, 0, 1, 2}) {
        io_fixture d;
        int resumed = 0;
        {
            task t = named(d.with, &resumed);
            d.start(t);
            const std::vector<operation*> requested = d.submitted();
            ASSERT_EQ(requested.size(), 3u);
            for (const int i : {2, 0, 1}) {
                EXPECT_FALSE(t.done());
                d.answer(*requested[static_cast<std::size_t>(i)], i == fails ? -ENOLINK : 0);
            }
            EXPECT_TRUE(t.done());
            EXPECT_EQ(resumed, 1);
            EXPECT_EQ(t.answer().error(), fails < 0 ? 0 : ENOLINK);
        }
        EXPECT_EQ(d.frames(), 0u);
    }
}

task named_at_once(io& with, result last) {
    co_return co_await when_all(at_once(with, ok), task{ok}, at_once(with, last));
}

TEST(when_all, of_named_tasks_that_end_at_once_waits_for_nothing) {
    for (const result last : {ok, result{std::errc::no_link}}) {
        io_fixture d;
        task t = named_at_once(d.with, last);
        d.start(t);
        EXPECT_TRUE(t.done());
        EXPECT_EQ(t.answer(), last);
    }
}

// ---------------------------------------------------------------- trees

task tree(io& with, int depth, int* leaves) {
    if (depth == 0) {
        ++*leaves;
        co_return co_await later(with);
    }
    co_return co_await when_all(tree(with, depth - 1, leaves), tree(with, depth - 1, leaves));
}

TEST(when_all, of_others_of_its_kind_waits_for_all_leaves) {
    std::mt19937 random{3};
    for (int round = 0; round < 50; ++round) {
        io_fixture d{1u << 16};
        int leaves = 0;
        {
            task t = tree(d.with, 5, &leaves);
            d.start(t);
            EXPECT_EQ(leaves, 32);
            std::vector<operation*> requested = d.submitted();
            ASSERT_EQ(requested.size(), 32u);
            std::shuffle(requested.begin(), requested.end(), random);
            const bool fails = round % 2 == 0;
            for (operation* each : requested) {
                EXPECT_FALSE(t.done());
                d.answer(*each, fails && each == requested[7] ? -ENOLINK : 0);
            }
            EXPECT_TRUE(t.done());
            EXPECT_EQ(t.answer().error(), fails ? ENOLINK : 0);
            EXPECT_EQ(d.heard_of(), 1u);
        }
        EXPECT_EQ(d.frames(), 0u);
    }
}

}  // namespace
}  // namespace when_all_test
