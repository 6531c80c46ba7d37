// SPDX-License-Identifier: MIT
// What simulated servers are told of backends that fail requests by mistake.
#include <ublk/sim/laws/worlds.hpp>
#include <ublk/ublk.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace failed_request_test {
namespace {

using namespace ublk::sim;
using namespace std::chrono_literals;
using ublk::io;
using ublk::ok;
using ublk::request;
using ublk::result;
using ublk::task;

/// Reads by a coroutine that is made wrong in some way, from the second half on.
template <task (*Read)(io&, std::size_t)>
struct wrong_disk {
    static constexpr unsigned operations_in_flight = 1;
    static constexpr std::size_t task_bytes = 1024;
    [[nodiscard]] std::uint64_t size() const noexcept { return 256u << 10; }
    task read(io& with, const request& r, std::span<std::byte> out) {
        if (r.offset() < 128u << 10) {
            return ok;
        }
        return Read(with, out.size());
    }
    result write(const request&, std::span<const std::byte>) { return ok; }
};

[[gnu::noinline]] task never_runs(io& with, std::size_t) {
    if (co_await with.sleep(1us) == 0) {
        co_return ok;
    }
    co_return std::errc::no_link;
}

[[gnu::noinline]] task takes_much(io& with, std::size_t some) {
    volatile std::byte much[4096];
    const int slept = co_await with.sleep(1us);
    much[some % sizeof much] = std::byte{1};
    co_return slept == 0 ? ok : result::failure(slept);
}

[[gnu::noinline]] task throws(io& with, std::size_t some) {
    const int slept = co_await with.sleep(1us);
    throw std::runtime_error{std::to_string(some) + " is too much, after " + std::to_string(slept)};
}

std::vector<std::string> heard;

/// What goes wrong while a client reads `reads` times; the client gets EIO each time.
template <class Backend>
std::vector<std::string> violations(unsigned reads, unsigned errors) {
    heard.clear();
    rig<composition<Backend, ublk::per_cpu, ublk::each>> r{{.seed = 3}};
    ublk::options requested = r.small();
    requested.on_event = [](const ublk::event& e) { heard.push_back(to_string(e)); };
    r.boot(requested);
    r.server->start();
    {
        client disk{r.in, r.server->id()};
        std::vector<std::byte> data(4096);
        unsigned failed = 0;
        for (unsigned i = 0; i < reads; ++i) {
            failed += disk.read(192u << 10, data) == EIO ? 1 : 0;
        }
        EXPECT_EQ(failed, errors);
        EXPECT_EQ(disk.read(0, data), 0);
    }
    r.server->stop();
    r.server.reset();
    r.in.settle();
    return r.in.take_violations();
}

bool mentions(const std::vector<std::string>& all, const std::string& text) {
    for (const std::string& each : all) {
        if (each.find(text) != each.npos) {
            return true;
        }
    }
    return false;
}

TEST(failed_request, a_coroutine_that_never_runs_is_a_violation_that_names_it) {
#if !defined(__clang__) && __GNUC__ == 12
    const std::vector<std::string> found = violations<wrong_disk<never_runs>>(3, 3);
    ASSERT_FALSE(found.empty());
    EXPECT_TRUE(mentions(found, "READ of 4096 bytes at 196608"));
    EXPECT_TRUE(mentions(found, "a coroutine of the backend never ran, which g++ 12 makes of"));
    EXPECT_TRUE(mentions(heard, "const auto answer = co_await ...;"));
#else
    EXPECT_TRUE(violations<wrong_disk<never_runs>>(3, 0).empty());
#endif
}

TEST(failed_request, a_frame_that_outgrows_its_memory_is_a_violation_that_says_what_it_takes) {
    const std::vector<std::string> found = violations<wrong_disk<takes_much>>(3, 3);
    ASSERT_FALSE(found.empty());
    EXPECT_TRUE(mentions(found, "static constexpr std::size_t task_bytes = "));
    EXPECT_TRUE(mentions(heard, "static constexpr std::size_t task_bytes = "));
}

TEST(failed_request, an_exception_is_told_and_is_none) {
    EXPECT_TRUE(violations<wrong_disk<throws>>(3, 3).empty());
    EXPECT_TRUE(mentions(heard, "the backend threw: 4096 is too much, after 0"));
}

// At most eight at once and one a second, however many there are and however fast they come.
TEST(failed_request, many_exceptions_do_not_flood_the_log) {
    EXPECT_TRUE(violations<wrong_disk<throws>>(500, 500).empty());
    EXPECT_GE(heard.size(), 9u);
    EXPECT_LE(heard.size(), 40u);
    EXPECT_TRUE(mentions(heard, " more requests failed with EIO in the same way"));
}

}  // namespace
}  // namespace failed_request_test
