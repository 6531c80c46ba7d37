// SPDX-License-Identifier: MIT
#include "../support/allocations.hpp"
#include "io_fixture.hpp"

#include <ublk/task.hpp>
#include <ublk/when_all.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <random>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

namespace task_test {
namespace {

using ublk::io;
using ublk::ok;
using ublk::result;
using ublk::task;
using ublk::detail::frame_memory;
using ublk_test::io_fixture;

// ---------------------------------------------------------------- the memory of the frames

struct stack_of_frames {
    explicit stack_of_frames(std::size_t bytes) : memory(bytes / sizeof(std::max_align_t)) {}
    std::vector<std::max_align_t> memory;
    frame_memory frames{std::as_writable_bytes(std::span{memory})};
};

TEST(frame_memory, frames_lie_in_its_memory_aligned_and_apart) {
    stack_of_frames s{4096};
    const auto bytes = std::as_writable_bytes(std::span{s.memory});
    std::byte* last = bytes.data();
    for (const std::size_t size : {1u, 15u, 16u, 17u, 100u, 255u}) {
        auto* const frame = static_cast<std::byte*>(s.frames.allocate(size));
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(frame) % alignof(std::max_align_t), 0u);
        EXPECT_GE(frame, last);
        last = frame + size;
        EXPECT_LE(last, bytes.data() + s.frames.used());
    }
    EXPECT_LE(s.frames.used(), bytes.size());
}

TEST(frame_memory, gives_back_in_the_reverse_order) {
    stack_of_frames s{4096};
    std::vector<std::pair<void*, std::size_t>> all;
    for (std::size_t size = 1; size < 200; size += 20) {
        const std::size_t before = s.frames.used();
        all.emplace_back(s.frames.allocate(size), before);
    }
    while (!all.empty()) {
        frame_memory::release(all.back().first);
        EXPECT_EQ(s.frames.used(), all.back().second);
        all.pop_back();
    }
}

TEST(frame_memory, what_goes_earlier_is_given_back_with_the_last_above_it) {
    stack_of_frames s{4096};
    void* const a = s.frames.allocate(100);
    const std::size_t one = s.frames.used();
    void* const b = s.frames.allocate(100);
    void* const c = s.frames.allocate(100);
    const std::size_t three = s.frames.used();
    frame_memory::release(b);
    EXPECT_EQ(s.frames.used(), three);
    frame_memory::release(c);
    EXPECT_EQ(s.frames.used(), one);
    frame_memory::release(a);
    EXPECT_EQ(s.frames.used(), 0u);
}

TEST(frame_memory, any_order_of_coming_and_going_ends_empty_and_overlaps_nowhere) {
    std::mt19937 random{7};
    stack_of_frames s{1u << 16};
    std::vector<std::pair<std::byte*, std::size_t>> there;
    for (int step = 0; step < 20'000; ++step) {
        const std::size_t size = 1 + random() % 300;
        if (s.frames.used() + size + 64 < (1u << 16) && random() % 2 == 0) {
            auto* const made = static_cast<std::byte*>(s.frames.allocate(size));
            for (const auto& [other, its_size] : there) {
                ASSERT_TRUE(made + size <= other || other + its_size <= made);
            }
            std::fill_n(made, size, std::byte{0xee});  // what a frame is may be written over
            there.emplace_back(made, size);
        } else if (!there.empty()) {
            const auto gone = there.begin() + static_cast<std::ptrdiff_t>(random() % there.size());
            frame_memory::release(gone->first);
            there.erase(gone);
        }
    }
    std::shuffle(there.begin(), there.end(), random);
    for (const auto& [each, size] : there) {
        frame_memory::release(each);
    }
    EXPECT_EQ(s.frames.used(), 0u);
}

TEST(frame_memory, takes_exactly_what_fits) {
    stack_of_frames s{4096};
    (void)s.frames.allocate(16);
    const std::size_t header = s.frames.used() - 16;
    (void)s.frames.allocate(4096 - s.frames.used() - header);
    EXPECT_EQ(s.frames.used(), 4096u);
}

TEST(frame_memory, says_what_it_would_have_taken) {
    stack_of_frames s{256};
    EXPECT_FALSE(s.frames.has_failures());
    EXPECT_EQ(s.frames.allocate(257), nullptr);
    EXPECT_GT(s.frames.wanted(), 257u);  // and what it needs itself
    EXPECT_TRUE(s.frames.has_failures());
    s.frames.forget_failures();
    EXPECT_FALSE(s.frames.has_failures());

    void* const below = s.frames.allocate(100);
    const std::size_t used = s.frames.used();
    EXPECT_EQ(s.frames.allocate(250), nullptr);
    EXPECT_GE(s.frames.wanted(), used + 250);
    const std::size_t most = s.frames.wanted();
    EXPECT_EQ(s.frames.allocate(200), nullptr);
    EXPECT_EQ(s.frames.wanted(), most);
    EXPECT_NE(s.frames.allocate(50), nullptr);  // what is there may still be used
    frame_memory::release(below);

    frame_memory none;
    EXPECT_EQ(none.allocate(1), nullptr);
    EXPECT_GE(none.wanted(), 1u);
}

// ---------------------------------------------------------------- one task

// Not inlined: clang would see a frame through and do without it.
[[gnu::noinline]] task answering(io&, result known, int* runs = nullptr) {
    if (runs != nullptr) {
        ++*runs;
    }
    co_return known;
}

task reading(io& with, int* outcome = nullptr) {
    const int bytes = co_await with.read_some(3, {});
    if (outcome != nullptr) {
        *outcome = bytes;
    }
    co_return bytes < 0 ? result::failure(bytes) : ok;
}

task throwing(io& with, bool later) {
    if (later) {
        (void)co_await with.read_some(3, {});
    }
    throw std::runtime_error{"no"};
    co_return ok;
}

TEST(task, an_answer_at_once_needs_no_coroutine) {
    const task good{ok};
    EXPECT_TRUE(good.done());
    EXPECT_TRUE(good.answer().ok());
    const task bad{std::errc::no_space_on_device};
    EXPECT_TRUE(bad.done());
    EXPECT_EQ(bad.answer().error(), ENOSPC);
}

TEST(task, starts_when_it_is_told_to) {
    io_fixture d;
    int runs = 0;
    task t = answering(d.with, std::errc::no_link, &runs);
    EXPECT_EQ(runs, 0);
    EXPECT_FALSE(t.done());
    EXPECT_EQ(t.answer().error(), EIO);  // not yet
    d.start(t);
    EXPECT_EQ(runs, 1);
    EXPECT_TRUE(t.done());
    EXPECT_EQ(t.answer().error(), ENOLINK);
}

TEST(task, waits_for_its_operation_and_tells_its_owner_of_the_end_once) {
    io_fixture d;
    int outcome = 0;
    task t = reading(d.with, &outcome);
    d.start(t);
    EXPECT_FALSE(t.done());
    EXPECT_EQ(d.heard_of(), 0u);
    EXPECT_TRUE(d.answer(d.the_operation(), 77));
    EXPECT_EQ(outcome, 77);
    EXPECT_TRUE(t.done());
    EXPECT_TRUE(t.answer().ok());
    EXPECT_EQ(d.heard_of(), 1u);
}

TEST(task, owners_of_tasks_that_end_together_are_all_heard_of) {
    io_fixture d;
    std::vector<io> others(3, io{d.home, {}});
    std::vector<std::max_align_t> memory(3 * 64);
    std::vector<task> tasks;
    for (std::size_t i = 0; i < 3; ++i) {
        others[i] = io{d.home, std::as_writable_bytes(std::span{memory}.subspan(i * 64, 64))};
        tasks.push_back(answering(others[i], ok));
        tasks.back().start(others[i]);
    }
    std::vector<ublk::detail::task_owner*> heard;
    while (ublk::detail::task_owner* const one = d.home.next_ended()) {
        heard.push_back(one);
    }
    ASSERT_EQ(heard.size(), 3u);
    for (io& each : others) {
        EXPECT_NE(std::find(heard.begin(), heard.end(), &each), heard.end());
    }
}

TEST(task, an_exception_becomes_eio) {
    io_fixture d;
    task now = throwing(d.with, false);
    d.start(now);
    EXPECT_TRUE(now.done());
    EXPECT_EQ(now.answer().error(), EIO);
    EXPECT_EQ(d.heard_of(), 1u);

    task later = throwing(d.with, true);
    d.start(later);
    EXPECT_FALSE(later.done());
    d.answer(d.the_operation(), 0);
    EXPECT_EQ(later.answer().error(), EIO);
    EXPECT_EQ(d.heard_of(), 1u);
}

TEST(task, moved_away_answers_eio) {
    io_fixture d;
    task from = answering(d.with, ok);
    task to{std::move(from)};
    EXPECT_TRUE(from.done());
    EXPECT_EQ(from.answer().error(), EIO);
    EXPECT_FALSE(to.done());
    d.start(to);
    EXPECT_TRUE(to.answer().ok());

    task known{ok};
    const task taken{std::move(known)};
    EXPECT_EQ(known.answer().error(), EIO);
    EXPECT_TRUE(taken.answer().ok());
}

TEST(task, assigned_over_gives_its_frame_back) {
    io_fixture d;
    task t = answering(d.with, ok);
    EXPECT_NE(d.frames(), 0u);
    t = task{std::errc::no_link};
    EXPECT_EQ(d.frames(), 0u);
    EXPECT_EQ(t.answer().error(), ENOLINK);
}

struct witness {
    int* gone;
    ~witness() { ++*gone; }
};

task holding(io& with, int* gone) {
    const witness seen{gone};
    co_return result::failure(co_await with.read_some(3, {}));
}

TEST(task, never_started_gives_its_frame_back) {
    io_fixture d;
    int gone = 0;
    { const task t = holding(d.with, &gone); }
    EXPECT_EQ(gone, 0);
    EXPECT_EQ(d.frames(), 0u);
}

TEST(task, dropped_while_it_waits_ends_what_it_holds) {
    io_fixture d;
    int gone = 0;
    {
        task t = holding(d.with, &gone);
        d.start(t);
        (void)d.submitted();
        EXPECT_EQ(gone, 0);
    }
    EXPECT_EQ(gone, 1);
    EXPECT_EQ(d.frames(), 0u);
}

// ---------------------------------------------------------------- tasks that await tasks

task nested(io& with, int depth) {
    if (depth == 0) {
        co_return co_await reading(with);
    }
    const result below = co_await nested(with, depth - 1);
    co_return below.ok() ? ok : below;
}

TEST(task, a_chain_of_tasks_passes_its_answer_up) {
    for (const int code : {12, -ENOSPC}) {
        io_fixture d{1u << 14};
        task t = nested(d.with, 20);
        d.start(t);
        EXPECT_EQ(d.heard_of(), 0u);
        d.answer(d.the_operation(), code);
        EXPECT_TRUE(t.done());
        EXPECT_EQ(t.answer().error(), code < 0 ? -code : 0);
        EXPECT_EQ(d.heard_of(), 1u);  // of the outermost only
        t = task{ok};
        EXPECT_EQ(d.frames(), 0u);
    }
}

task lazily(io& with, std::vector<int>& order) {
    order.push_back(1);
    task later = [](io&, std::vector<int>& noted) -> task {
        noted.push_back(3);
        co_return std::errc::no_link;
    }(with, order);
    order.push_back(2);
    const result outcome = co_await std::move(later);
    order.push_back(4);
    co_return outcome;
}

TEST(task, awaited_runs_then_and_not_before) {
    io_fixture d;
    std::vector<int> order;
    task t = lazily(d.with, order);
    d.start(t);
    EXPECT_EQ(order, (std::vector<int>{1, 2, 3, 4}));
    EXPECT_EQ(t.answer().error(), ENOLINK);
}

task awaiting_answers_at_once(io&) {
    const result good = co_await task{ok};
    task moved{ok};
    const task elsewhere{std::move(moved)};
    const result lost = co_await std::move(moved);
    const result bad = co_await task{std::errc::no_link};
    co_return good.ok() && lost.error() == EIO ? bad : ok;
}

TEST(task, awaits_answers_at_once_without_waiting) {
    io_fixture d;
    task t = awaiting_answers_at_once(d.with);
    d.start(t);
    EXPECT_TRUE(t.done());
    EXPECT_EQ(t.answer().error(), ENOLINK);
}

task catching(io& with) {
    const result now = co_await throwing(with, false);
    const result later = co_await throwing(with, true);
    co_return now.error() == EIO&& later.error() == EIO ? ok : result{std::errc::no_link};
}

TEST(task, an_exception_stays_in_the_task_that_throws) {
    io_fixture d;
    task t = catching(d.with);
    d.start(t);
    d.answer(d.the_operation(), 0);
    EXPECT_TRUE(t.done());
    EXPECT_TRUE(t.answer().ok());
}

task row(io& with, int length) {
    for (int i = 0; i < length; ++i) {
        (void)co_await answering(with, ok);
    }
    co_return ok;
}

TEST(task, a_long_row_of_tasks_reuses_the_same_memory) {
    io_fixture d{1024};
    task t = row(d.with, 1000);
    d.start(t);
    EXPECT_TRUE(t.done());
    EXPECT_TRUE(t.answer().ok());
}

// ---------------------------------------------------------------- where the frame lies

struct backend_like {
    [[gnu::noinline]] task read(io&, int) { co_return ok; }
    [[gnu::noinline]] static task with_io_last(int, const char*, io&) { co_return ok; }
};

TEST(task, its_frame_lies_in_the_memory_of_its_tag) {
    io_fixture d;
    backend_like b;
    {
        const task member = b.read(d.with, 1);
        const std::size_t one = d.frames();
        EXPECT_NE(one, 0u);
        const task last = backend_like::with_io_last(1, "", d.with);
        EXPECT_GT(d.frames(), one);
        const auto lambda = [](io&) __attribute__((noinline))->task {
            co_return ok;
        };
        const std::size_t two = d.frames();
        const task of_lambda = lambda(d.with);
        EXPECT_GT(d.frames(), two);
    }
    EXPECT_EQ(d.frames(), 0u);
}

TEST(task, frames_that_do_not_fit_end_with_eio_and_give_everything_back) {
    io_fixture d{512};
    {
        task t = nested(d.with, 20);
        d.start(t);
        EXPECT_TRUE(t.done());
        EXPECT_EQ(t.answer().error(), EIO);
        EXPECT_GT(d.with.frames().wanted(), 512u);
    }
    EXPECT_EQ(d.frames(), 0u);
    d.with.frames().forget_failures();
    task t = answering(d.with, ok);
    d.start(t);
    EXPECT_TRUE(t.answer().ok());
    EXPECT_FALSE(d.with.frames().has_failures());
}

TEST(task, not_even_one_frame_may_fit) {
    io_fixture d{16};
    task t = nested(d.with, 0);
    EXPECT_TRUE(t.done());
    EXPECT_EQ(t.answer().error(), EIO);
    EXPECT_NE(d.with.frames().wanted(), 0u);
}

task throwing(io&, int what) {
    if (what != 0) {
        throw what;
    }
    co_return ok;
}

TEST(task, what_it_throws_is_kept) {
    io_fixture d;
    task t = throwing(d.with, 7);
    d.start(t);
    EXPECT_EQ(t.answer().error(), EIO);
    ASSERT_TRUE(d.with.frames().has_failures());
    EXPECT_THROW(std::rethrow_exception(d.with.frames().thrown()), int);
    d.with.frames().forget_failures();
    EXPECT_FALSE(d.with.frames().has_failures());
}

TEST(task, what_the_giver_of_work_throws_is_kept) {
    io_fixture d;
    auto give = [](ublk::completion_handle) { throw std::runtime_error{"busy"}; };
    const auto asking = [&](io& with) -> task {
        const result answer = co_await with.offload(give);
        co_return answer;
    };
    task t = asking(d.with);
    d.start(t);
    d.resume_returned();
    EXPECT_EQ(t.answer().error(), EIO);
    EXPECT_THROW(std::rethrow_exception(d.with.frames().thrown()), std::runtime_error);
}

// g++ 12 cannot run these, and says nothing; other compilers can.
[[gnu::noinline]] task in_a_condition(io& with) {
    if ((co_await answering(with, ok)).ok()) {
        co_return ok;
    }
    co_return std::errc::no_link;
}
[[gnu::noinline]] task in_a_loop(io& with) {
    while (!(co_await answering(with, ok)).ok()) {
    }
    co_return ok;
}
[[gnu::noinline]] task around_a_condition(io& with) {
    const result answer = co_await in_a_condition(with);
    co_return answer;
}
[[gnu::noinline]] task several_conditions(io& with) {
    const result answer = co_await ublk::when_all(in_a_loop(with), in_a_condition(with));
    co_return answer;
}

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ == 12
constexpr bool conditions_run = false;
#else
constexpr bool conditions_run = true;
#endif

TEST(task, one_that_the_compiler_cannot_run_is_known) {
    for (task (*const each)(io&) :
         {in_a_condition, in_a_loop, around_a_condition, several_conditions}) {
        io_fixture d;
        std::ranges::fill(std::as_writable_bytes(std::span{d.memory}), std::byte{0xa5});
        for (int again = 0; again < 3; ++again) {
            {
                task t = each(d.with);
                if (!t.done()) {
                    d.start(t);
                }
                EXPECT_TRUE(t.done());
                EXPECT_EQ(t.answer().error(), conditions_run ? 0 : EIO);
            }
            EXPECT_EQ(d.with.frames().never_ran(), !conditions_run);
            d.with.frames().forget_failures();
            EXPECT_FALSE(d.with.frames().never_ran());
            EXPECT_EQ(d.frames(), 0u);
        }
    }
}

// ---------------------------------------------------------------- nothing on the heap

task both_ways(io& with) {
    const result one = co_await reading(with);
    const result two = co_await nested(with, 2);
    const result three = co_await answering(with, ok);
    co_return one.ok() && two.ok() && three.ok() ? ok : result{std::errc::io_error};
}

TEST(task, requests_take_nothing_from_the_heap) {
    if (!ublk::test::allocations_are_counted()) {
        GTEST_SKIP() << "this program has another operator new";
    }
    io_fixture d;
    const std::array<task (*)(io&), 4> shapes{
        [](io& with) { return answering(with, ok); }, [](io& with) { return reading(with); },
        [](io& with) { return nested(with, 3); }, [](io& with) { return both_ways(with); }};
    const std::uint64_t before = ublk::test::allocations;
    for (int request = 0; request < 5000; ++request) {
        task t = shapes[static_cast<std::size_t>(request) % shapes.size()](d.with);
        d.start(t);
        while (!t.done()) {
            ublk::detail::operation* const requested = d.home.next_submission();
            (void)d.answer(*requested, 1);
        }
        (void)d.home.next_ended();
    }
    const std::uint64_t taken = ublk::test::allocations - before;
    EXPECT_EQ(taken, 0u);
    EXPECT_EQ(d.frames(), 0u);
}

}  // namespace
}  // namespace task_test
