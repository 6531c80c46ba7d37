// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/event.hpp>
#include <ublk/policy/batch_policy.hpp>
#include <ublk/sim/rig.hpp>

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <string>
#include <vector>

namespace ublk::inline v0::sim {

/// The running test as a shell would start it for one world.
[[nodiscard]] inline std::string replay_command(std::uint64_t seed) {
    char program[4096] = "";
    const auto length = ::readlink("/proc/self/exe", program, sizeof program - 1);
    const auto* const test = ::testing::UnitTest::GetInstance()->current_test_info();
    return "UBLK_SIM_SEED=" + std::to_string(seed) + " " +
           std::string(program, length > 0 ? static_cast<std::size_t>(length) : 0) +
           (test == nullptr
                ? std::string{}
                : std::string{" --gtest_filter="} + test->test_suite_name() + "." + test->name());
}

/// How many worlds a law is tried in: UBLK_SIM_SEEDS in the environment, else 20; one for a replay.
[[nodiscard]] inline std::uint64_t worlds_to_try() {
    const char* const wanted = std::getenv("UBLK_SIM_SEEDS");
    return std::getenv("UBLK_SIM_SEED") != nullptr ? 1
           : wanted == nullptr                     ? 20
                                                   : std::strtoull(wanted, nullptr, 0);
}

/// Tries a law in one world after another, each on a kernel of another version, until it is broken.
/// `law` gets the world's conditions, to which it may add.
template <class Law>
void in_many_worlds(Law law) {
    constexpr kernel_version versions[] = {{7, 3}, {6, 12}, {6, 8}, {6, 16}, {7, 0}};
    const std::uint64_t worlds = worlds_to_try();
    for (std::uint64_t i = 0; i < worlds && !::testing::Test::HasFailure(); ++i) {
        conditions given;
        given.seed = seed_or(1 + i);
        given.version = versions[given.seed % std::size(versions)];
        given.replay = replay_command(given.seed);
        try {
            law(given);
        } catch (const std::exception& thrown) {
            ADD_FAILURE() << "an exception: " << thrown.what();
        }
        if (::testing::Test::HasFailure()) {
            ADD_FAILURE() << "on a simulated Linux " << given.version.text()
                          << "; to see it again:\n    " << given.replay;
        }
    }
}

/// Nobody did what he must not.
template <class Composition>
void expect_no_violation(rig<Composition>& r) {
    const std::vector<std::string> found = r.in.take_violations();
    if (!found.empty()) {
        ADD_FAILURE() << found.front() << (found.size() == 1 ? "" : " (and more)");
    }
}

/// Servers told nothing but what they chose at their start; and where something was done to them,
/// that they lost a thread by it, or do without what was refused.
template <class Composition>
void expect_no_trouble(rig<Composition>& r) {
    using enum event::kind;
    const bool meddled = r.meddled();
    constexpr bool by_driver = requires {
        requires batch_policy_traits<typename Composition::batch_policy>::by_driver;
    };
    const bool too_old = by_driver && !r.in.on().since(7, 0);
    for (const event& each : r.told) {
        const bool expected = each.type == setup || (each.type == thread_lost && meddled) ||
                              (each.type == fallback && (meddled || too_old));
        if (!expected) {
            ADD_FAILURE() << "an event that nobody expects: " << to_string(each);
            return;
        }
    }
}

/// The rings are made for what a backend says that it has in flight.
template <class Composition>
void expect_operations_declared(rig<Composition>& r) {
    const auto [declared, seen] = r.in.on().operations;
    EXPECT_LE(seen, declared) << "a request has at least " << seen
                              << " operations in flight, and the rings are made for " << declared
                              << "; write: static constexpr unsigned operations_in_flight = "
                              << seen << ";";
}

/// The end of every law: the server is gone, and nothing of it is left.
template <class Composition>
void expect_clean(rig<Composition>& r) {
    r.close();
    expect_no_violation(r);
    expect_no_trouble(r);
    expect_operations_declared(r);
    EXPECT_EQ(r.in.forget_devices(), 0u) << "a device is left behind";
    EXPECT_EQ(r.in.on().tasks.tasks(), 0u) << "threads are left behind:\n"
                                           << r.in.on().tasks.describe_waits();
}

}  // namespace ublk::inline v0::sim
