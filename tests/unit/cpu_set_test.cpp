// SPDX-License-Identifier: MIT
#include <ublk/detail/cpu_set.hpp>
#include <ublk/kernel/thread_affinity.hpp>

#include <gtest/gtest.h>

#include <sched.h>

#include <chrono>
#include <cstddef>
#include <thread>

namespace cpu_set_test {
namespace {

using ublk::cpu_set;
using ublk::detail::thread_affinity;
using namespace std::chrono_literals;

// What this process may use, by the kernel's own word.
cpu_set allowed() {
    return ublk::detail::allowed_cpus();
}

std::size_t first_of(const cpu_set& cpus) {
    std::size_t cpu = 0;
    while (cpu < cpu_set::cpus_max && !cpus.contains(cpu)) {
        ++cpu;
    }
    return cpu;
}

TEST(cpu_set, starts_empty) {
    const cpu_set none;
    EXPECT_TRUE(none.empty());
    for (std::size_t cpu = 0; cpu < cpu_set::cpus_max; ++cpu) {
        EXPECT_FALSE(none.contains(cpu));
    }
}

TEST(cpu_set, contains_what_was_inserted_and_nothing_else) {
    for (const std::size_t wanted : {0ul, 1ul, 31ul, 32ul, 63ul, 64ul, 4095ul, 8191ul}) {
        cpu_set cpus;
        cpus.insert(wanted);
        EXPECT_FALSE(cpus.empty());
        for (std::size_t cpu = 0; cpu < cpu_set::cpus_max; ++cpu) {
            EXPECT_EQ(cpus.contains(cpu), cpu == wanted);
        }
    }
}

TEST(cpu_set, does_not_contain_what_is_beyond_its_end) {
    cpu_set cpus;
    cpus.raw().fill(~0ul);
    EXPECT_TRUE(cpus.contains(8191));
    EXPECT_FALSE(cpus.contains(8192));
    EXPECT_FALSE(cpus.contains(~std::size_t{0}));
}

TEST(cpu_set, takes_in_others) {
    cpu_set one;
    one.insert(std::size_t{3});
    cpu_set two;
    two.insert(std::size_t{70});
    one.insert(two);
    EXPECT_TRUE(one.contains(3));
    EXPECT_TRUE(one.contains(70));
    EXPECT_FALSE(two.contains(3));
}

TEST(cpu_set, lies_as_the_kernel_has_it) {
    const cpu_set mine = allowed();
    EXPECT_FALSE(mine.empty());
    EXPECT_LT(first_of(mine), cpu_set::cpus_max);
}

TEST(pinning, restricts_the_calling_thread_only) {
    const cpu_set before = allowed();
    cpu_set one;
    one.insert(first_of(before));
    std::thread{[&] {
        EXPECT_TRUE(ublk::detail::pin_this_thread(one));
        EXPECT_EQ(allowed().raw(), one.raw());
    }}.join();
    EXPECT_EQ(allowed().raw(), before.raw());
}

TEST(pinning, to_no_cpu_leaves_the_thread_as_it_is) {
    const cpu_set before = allowed();
    EXPECT_TRUE(ublk::detail::pin_this_thread(cpu_set{}));
    EXPECT_EQ(allowed().raw(), before.raw());
}

TEST(pinning, to_a_cpu_that_is_not_there_is_refused_and_harmless) {
    const cpu_set before = allowed();
    cpu_set far;
    far.insert(cpu_set::cpus_max - 1);
    EXPECT_FALSE(ublk::detail::pin_this_thread(far));
    EXPECT_EQ(allowed().raw(), before.raw());
}

// As taskset(1) bounds a program.
TEST(pinning, within_what_is_allowed_never_leaves_it) {
    const cpu_set before = allowed();
    const std::size_t first = first_of(before);
    cpu_set one;
    one.insert(first);
    cpu_set all = before;
    all.insert(first + 1);
    cpu_set others = all;
    others.intersect([&] {
        cpu_set rest;
        rest.insert(first + 1);
        return rest;
    }());
    std::thread{[&] {
        ASSERT_TRUE(ublk::detail::pin_this_thread(one));
        const bool bound = ublk::detail::online_cpus() > 1;
        thread_affinity affinity;
        EXPECT_TRUE(affinity.set(all));
        EXPECT_EQ(allowed().raw(), one.raw());
        EXPECT_FALSE(affinity.set(others));
        EXPECT_EQ(allowed().raw(), one.raw());
        EXPECT_TRUE(affinity.set(cpu_set{}));
        EXPECT_EQ(ublk::detail::within_allowed(all).raw(), bound ? one.raw() : all.raw());
    }}.join();
}

// Those that are offline as yet may come.
TEST(pinning, is_not_bound_by_what_is_online) {
    const cpu_set before = allowed();
    if (before.count() < ublk::detail::online_cpus()) {
        GTEST_SKIP() << "this program may not use every CPU";
    }
    cpu_set more = before;
    more.insert(cpu_set::cpus_max - 1);
    EXPECT_EQ(ublk::detail::within_allowed(more).raw(), more.raw());
}

/// The calling thread, on another CPU than the first that it may use, where it belongs.
class pinning_of_threads : public ::testing::Test {
protected:
    void SetUp() override {
        if (before.count() < 2) {
            GTEST_SKIP() << "this program may use one CPU only";
        }
        here.insert(first_of(before));
        for (std::size_t cpu = first_of(before) + 1; cpu < cpu_set::cpus_max; ++cpu) {
            elsewhere.insert(cpu);
        }
        elsewhere.intersect(before);
    }

    /// Runs elsewhere, and may run where `mask` says.
    static void move(const cpu_set& to, const cpu_set& mask) {
        ASSERT_TRUE(ublk::detail::pin_this_thread(to));
        ASSERT_TRUE(ublk::detail::pin_this_thread(mask));
    }

    cpu_set before = allowed();
    cpu_set here{};
    cpu_set elsewhere{};
};

// A thread loses its CPUs when they go offline: it may then run on all, and the kernel does not
// take that back.
TEST_F(pinning_of_threads, one_that_runs_elsewhere_is_pinned_anew) {
    std::thread{[&] {
        thread_affinity affinity;
        ASSERT_TRUE(affinity.set(here));
        affinity.check();
        for (int i = 0; i < 60000 && allowed().raw() != here.raw(); ++i) {
            move(elsewhere, before);
            affinity.check();
            std::this_thread::sleep_for(std::chrono::milliseconds{1});
        }
        EXPECT_EQ(allowed().raw(), here.raw());
    }}.join();
}

TEST_F(pinning_of_threads, the_kernel_is_asked_ten_times_a_second) {
    std::thread{[&] {
        thread_affinity affinity;
        ASSERT_TRUE(affinity.set(here));
        const auto begin = std::chrono::steady_clock::now();
        int pinned = 0;
        for (int i = 0; i < 1000; ++i) {
            move(elsewhere, before);
            affinity.check();
            pinned += allowed().raw() == here.raw() ? 1 : 0;
        }
        const auto tenths = (std::chrono::steady_clock::now() - begin) / 100ms;
        EXPECT_LE(pinned, tenths + 1);
    }}.join();
}

// As `taskset -p` moves it.
TEST_F(pinning_of_threads, one_that_the_user_moved_stays) {
    std::thread{[&] {
        thread_affinity affinity;
        ASSERT_TRUE(affinity.set(here));
        affinity.check();
        for (int i = 0; i < 3; ++i) {
            move(elsewhere, elsewhere);
            affinity.check();
            EXPECT_EQ(allowed().raw(), elsewhere.raw());
            std::this_thread::sleep_for(110ms);
        }
    }}.join();
}

TEST_F(pinning_of_threads, one_that_belongs_anywhere_is_left_alone) {
    std::thread{[&] {
        thread_affinity affinity;
        EXPECT_TRUE(affinity.set(cpu_set{}));
        move(elsewhere, elsewhere);
        affinity.check();
        EXPECT_EQ(allowed().raw(), elsewhere.raw());
    }}.join();
}

TEST(online_cpus, are_at_least_one) {
    EXPECT_GE(ublk::detail::online_cpus(), 1u);
    EXPECT_LE(ublk::detail::online_cpus(), cpu_set::cpus_max);
}

}  // namespace
}  // namespace cpu_set_test
