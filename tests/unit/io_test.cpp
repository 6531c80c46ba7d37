// SPDX-License-Identifier: MIT
#include "io_fixture.hpp"

#include <ublk/io.hpp>
#include <ublk/kernel/ring.hpp>

#include <gtest/gtest.h>

#include <liburing.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

namespace io_test {
namespace {

using namespace std::chrono_literals;
using ublk::completion_handle;
using ublk::io;
using ublk::ok;
using ublk::registered_buffer;
using ublk::result;
using ublk::task;
using ublk::detail::operation;
using ublk::detail::submission;
using ublk_test::io_fixture;

// Awaits whatever `ask` makes of an io, and keeps its answer.
template <class Ask>
task awaiting(io& with, Ask ask, int* outcome) {
    *outcome = co_await ask(with);
    co_return ok;
}

constexpr int unanswered = 1 << 30;

// ---------------------------------------------------------------- the words of a submission

// What liburing makes of the same call.
template <class Prepare>
io_uring_sqe prepared(Prepare prepare) {
    io_uring_sqe sqe;
    std::memset(&sqe, 0, sizeof sqe);
    prepare(&sqe);
    return sqe;
}

void expect_equal(const submission& requested, const io_uring_sqe& sqe) {
    EXPECT_EQ(static_cast<unsigned>(requested.code), sqe.opcode);
    EXPECT_EQ(requested.flags, sqe.flags);
    EXPECT_EQ(requested.priority, sqe.ioprio);
    EXPECT_EQ(requested.file, sqe.fd);
    EXPECT_EQ(requested.offset, sqe.off);
    EXPECT_EQ(requested.address, sqe.addr);
    EXPECT_EQ(requested.length, sqe.len);
    EXPECT_EQ(requested.op_flags, static_cast<std::uint32_t>(sqe.rw_flags));
    EXPECT_EQ(requested.buffer, sqe.buf_index);
    EXPECT_EQ(std::memcmp(&requested, &sqe, offsetof(submission, buffer)), 0);
    // And nothing in the words that `ring` leaves at zero.
    EXPECT_EQ(sqe.personality, 0);
    EXPECT_EQ(sqe.file_index, 0u);
    EXPECT_EQ(sqe.addr3, 0u);
}

template <class Ask, class Prepare>
void compare(Ask ask, Prepare prepare) {
    io_fixture d;
    int outcome = unanswered;
    task t = awaiting(d.with, ask, &outcome);
    d.start(t);
    operation& requested = d.the_operation();
    expect_equal(requested.submitted, prepared(prepare));
    EXPECT_EQ(outcome, unanswered);
    requested.transfer_whole(0, 0);
    d.answer(requested, 7);
    EXPECT_EQ(outcome, 7);
}

std::array<std::byte, 8192> memory;
constexpr std::uint64_t place = (1ull << 40) + 512;

TEST(submission, of_reads_and_writes_is_liburings) {
    const std::span<std::byte> some{memory.data() + 512, 4096};
    compare([&](io& with) { return with.read(5, some, place); },
            [&](io_uring_sqe* sqe) { io_uring_prep_read(sqe, 5, some.data(), 4096, place); });
    compare([&](io& with) { return with.write(6, some, place); },
            [&](io_uring_sqe* sqe) { io_uring_prep_write(sqe, 6, some.data(), 4096, place); });
    compare([&](io& with) { return with.write(6, some, place, RWF_DSYNC, 512); },
            [&](io_uring_sqe* sqe) {
                io_uring_prep_write(sqe, 6, some.data(), 4096, place);
                sqe->rw_flags = RWF_DSYNC;
            });
}

TEST(submission, of_registered_buffers_is_liburings) {
    const registered_buffer tags{300, reinterpret_cast<std::uintptr_t>(memory.data()), 4096};
    const registered_buffer clients = registered_buffer{16383, 0, 8192}.subspan(512, 1024);
    compare([&](io& with) { return with.read(5, tags, place); },
            [&](io_uring_sqe* sqe) {
                io_uring_prep_read_fixed(sqe, 5, memory.data(), 4096, place, 300);
            });
    compare([&](io& with) { return with.write(5, tags, place, RWF_DSYNC); },
            [&](io_uring_sqe* sqe) {
                io_uring_prep_write_fixed(sqe, 5, memory.data(), 4096, place, 300);
                sqe->rw_flags = RWF_DSYNC;
            });
    compare([&](io& with) { return with.write(5, clients, place); },
            [&](io_uring_sqe* sqe) {
                io_uring_prep_write_fixed(sqe, 5, reinterpret_cast<void*>(512), 1024, place, 16383);
            });
}

TEST(submission, of_vectors_is_liburings) {
    std::array<iovec, 3> pieces{{{&memory[0], 512}, {&memory[1024], 1}, {&memory[4096], 4096}}};
    compare([&](io& with) { return with.readv(5, pieces, place); },
            [&](io_uring_sqe* sqe) { io_uring_prep_readv(sqe, 5, pieces.data(), 3, place); });
    compare([&](io& with) { return with.writev(5, pieces, place, RWF_DSYNC); },
            [&](io_uring_sqe* sqe) {
                io_uring_prep_writev2(sqe, 5, pieces.data(), 3, place, RWF_DSYNC);
            });
}

// read(2) and write(2) move no more at once; without that a length would lose its upper bits.
TEST(submission, of_more_than_the_kernel_moves_at_once_is_clamped) {
    constexpr std::size_t most = 0x7fff'f000;
    const std::span<std::byte> huge{memory.data(), (std::size_t{5} << 30) + 512};
    compare([&](io& with) { return with.read(5, huge, place); },
            [&](io_uring_sqe* sqe) { io_uring_prep_read(sqe, 5, huge.data(), most, place); });
    compare([&](io& with) { return with.write(5, huge, place); },
            [&](io_uring_sqe* sqe) { io_uring_prep_write(sqe, 5, huge.data(), most, place); });
    compare([&](io& with) { return with.recv(5, huge); },
            [&](io_uring_sqe* sqe) { io_uring_prep_recv(sqe, 5, huge.data(), most, 0); });
    compare([&](io& with) { return with.send(5, huge); },
            [&](io_uring_sqe* sqe) { io_uring_prep_send(sqe, 5, huge.data(), most, 0); });
    const auto vector = [&] {
        return std::array<iovec, 3>{
            {{huge.data(), 512}, {huge.data(), huge.size()}, {huge.data(), 1}}};
    };
    std::array<iovec, 3> pieces = vector();
    compare([&](io& with) { return with.readv(5, pieces, place); },
            [&](io_uring_sqe* sqe) { io_uring_prep_readv(sqe, 5, pieces.data(), 2, place); });
    EXPECT_EQ(pieces[1].iov_len, most - 512);
    pieces = vector();
    compare([&](io& with) { return with.writev(5, pieces, place); },
            [&](io_uring_sqe* sqe) { io_uring_prep_writev(sqe, 5, pieces.data(), 2, place); });
}

// The kernel may take part of it, and then the rest.
TEST(submission, of_more_than_that_answers_a_count_that_an_int_can_hold) {
    const std::span<std::byte> huge{memory.data(), std::size_t{6} << 30};
    io_fixture d;
    int outcome = unanswered;
    task t = awaiting(
        d.with, [&](io& with) { return with.read(5, huge, 0); }, &outcome);
    d.start(t);
    operation& requested = d.the_operation();
    d.answer(requested, 0x4000'0000);
    EXPECT_EQ(requested.submitted.length, 0x3fff'f000u);
    d.answer(d.the_operation(), 0x3fff'f000);
    EXPECT_EQ(outcome, 0x7fff'f000);
}

TEST(submission, of_what_has_no_position_is_liburings) {
    const std::span<std::byte> some{memory.data(), 100};
    compare([&](io& with) { return with.read_some(5, some); },
            [&](io_uring_sqe* sqe) { io_uring_prep_read(sqe, 5, some.data(), 100, ~0ull); });
    compare([&](io& with) { return with.write_some(5, some); },
            [&](io_uring_sqe* sqe) { io_uring_prep_write(sqe, 5, some.data(), 100, ~0ull); });
    compare([&](io& with) { return with.recv(5, some, MSG_WAITALL); },
            [&](io_uring_sqe* sqe) { io_uring_prep_recv(sqe, 5, some.data(), 100, MSG_WAITALL); });
    compare([&](io& with) { return with.send(5, some, MSG_NOSIGNAL); },
            [&](io_uring_sqe* sqe) { io_uring_prep_send(sqe, 5, some.data(), 100, MSG_NOSIGNAL); });
}

TEST(submission, of_what_concerns_a_whole_file_is_liburings) {
    compare([&](io& with) { return with.fsync(5); },
            [&](io_uring_sqe* sqe) { io_uring_prep_fsync(sqe, 5, 0); });
    compare([&](io& with) { return with.fdatasync(5); },
            [&](io_uring_sqe* sqe) { io_uring_prep_fsync(sqe, 5, IORING_FSYNC_DATASYNC); });
    compare([&](io& with) { return with.poll(5, POLLIN | POLLPRI); },
            [&](io_uring_sqe* sqe) { io_uring_prep_poll_add(sqe, 5, POLLIN | POLLPRI); });
    constexpr std::uint64_t bytes = (1ull << 33) + 4096;
    compare([&](io& with) { return with.fallocate(5, 3, place, bytes); },
            [&](io_uring_sqe* sqe) {
                io_uring_prep_fallocate(sqe, 5, 3, static_cast<off_t>(place),
                                        static_cast<off_t>(bytes));
            });
}

TEST(submission, of_a_sleep_is_liburings_and_its_time_lives_in_the_frame) {
    for (const auto time : {0ns, 1ns, 999'999'999ns, 1'000'000'000ns, 3'000'000'007ns}) {
        io_fixture d;
        int outcome = unanswered;
        task t = awaiting(
            d.with, [time](io& with) { return with.sleep(time); }, &outcome);
        d.start(t);
        operation& requested = d.the_operation();
        __kernel_timespec limit{time.count() / 1'000'000'000, time.count() % 1'000'000'000};
        const auto* const kept =
            reinterpret_cast<const __kernel_timespec*>(requested.submitted.address);
        ASSERT_EQ(reinterpret_cast<std::uintptr_t>(kept) % alignof(__kernel_timespec), 0u);
        EXPECT_EQ(std::memcmp(kept, &limit, sizeof limit), 0);
        EXPECT_GE(static_cast<const void*>(kept), d.memory.data());
        EXPECT_LT(static_cast<const void*>(kept), d.memory.data() + d.memory.size());
        io_uring_sqe same =
            prepared([&](io_uring_sqe* sqe) { io_uring_prep_timeout(sqe, &limit, 0, 0); });
        same.addr = requested.submitted.address;
        expect_equal(requested.submitted, same);
        d.answer(requested, -ETIME);
        EXPECT_EQ(outcome, 0);
    }
}

TEST(sleep, cut_short_says_so) {
    io_fixture d;
    int outcome = unanswered;
    task t = awaiting(
        d.with, [](io& with) { return with.sleep(1h); }, &outcome);
    d.start(t);
    d.answer(d.the_operation(), -ECANCELED);
    EXPECT_EQ(outcome, -ECANCELED);
}

// ---------------------------------------------------------------- which answers are the end

template <class Ask>
void expect_whole(Ask ask) {
    io_fixture d;
    int outcome = unanswered;
    task t = awaiting(d.with, ask, &outcome);
    d.start(t);
    EXPECT_FALSE(d.answer(d.the_operation(), 512));
    EXPECT_FALSE(d.answer(d.the_operation(), -EINTR));
    EXPECT_EQ(outcome, unanswered);
    EXPECT_TRUE(d.answer(d.the_operation(), 512));
    EXPECT_EQ(outcome, 1024);
    EXPECT_EQ(d.home.in_flight(), 0u);
}

TEST(io, reads_and_writes_of_files_go_on_until_they_are_whole) {
    const std::span<std::byte> some{memory.data(), 1024};
    const registered_buffer buffer{1, 0, 1024};
    std::array<iovec, 2> pieces{};
    const auto two = [&] {
        pieces = {{{&memory[0], 700}, {&memory[1000], 324}}};
        return std::span{pieces};
    };
    expect_whole([&](io& with) { return with.read(5, some, 0); });
    expect_whole([&](io& with) { return with.read(5, buffer, 0, 512); });
    expect_whole([&](io& with) { return with.readv(5, two(), 0); });
    expect_whole([&](io& with) { return with.write(5, some, 0); });
    expect_whole([&](io& with) { return with.write(5, buffer, 0); });
    expect_whole([&](io& with) { return with.writev(5, two(), 0, 0, 512); });
}

template <class Ask>
void expect_single(Ask ask) {
    for (const int answer : {512, 0, -EINTR, -EAGAIN}) {
        io_fixture d;
        int outcome = unanswered;
        task t = awaiting(d.with, ask, &outcome);
        d.start(t);
        EXPECT_TRUE(d.answer(d.the_operation(), answer));
        EXPECT_EQ(outcome, answer);
    }
}

TEST(io, everything_else_ends_with_what_the_kernel_says) {
    const std::span<std::byte> some{memory.data(), 1024};
    expect_single([&](io& with) { return with.read_some(5, some); });
    expect_single([&](io& with) { return with.write_some(5, some); });
    expect_single([&](io& with) { return with.recv(5, some); });
    expect_single([&](io& with) { return with.send(5, some); });
    expect_single([&](io& with) { return with.poll(5, POLLIN); });
}

template <class Ask>
void expect_repeated(Ask ask) {
    for (const int answer : {0, -EIO, -EOPNOTSUPP}) {
        io_fixture d;
        int outcome = unanswered;
        task t = awaiting(d.with, ask, &outcome);
        d.start(t);
        operation& requested = d.the_operation();
        const submission first = requested.submitted;
        for (const int passing : {-EINTR, -EAGAIN, -EINTR}) {
            EXPECT_FALSE(d.answer(requested, passing));
            EXPECT_EQ(&d.the_operation(), &requested);
            EXPECT_EQ(std::memcmp(&first, &requested.submitted, sizeof first), 0);
        }
        EXPECT_EQ(outcome, unanswered);
        EXPECT_TRUE(d.answer(requested, answer));
        EXPECT_EQ(outcome, answer);
    }
}

TEST(io, what_concerns_a_whole_file_is_asked_again_after_a_signal) {
    expect_repeated([](io& with) { return with.fsync(5); });
    expect_repeated([](io& with) { return with.fdatasync(5); });
    expect_repeated([](io& with) { return with.fallocate(5, 0, 4096, 1024); });
}

TEST(io, operations_are_submitted_in_their_order_and_counted_until_they_end) {
    io_fixture d;
    std::array<int, 3> outcome{};
    std::vector<task> tasks;
    for (int i = 0; i < 3; ++i) {
        tasks.push_back(awaiting(
            d.with, [i](io& with) { return with.fsync(i); },
            &outcome[static_cast<std::size_t>(i)]));
        d.start(tasks.back());
    }
    EXPECT_EQ(d.home.in_flight(), 0u);  // not yet with the kernel
    const std::vector<operation*> requested = d.submitted();
    ASSERT_EQ(requested.size(), 3u);
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(requested[static_cast<std::size_t>(i)]->submitted.file, i);
    }
    for (unsigned i = 0; i < 3; ++i) {
        EXPECT_EQ(d.home.in_flight(), 3 - i);
        d.answer(*requested[2 - i], 0);
    }
    EXPECT_EQ(d.home.in_flight(), 0u);
}

// ---------------------------------------------------------------- cancelled

TEST(io, once_cancelled_nothing_is_submitted_any_more) {
    io_fixture d;
    EXPECT_FALSE(d.with.cancelled());
    d.home.cancel();
    EXPECT_TRUE(d.with.cancelled());
    const std::span<std::byte> some{memory.data(), 1024};
    int outcome = 0;
    task read = awaiting(
        d.with, [&](io& with) { return with.read(5, some, 0); }, &outcome);
    d.start(read);
    EXPECT_TRUE(read.done());
    EXPECT_EQ(outcome, -ECANCELED);
    task asleep = awaiting(
        d.with, [](io& with) { return with.sleep(1h); }, &outcome);
    outcome = 0;
    d.start(asleep);
    EXPECT_TRUE(asleep.done());
    EXPECT_EQ(outcome, -ECANCELED);
    EXPECT_TRUE(d.submitted().empty());
    EXPECT_EQ(d.home.in_flight(), 0u);
}

// A kernel's worker that is told to give up says EINTR.
TEST(io, what_is_interrupted_by_the_cancelling_is_cancelled) {
    io_fixture d;
    const std::span<std::byte> some{memory.data(), 1024};
    int outcome = 0;
    task t = awaiting(
        d.with, [&](io& with) { return with.read(5, some, 0); }, &outcome);
    d.start(t);
    operation& requested = d.the_operation();
    d.home.cancel();
    EXPECT_TRUE(d.answer(requested, -EINTR));
    EXPECT_EQ(outcome, -ECANCELED);
}

// The rest would be submitted behind the cancelling, and nobody would cancel that.
TEST(io, what_is_cancelled_in_the_middle_does_not_go_on) {
    for (const int answer : {512, -EAGAIN}) {
        io_fixture d;
        const std::span<std::byte> some{memory.data(), 1024};
        int outcome = 0;
        task t = awaiting(
            d.with, [&](io& with) { return with.read(5, some, 0); }, &outcome);
        d.start(t);
        operation& requested = d.the_operation();
        d.home.cancel();
        EXPECT_TRUE(d.answer(requested, answer));
        EXPECT_TRUE(d.submitted().empty());
        EXPECT_EQ(outcome, -ECANCELED);
    }
}

TEST(io, what_ends_in_spite_of_the_cancelling_keeps_its_answer) {
    io_fixture d;
    const std::span<std::byte> some{memory.data(), 1024};
    int outcome = 0;
    task t = awaiting(
        d.with, [&](io& with) { return with.read(5, some, 0); }, &outcome);
    d.start(t);
    operation& requested = d.the_operation();
    d.home.cancel();
    EXPECT_TRUE(d.answer(requested, 1024));
    EXPECT_EQ(outcome, 1024);
}

// ---------------------------------------------------------------- other threads

using tickets = std::vector<completion_handle>;

task handing(io& with, tickets& to) {
    co_return co_await with.offload(
        [&to](completion_handle ticket) { to.push_back(std::move(ticket)); });
}

TEST(offload, resumes_with_the_answer_of_the_ticket) {
    io_fixture d;
    tickets given;
    task t = handing(d.with, given);
    d.start(t);
    ASSERT_EQ(given.size(), 1u);
    EXPECT_EQ(d.home.in_flight(), 1u);
    std::move(given[0]).answer(std::errc::no_link);
    EXPECT_FALSE(t.done());  // on its own thread only
    EXPECT_EQ(d.roused, 1u);
    EXPECT_EQ(d.resume_returned(), 1u);
    EXPECT_EQ(t.answer().error(), ENOLINK);
    EXPECT_EQ(d.home.in_flight(), 0u);
}

TEST(offload, a_ticket_that_is_dropped_answers_with_eio) {
    io_fixture d;
    tickets given;
    task t = handing(d.with, given);
    d.start(t);
    given.clear();
    EXPECT_EQ(d.resume_returned(), 1u);
    EXPECT_EQ(t.answer().error(), EIO);
}

TEST(offload, a_ticket_answers_once) {
    io_fixture d;
    tickets given;
    task t = handing(d.with, given);
    d.start(t);
    completion_handle taken{std::move(given[0])};
    std::move(taken).answer(ok);
    EXPECT_DEATH(std::move(taken).answer(ok), "a completion handle answers exactly once");
    given.clear();  // what was moved away answers nothing
    EXPECT_EQ(d.resume_returned(), 1u);
    EXPECT_TRUE(t.answer().ok());
}

task handing_badly(io& with, tickets* keep) {
    co_return co_await with.offload([keep](completion_handle ticket) {
        if (keep != nullptr) {
            keep->push_back(std::move(ticket));
        }
        throw std::runtime_error{"the pool is full"};
    });
}

TEST(offload, an_exception_drops_the_ticket) {
    io_fixture d;
    task t = handing_badly(d.with, nullptr);
    d.start(t);
    EXPECT_EQ(d.resume_returned(), 1u);
    EXPECT_EQ(t.answer().error(), EIO);
}

TEST(offload, an_exception_after_the_ticket_has_gone_leaves_the_answer_to_its_holder) {
    io_fixture d;
    tickets given;
    task t = handing_badly(d.with, &given);
    d.start(t);
    EXPECT_EQ(d.resume_returned(), 0u);
    std::move(given.at(0)).answer(ok);
    EXPECT_EQ(d.resume_returned(), 1u);
    EXPECT_TRUE(t.answer().ok());
}

TEST(offload, may_give_what_can_only_be_moved) {
    io_fixture d;
    tickets given;
    const auto asking = [](io& with, tickets& to, std::unique_ptr<int> value) -> task {
        // Named, since GCC 12 ends the captures of a lambda twice that is written where one awaits.
        auto give = [&to, mine = std::move(value)](completion_handle ticket) {
            EXPECT_EQ(*mine, 7);
            to.push_back(std::move(ticket));
        };
        co_return co_await with.offload(give);
    };
    task t = asking(d.with, given, std::make_unique<int>(7));
    d.start(t);
    std::move(given.at(0)).answer(ok);
    EXPECT_EQ(d.resume_returned(), 1u);
    EXPECT_TRUE(t.answer().ok());
}

TEST(offload, tells_the_ticket_of_the_cancelling) {
    io_fixture d;
    tickets given;
    task t = handing(d.with, given);
    d.start(t);
    EXPECT_FALSE(given[0].cancelled());
    d.home.cancel();
    EXPECT_TRUE(given[0].cancelled());
    EXPECT_EQ(d.resume_returned(), 0u);  // it is waited for all the same
    EXPECT_EQ(d.home.in_flight(), 1u);
    given.clear();
    EXPECT_EQ(d.resume_returned(), 1u);
}

// Only the first to come back rings: the others are found with it.
TEST(offload, rouses_the_thread_once_for_all_that_came_back_meanwhile) {
    io_fixture d;
    tickets given;
    std::vector<task> tasks;
    for (int i = 0; i < 3; ++i) {
        tasks.push_back(handing(d.with, given));
        d.start(tasks.back());
    }
    given.clear();
    EXPECT_EQ(d.roused, 1u);
    EXPECT_EQ(d.resume_returned(), 3u);
    EXPECT_EQ(d.resume_returned(), 0u);
}

// What a queue thread sleeps on, and a thread that works off tickets.
struct wakeup_event {
    std::mutex mutex{};
    std::condition_variable rung{};
    bool ringing = false;

    static void ring(const void* which) noexcept {
        auto& self = *const_cast<wakeup_event*>(static_cast<const wakeup_event*>(which));
        const std::lock_guard lock{self.mutex};
        self.ringing = true;
        self.rung.notify_one();
    }
    bool wait() {
        std::unique_lock lock{mutex};
        const bool rang = rung.wait_for(lock, 60s, [this] { return ringing; });
        ringing = false;
        return rang;
    }
};

class pool {
public:
    explicit pool(unsigned threads) {
        for (unsigned i = 0; i < threads; ++i) {
            workers_.emplace_back([this, i] { work(i); });
        }
    }
    ~pool() {
        {
            const std::lock_guard lock{mutex_};
            closing_ = true;
        }
        there_.notify_all();
        for (std::thread& each : workers_) {
            each.join();
        }
    }
    void give(completion_handle ticket, int number) {
        const std::lock_guard lock{mutex_};
        jobs_.emplace_back(std::move(ticket), number);
        there_.notify_one();
    }

private:
    void work(unsigned) {
        while (true) {
            std::optional<std::pair<completion_handle, int>> job;
            {
                std::unique_lock lock{mutex_};
                there_.wait(lock, [this] { return closing_ || !jobs_.empty(); });
                if (jobs_.empty()) {
                    return;
                }
                job.emplace(std::move(jobs_.back()));
                jobs_.pop_back();
            }
            switch (job->second % 3) {
            case 0:
                std::move(job->first).answer(ok);
                break;
            case 1:
                std::move(job->first).answer(std::errc::no_link);
                break;
            default:
                break;  // dropped
            }
        }
    }

    std::mutex mutex_;
    std::condition_variable there_;
    std::vector<std::pair<completion_handle, int>> jobs_;
    std::vector<std::thread> workers_;
    bool closing_ = false;
};

// Hands a thing over several times in a row, with plain frames written on either side.
task commuting(io& with, pool& workers, int number, int times, int* wrong) {
    for (int i = 0; i < times; ++i, ++number) {
        const result outcome = co_await with.offload([&workers, number](completion_handle ticket) {
            workers.give(std::move(ticket), number);
        });
        const int expected = number % 3 == 0 ? 0 : number % 3 == 1 ? ENOLINK : EIO;
        *wrong += outcome.error() != expected ? 1 : 0;
    }
    co_return ok;
}

TEST(offload, many_threads_bring_back_what_one_thread_sends) {
    constexpr int tags = 32;
    constexpr int times = 200;
    wakeup_event sleeping;
    ublk::detail::runtime_queue home{&wakeup_event::ring, &sleeping};
    std::vector<std::max_align_t> frames(tags * 64);
    std::vector<io> with;
    with.reserve(tags);
    std::vector<task> tasks;
    int wrong = 0;
    {
        pool workers{4};
        for (std::size_t i = 0; i < tags; ++i) {
            with.emplace_back(home, std::as_writable_bytes(std::span{frames}.subspan(i * 64, 64)));
            tasks.push_back(commuting(with[i], workers, static_cast<int>(i), times, &wrong));
            tasks.back().start(with[i]);
        }
        int ended = 0;
        while (ended < tags) {
            ublk::detail::offloaded* back = home.take_completed();
            if (back == nullptr) {
                ASSERT_TRUE(sleeping.wait()) << "nobody came back, and " << ended << " have ended";
            }
            while (back != nullptr) {
                std::exchange(back, back->next)->waiting.resume();
            }
            while (home.next_ended() != nullptr) {
                ++ended;
            }
        }
    }
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(home.in_flight(), 0u);
}

// The thread that answers is not through when its answer is there: it still rouses. What it rouses
// must be there until then.
TEST(offload, a_queue_does_not_go_while_somebody_still_wakes_it) {
    struct slow_bell {
        std::atomic<bool> entered{false};
        std::atomic<bool> going{false};
        std::atomic<bool> there{true};
        std::atomic<bool> rang_in_vain{false};
    } slow;
    std::thread worker;
    {
        ublk::detail::runtime_queue home{[](const void* who) noexcept {
                                             auto& of = *const_cast<slow_bell*>(
                                                 static_cast<const slow_bell*>(who));
                                             of.entered = true;
                                             while (!of.going) {
                                                 std::this_thread::yield();
                                             }
                                             std::this_thread::sleep_for(50ms);
                                             of.rang_in_vain = !of.there;
                                         },
                                         &slow};
        std::vector<std::max_align_t> frames(256);
        io with{home, std::as_writable_bytes(std::span{frames})};
        tickets given;
        task t = handing(with, given);
        t.start(with);
        worker =
            std::thread{[mine = std::move(given.at(0))]() mutable { std::move(mine).answer(ok); }};
        while (!slow.entered) {
            std::this_thread::yield();
        }
        ublk::detail::offloaded* const back = home.take_completed();
        slow.going = back == nullptr;
        ASSERT_NE(back, nullptr);
        back->waiting.resume();
        EXPECT_TRUE(t.answer().ok());
        EXPECT_EQ(home.in_flight(), 0u);
        slow.going = true;
    }
    slow.there = false;
    worker.join();
    EXPECT_FALSE(slow.rang_in_vain);
}

}  // namespace
}  // namespace io_test
