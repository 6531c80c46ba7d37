// SPDX-License-Identifier: MIT
#include "../support/ring_setup.hpp"

#include <ublk/detail/fd.hpp>
#include <ublk/kernel/ring.hpp>
#include <ublk/page_ring.hpp>

#include <gtest/gtest.h>

#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>
#include <vector>

namespace ring_test {
namespace {

using ublk::detail::opcode;
static_assert(static_cast<int>(opcode::readv) == IORING_OP_READV &&
              static_cast<int>(opcode::writev) == IORING_OP_WRITEV &&
              static_cast<int>(opcode::fsync) == IORING_OP_FSYNC &&
              static_cast<int>(opcode::read_fixed) == IORING_OP_READ_FIXED &&
              static_cast<int>(opcode::write_fixed) == IORING_OP_WRITE_FIXED &&
              static_cast<int>(opcode::poll_add) == IORING_OP_POLL_ADD &&
              static_cast<int>(opcode::timeout) == IORING_OP_TIMEOUT &&
              static_cast<int>(opcode::fallocate) == IORING_OP_FALLOCATE &&
              static_cast<int>(opcode::read) == IORING_OP_READ &&
              static_cast<int>(opcode::write) == IORING_OP_WRITE &&
              static_cast<int>(opcode::send) == IORING_OP_SEND &&
              static_cast<int>(opcode::recv) == IORING_OP_RECV);

using event = std::pair<std::uint64_t, int>;

std::vector<event> events_of(ublk::detail::ring& io) {
    std::vector<event> events;
    io.drain([&events](std::uint64_t user, int result, std::uint32_t) {
        events.emplace_back(user, result);
    });
    return events;
}

class ring_test : public testing::Test {
protected:
    void SetUp() override {
        io_uring probe{};
        io_uring_params params{};
        const int code = io_uring_queue_init_params(2, &probe, &params);
        if (code == -EPERM || code == -ENOSYS) {
            GTEST_SKIP() << "io_uring is switched off on this machine: " << code;
        }
        ASSERT_EQ(code, 0);
        io_uring_queue_exit(&probe);
    }
    void TearDown() override { ring_setup_verdict = nullptr; }
};

TEST_F(ring_test, TheDataPlaneAsksForDeferredTaskWorkOfASingleIssuer) {
    const ublk::detail::ring io{ublk::detail::ring::kind::queue, 8};
    EXPECT_NE(io.flags() & IORING_SETUP_SINGLE_ISSUER, 0u);
    EXPECT_NE(io.flags() & IORING_SETUP_DEFER_TASKRUN, 0u);
}

TEST_F(ring_test, FallsBackWhereTheKernelGrantsNoDeferredTaskWork) {
    ring_setup_verdict = [](unsigned flags) {
        return (flags & IORING_SETUP_DEFER_TASKRUN) != 0 ? -EINVAL : 0;
    };
    const ublk::detail::ring io{ublk::detail::ring::kind::queue, 8};
    EXPECT_EQ(io.flags() & IORING_SETUP_DEFER_TASKRUN, 0u);
    EXPECT_NE(io.flags() & IORING_SETUP_COOP_TASKRUN, 0u);
}

TEST_F(ring_test, FallsBackToAPlainRing) {
    ring_setup_verdict = [](unsigned flags) {
        const unsigned fancy = IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN;
        return (flags & fancy) != 0 ? -EINVAL : 0;
    };
    const ublk::detail::ring io{ublk::detail::ring::kind::queue, 8};
    EXPECT_EQ(io.flags() & (IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN), 0u);
}

TEST_F(ring_test, NothingWaitsForTheNextCallWhereNobodyAttends) {
    const ublk::detail::ring io{ublk::detail::ring::kind::unattended, 4};
    EXPECT_EQ(io.flags() & (IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN), 0u);
    EXPECT_EQ(ublk::page_ring{}.flags(), io.flags())
        << "else a client's pages may be held, and its request be open, until a next transfer";
}

TEST_F(ring_test, EachRefusalNamesACauseAndARemedy) {
    for (const int code : {EPERM, ENOSYS, ENOMEM, EMFILE}) {
        ring_setup_verdict = [code](unsigned) { return -code; };
        try {
            const ublk::detail::ring io{ublk::detail::ring::kind::queue, 8};
            FAIL() << "a ring in spite of errno " << code;
        } catch (const ublk::error& refused) {
            EXPECT_EQ(refused.errno_value(), code);
            EXPECT_EQ(refused.command(), "io_uring_setup");
            EXPECT_FALSE(refused.cause().empty());
            EXPECT_FALSE(refused.remedy().empty());
        }
    }
}

TEST_F(ring_test, APollCompletesOnceTheFileIsReadable) {
    ublk::detail::ring io{ublk::detail::ring::kind::queue, 8};
    const ublk::fd wakeup_event{::eventfd(0, EFD_CLOEXEC)};
    io.poll_readable(wakeup_event.get(), ublk::detail::user_data::wake());
    ASSERT_EQ(io.submit(), 0);
    EXPECT_TRUE(events_of(io).empty());
    ASSERT_EQ(::eventfd_write(wakeup_event.get(), 1), 0);
    ASSERT_EQ(io.submit_and_wait(), 0);
    const std::vector<event> events = events_of(io);
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].first, ublk::detail::user_data::wake().raw());
    EXPECT_GT(events[0].second, 0);
}

// As a server's commands use the entries of its queue: on a fixed file, and quiet. They fail, so
// that each is answered nonetheless.
void use_every_entry(ublk::detail::ring& io, int file, int entries) {
    struct {
        std::uint64_t words[2] = {~std::uint64_t{0}, ~std::uint64_t{0}};
    } const nothing;
    ASSERT_EQ(io.register_files(file, {}), 0);
    for (int i = 0; i < entries; ++i) {
        io.quiet_command(0, nothing, ublk::detail::user_data{1});
    }
    ASSERT_EQ(io.submit_and_run_deferred(), 0);
    ASSERT_EQ(events_of(io).size(), static_cast<std::size_t>(entries));
}

TEST_F(ring_test, OneWakeUpIsOneEventWhateverTheEntryWasBefore) {
    constexpr int entries = 4;
    ublk::detail::ring io{ublk::detail::ring::kind::queue, entries};
    const ublk::fd wakeup_event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    ASSERT_NO_FATAL_FAILURE(use_every_entry(io, wakeup_event.get(), entries));
    io.poll_readable(wakeup_event.get(), ublk::detail::user_data::wake());
    ASSERT_EQ(::eventfd_write(wakeup_event.get(), 1), 0);
    std::vector<int> answers;
    // A server's loop, which polls again each time; the end is when nothing has come for a while.
    while (answers.size() < 20 && io.submit_and_wait(50'000'000) == 0) {
        for (const event& e : events_of(io)) {
            ASSERT_EQ(e.first, ublk::detail::user_data::wake().raw());
            answers.push_back(e.second);
            eventfd_t count = 0;
            (void)::eventfd_read(wakeup_event.get(), &count);
            io.poll_readable(wakeup_event.get(), ublk::detail::user_data::wake());
        }
    }
    EXPECT_EQ(answers, std::vector<int>{POLLIN});
}

TEST_F(ring_test, ACancellationIsAnsweredWhateverTheEntryWasBefore) {
    constexpr int entries = 4;
    ublk::detail::ring io{ublk::detail::ring::kind::queue, entries};
    const ublk::fd wakeup_event{::eventfd(0, EFD_CLOEXEC)};
    ASSERT_NO_FATAL_FAILURE(use_every_entry(io, wakeup_event.get(), entries));
    io.poll_readable(wakeup_event.get(), ublk::detail::user_data{7});
    io.cancel(7, 9);
    io.cancel(opcode::fsync, ublk::detail::user_data{10});  // there is none
    std::vector<event> events;
    while (events.size() < 3 && io.submit_and_wait(1'000'000'000) == 0) {
        for (const event& e : events_of(io)) {
            events.push_back(e);
        }
    }
    std::sort(events.begin(), events.end());
    EXPECT_EQ(events, (std::vector<event>{{7, -ECANCELED}, {9, 0}, {10, 0}}));
}

TEST_F(ring_test, AWaitWithALimitEnds) {
    ublk::detail::ring io{ublk::detail::ring::kind::control, 8};
    EXPECT_EQ(io.submit_and_wait(1'000'000), -ETIME);
}

TEST_F(ring_test, CancellingAnswersBoth) {
    ublk::detail::ring io{ublk::detail::ring::kind::control, 8};
    const ublk::fd wakeup_event{::eventfd(0, EFD_CLOEXEC)};
    io.poll_readable(wakeup_event.get(), ublk::detail::user_data{7});
    ASSERT_EQ(io.submit(), 0);
    io.cancel(7, 9);
    std::vector<event> events;
    while (events.size() < 2) {
        ASSERT_EQ(io.submit_and_wait(1'000'000'000), 0);
        for (const event& e : events_of(io)) {
            events.push_back(e);
        }
    }
    EXPECT_NE(std::find(events.begin(), events.end(), event{7, -ECANCELED}), events.end());
}

// More commands than the submission queue holds: each is handed over when the next needs its place.
TEST_F(ring_test, AFullSubmissionQueueIsNoError) {
    ublk::detail::ring io{ublk::detail::ring::kind::queue, 4};
    struct {
        std::uint64_t words[2] = {};
    } const nothing;
    constexpr int commands = 100;
    int answers = 0;
    for (int i = 0; i < commands; ++i) {
        io.command(-1, 0, nothing, static_cast<std::uint64_t>(i));  // a bad file: answered at once
        if (i % 4 == 3) {
            ASSERT_EQ(io.submit_and_run_deferred(), 0);
            answers += static_cast<int>(events_of(io).size());
        }
    }
    EXPECT_EQ(answers, commands);
    for (int i = 0; i < 7; ++i) {
        io.command(-1, 0, nothing, 1);
    }
    ASSERT_EQ(io.submit_and_run_deferred(), 0);
    EXPECT_EQ(events_of(io).size(), 7u);
}

}  // namespace
}  // namespace ring_test
