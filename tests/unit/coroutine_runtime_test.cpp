// SPDX-License-Identifier: MIT
#include "../support/thread_state.hpp"

#include <ublk/coroutine/coroutine_runtime.hpp>
#include <ublk/detail/fd.hpp>
#include <ublk/kernel/ring.hpp>
#include <ublk/when_all.hpp>

#include <gtest/gtest.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <thread>
#include <utility>
#include <vector>

namespace coroutine_runtime_test {
namespace {

using namespace std::chrono_literals;
using ublk::completion_handle;
using ublk::fd;
using ublk::file_ref;
using ublk::io;
using ublk::ok;
using ublk::registered_buffer;
using ublk::registered_file;
using ublk::result;
using ublk::tag;
using ublk::task;
using ublk::detail::ring;
using ublk::detail::tag_coroutine;
using ublk::detail::user_data;

// ---------------------------------------------------------------- by hand

// A port that keeps what it is told to start.
struct shelf {
    std::vector<const ublk::detail::operation*> started{};
    unsigned cancelled = 0;
    void start(const ublk::detail::operation& requested) noexcept { started.push_back(&requested); }
    void cancel_operations() noexcept { ++cancelled; }
};

struct noting {
    std::vector<std::pair<tag_coroutine*, result>>* ended;
    void operator()(tag_coroutine& work) const noexcept {
        ended->emplace_back(&work, work.running.answer());
        work.running = task{ok};
    }
};

struct bench {
    explicit bench(unsigned queues = 1, unsigned tags = 4) {
        for (unsigned i = 0; i < queues; ++i) {
            shop.add_queue(tags, 2048);
        }
    }
    ublk::detail::operation& started(std::size_t i) {
        return const_cast<ublk::detail::operation&>(*port.started.at(i));
    }
    shelf port{};
    std::vector<std::pair<tag_coroutine*, result>> ended{};
    ublk::detail::coroutine_runtime<shelf, noting> shop{port, ublk::detail::wakeup_call{},
                                                        noting{&ended}};
};

task reading(io& with) {
    const int outcome = co_await with.read_some(3, {});
    co_return outcome < 0 ? result::failure(outcome) : ok;
}

TEST(coroutine_runtime, each_tag_has_a_work_of_its_own_and_knows_its_queue) {
    bench b{3, 4};
    std::vector<tag_coroutine*> all;
    for (std::uint16_t q = 0; q < 3; ++q) {
        for (std::uint16_t t = 0; t < 4; ++t) {
            tag_coroutine& work = b.shop.work(q, tag{t});
            EXPECT_EQ(work.queue_index, q);
            EXPECT_EQ(&work, &b.shop.work(q, tag{t}));
            all.push_back(&work);
        }
    }
    std::sort(all.begin(), all.end());
    EXPECT_EQ(std::adjacent_find(all.begin(), all.end()), all.end());
}

// Frames of one tag must not share cache lines with another's, nor all compete for a few sets.
TEST(coroutine_runtime, the_memory_of_each_tag_begins_on_a_line_and_is_its_own) {
    ublk::detail::runtime_queue home{[](const void*) noexcept {}, nullptr};
    for (const std::size_t bytes : {64u, 100u, 2048u, 4096u}) {
        ublk::detail::queue_coroutines works{home, 0, 16, bytes};
        std::vector<std::uintptr_t> first;
        for (std::uint16_t t = 0; t < 16; ++t) {
            void* const frame = works[tag{t}].frames().allocate(1);
            first.push_back(reinterpret_cast<std::uintptr_t>(frame) -
                            (works[tag{t}].frames().used() - 16));
            ublk::detail::frame_memory::release(frame);
        }
        for (std::size_t i = 1; i < first.size(); ++i) {
            const std::uintptr_t stride = first[i] - first[i - 1];
            EXPECT_GE(stride, bytes);
            EXPECT_EQ(stride / 64 % 2, 1u) << "lines apart: " << stride / 64;
            EXPECT_EQ(first[i] % 64, 0u);
        }
    }
}

TEST(coroutine_runtime, hears_of_each_end_once_whenever_it_comes) {
    bench b;
    b.shop.begin(b.shop.work(0, tag{0}), std::errc::no_link);
    b.shop.begin(b.shop.work(0, tag{1}), reading(b.shop.work(0, tag{1})));
    b.shop.begin(b.shop.work(0, tag{2}), reading(b.shop.work(0, tag{2})));
    ASSERT_EQ(b.ended.size(), 1u);
    EXPECT_EQ(b.ended[0].second.error(), ENOLINK);
    ASSERT_EQ(b.port.started.size(), 2u);
    EXPECT_TRUE(b.shop.busy());
    b.shop.resume(b.started(1), 5);
    ASSERT_EQ(b.ended.size(), 2u);
    EXPECT_EQ(b.ended[1].first, &b.shop.work(0, tag{2}));
    b.shop.resume(b.started(0), -ENOSPC);
    ASSERT_EQ(b.ended.size(), 3u);
    EXPECT_EQ(b.ended[2].second.error(), ENOSPC);
    EXPECT_FALSE(b.shop.busy());
}

TEST(coroutine_runtime, what_is_not_whole_is_started_again) {
    bench b;
    std::array<std::byte, 1024> memory;
    const auto whole = [&](io& with) -> task {
        const int outcome = co_await with.read(3, memory, 0);
        co_return outcome == 1024 ? ok : result{std::errc::io_error};
    };
    b.shop.begin(b.shop.work(0, tag{0}), whole(b.shop.work(0, tag{0})));
    b.shop.resume(b.started(0), 1000);
    ASSERT_EQ(b.port.started.size(), 2u);
    EXPECT_EQ(b.port.started[0], b.port.started[1]);
    EXPECT_EQ(b.port.started[1]->submitted.length, 24u);
    EXPECT_TRUE(b.shop.busy());
    b.shop.resume(b.started(1), 24);
    ASSERT_EQ(b.ended.size(), 1u);
    EXPECT_TRUE(b.ended[0].second.ok());
}

TEST(coroutine_runtime, cancels_once) {
    bench b;
    b.shop.begin(b.shop.work(0, tag{0}), reading(b.shop.work(0, tag{0})));
    b.shop.cancel();
    b.shop.cancel();
    EXPECT_EQ(b.port.cancelled, 1u);
    EXPECT_TRUE(b.shop.work(0, tag{0}).cancelled());
    b.shop.begin(b.shop.work(0, tag{1}), reading(b.shop.work(0, tag{1})));
    ASSERT_EQ(b.ended.size(), 1u);
    EXPECT_EQ(b.ended[0].second.error(), ECANCELED);
    b.shop.resume(b.started(0), -ECANCELED);
    EXPECT_EQ(b.ended.size(), 2u);
}

TEST(coroutine_runtime, abandons_what_never_ends_and_nothing_else) {
    bench b;
    const auto lost = [](io&) -> task {
        co_await std::suspend_always{};
        co_return ok;
    };
    b.shop.begin(b.shop.work(0, tag{0}), ok);
    b.shop.begin(b.shop.work(0, tag{1}), lost(b.shop.work(0, tag{1})));
    EXPECT_FALSE(b.shop.busy());
    ASSERT_EQ(b.ended.size(), 1u);
    b.shop.abandon();
    ASSERT_EQ(b.ended.size(), 2u);
    EXPECT_EQ(b.ended[1].first, &b.shop.work(0, tag{1}));
    EXPECT_EQ(b.ended[1].second.error(), EIO);
    b.shop.abandon();
    EXPECT_EQ(b.ended.size(), 2u);
}

// ---------------------------------------------------------------- on a real ring

// The port of a coroutine_runtime, with nothing of ublk: what `linux_kernel::port` does for
// operations.
class ring_port {
public:
    explicit ring_port(unsigned entries) : io_{ring::kind::queue, entries} {
        io_.poll_readable(bell_.get(), user_data::wake());
    }

    void start(const ublk::detail::operation& requested) noexcept { io_.start(requested); }
    void cancel_operations() noexcept {
        using enum ublk::detail::opcode;
        for (const ublk::detail::opcode each :
             {readv, writev, fsync, read_fixed, write_fixed, poll_add, timeout, fallocate, read,
              write, send, recv}) {
            io_.cancel(each, user_data::nobody());
        }
    }

    static void wakeup(const void* port) noexcept {
        (void)::eventfd_write(static_cast<const ring_port*>(port)->bell_.get(), 1);
    }

    [[nodiscard]] ring& io() noexcept { return io_; }

    /// Hands over, sleeps, and passes what came to the coroutine_runtime.
    template <class Shop>
    void turn(Shop& shop) {
        const int code = io_.submit_and_wait();
        ASSERT_TRUE(code == 0 || code == -EINTR || code == -EAGAIN || code == -EBUSY) << code;
        io_.drain([&](std::uint64_t user, int answer, std::uint32_t) {
            const user_data t{user};
            if (t.is_operation()) {
                shop.resume(t.operation_of(), answer);
            } else if (t == user_data::wake()) {
                eventfd_t times = 0;
                (void)::eventfd_read(bell_.get(), &times);
                io_.poll_readable(bell_.get(), user_data::wake());
                shop.resume_completed();
            }
        });
    }

private:
    fd bell_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    ring io_;
};

class runtime_ring : public testing::Test {
protected:
    static constexpr unsigned tags = 64;

    void SetUp() override {
        io_uring probe{};
        const int code = io_uring_queue_init(2, &probe, 0);
        if (code == -EPERM || code == -ENOSYS) {
            GTEST_SKIP() << "io_uring is switched off on this machine: " << code;
        }
        ASSERT_EQ(code, 0);
        io_uring_queue_exit(&probe);
        open(16);
    }

    void open(unsigned entries) {
        shop.reset();
        port = std::make_unique<ring_port>(entries);
        shop = std::make_unique<ublk::detail::coroutine_runtime<ring_port, noting>>(
            *port, ublk::detail::wakeup_call{&ring_port::wakeup, port.get()}, noting{&ended});
        shop->add_queue(tags, 8192);
    }

    // Begins on the next tag what `make` makes of its io.
    template <class Make>
    void begin(Make make) {
        tag_coroutine& work = shop->work(0, tag{static_cast<std::uint16_t>(begun++ % tags)});
        shop->begin(work, make(work));
    }

    void run_until(std::size_t count) {
        while (ended.size() < count && !HasFatalFailure()) {
            port->turn(*shop);
        }
    }

    // From its begin to its end; what it answers.
    template <class Make>
    result serve(Make make) {
        const std::size_t before = ended.size();
        begin(std::move(make));
        run_until(before + 1);
        return ended.empty() ? result{std::errc::io_error} : ended.back().second;
    }

    static fd file_of(std::size_t bytes) {
        fd file{::memfd_create("disk", MFD_CLOEXEC)};
        EXPECT_EQ(::ftruncate(file.get(), static_cast<off_t>(bytes)), 0);
        return file;
    }

    static std::vector<std::byte> pattern(std::size_t bytes, unsigned seed) {
        std::vector<std::byte> all(bytes);
        for (std::size_t i = 0; i < bytes; ++i) {
            all[i] = static_cast<std::byte>(i * 13 + seed);
        }
        return all;
    }

    std::vector<std::pair<tag_coroutine*, result>> ended{};
    std::unique_ptr<ring_port> port{};
    std::unique_ptr<ublk::detail::coroutine_runtime<ring_port, noting>> shop{};
    unsigned begun = 0;
};

// Whatever is awaited, as a task that is ok where it answers `expected`.
template <class Ask>
[[nodiscard]] auto answers(Ask ask, int expected) {
    return [ask, expected](io& with) -> task {
        return [](io& same, Ask requested, int wanted) -> task {
            const int outcome = co_await requested(same);
            EXPECT_EQ(outcome, wanted);
            co_return outcome == wanted ? ok : result{std::errc::io_error};
        }(with, ask, expected);
    };
}

TEST_F(runtime_ring, reads_what_was_written) {
    const fd file = file_of(1u << 16);
    const auto in = pattern(8192, 1);
    std::vector<std::byte> out(8192);
    EXPECT_TRUE(serve(answers([&](io& w) { return w.write(file.get(), in, 4096); }, 8192)).ok());
    EXPECT_TRUE(serve(answers([&](io& w) { return w.read(file.get(), out, 4096); }, 8192)).ok());
    EXPECT_EQ(out, in);
    const auto synced = [&](io& w) { return w.write(file.get(), in, 0, RWF_DSYNC); };
    EXPECT_TRUE(serve(answers(synced, 8192)).ok());
}

TEST_F(runtime_ring, a_read_beyond_the_end_of_the_file_is_short) {
    const fd file = file_of(5000);
    std::vector<std::byte> out(8192);
    EXPECT_TRUE(serve(answers([&](io& w) { return w.read(file.get(), out, 0); }, 5000)).ok());
    EXPECT_TRUE(serve(answers([&](io& w) { return w.read(file.get(), out, 9000); }, 0)).ok());
}

TEST_F(runtime_ring, reads_and_writes_vectors) {
    const fd file = file_of(1u << 16);
    auto in = pattern(6000, 2);
    std::vector<std::byte> out(6000);
    std::array<iovec, 3> from{{{&in[0], 1000}, {&in[1000], 0}, {&in[1000], 5000}}};
    std::array<iovec, 2> to{{{&out[0], 4096}, {&out[4096], 1904}}};
    EXPECT_TRUE(serve(answers([&](io& w) { return w.writev(file.get(), from, 77); }, 6000)).ok());
    EXPECT_TRUE(serve(answers([&](io& w) { return w.readv(file.get(), to, 77); }, 6000)).ok());
    EXPECT_EQ(out, in);
}

TEST_F(runtime_ring, syncs_and_allocates) {
    const fd file{::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
    ASSERT_TRUE(file);
    const auto in = pattern(8192, 3);
    EXPECT_TRUE(serve(answers([&](io& w) { return w.write(file.get(), in, 0); }, 8192)).ok());
    EXPECT_TRUE(serve(answers([&](io& w) { return w.fsync(file.get()); }, 0)).ok());
    EXPECT_TRUE(serve(answers([&](io& w) { return w.fdatasync(file.get()); }, 0)).ok());

    const fd memory = file_of(8192);
    EXPECT_TRUE(serve(answers([&](io& w) { return w.write(memory.get(), in, 0); }, 8192)).ok());
    constexpr int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    EXPECT_TRUE(
        serve(answers([&](io& w) { return w.fallocate(memory.get(), punch, 4096, 4096); }, 0))
            .ok());
    std::vector<std::byte> out(8192);
    ASSERT_EQ(::pread(memory.get(), out.data(), out.size(), 0), 8192);
    EXPECT_TRUE(std::equal(out.begin(), out.begin() + 4096, in.begin()));
    EXPECT_EQ(std::count(out.begin() + 4096, out.end(), std::byte{}), 4096);
}

TEST_F(runtime_ring, an_errno_is_the_answer) {
    std::vector<std::byte> out(512);
    EXPECT_TRUE(serve(answers([&](io& w) { return w.read(-1, out, 0); }, -EBADF)).ok());
    EXPECT_TRUE(serve(answers([&](io& w) { return w.fsync(-1); }, -EBADF)).ok());
}

TEST_F(runtime_ring, sleeps_for_as_long_as_it_is_told) {
    const auto before = std::chrono::steady_clock::now();
    EXPECT_TRUE(serve(answers([](io& w) { return w.sleep(30ms); }, 0)).ok());
    EXPECT_GE(std::chrono::steady_clock::now() - before, 30ms);
    EXPECT_TRUE(serve(answers([](io& w) { return w.sleep(0ms); }, 0)).ok());
}

TEST_F(runtime_ring, polls_until_there_is_something) {
    const fd wakeup_event{::eventfd(0, EFD_CLOEXEC)};
    begin(answers([&](io& w) { return w.poll(wakeup_event.get(), POLLIN); }, POLLIN));
    EXPECT_TRUE(serve(answers([](io& w) { return w.sleep(1ms); }, 0)).ok());
    EXPECT_EQ(ended.size(), 1u);
    ASSERT_EQ(::eventfd_write(wakeup_event.get(), 1), 0);
    run_until(2);
    EXPECT_TRUE(ended.back().second.ok());
}

TEST_F(runtime_ring, reads_pipes_as_much_as_there_is) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const fd out{ends[0]};
    const fd in{ends[1]};
    std::vector<std::byte> got(4096);
    const auto some = pattern(100, 4);
    begin(answers([&](io& w) { return w.read_some(out.get(), got); }, 100));
    begin(answers([&](io& w) { return w.write_some(in.get(), some); }, 100));
    run_until(2);
    EXPECT_TRUE(std::equal(some.begin(), some.end(), got.begin()));
    // Of a pipe as well all of it is read, where that is asked for.
    begin(answers([&](io& w) { return w.read(out.get(), std::span{got}.first(200), ~0ull, 1); },
                  200));
    begin(answers([&](io& w) { return w.write_some(in.get(), some); }, 100));
    run_until(3);
    begin(answers([&](io& w) { return w.write_some(in.get(), some); }, 100));
    run_until(5);
    for (const auto& [work, answer] : ended) {
        EXPECT_TRUE(answer.ok());
    }
}

TEST_F(runtime_ring, sends_and_receives) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    const fd one{ends[0]};
    const fd two{ends[1]};
    const auto sent = pattern(3000, 5);
    std::vector<std::byte> got(3000);
    begin(answers([&](io& w) { return w.recv(two.get(), got, MSG_WAITALL); }, 3000));
    begin(answers([&](io& w) { return w.send(one.get(), std::span{sent}.first(1000)); }, 1000));
    begin(answers([&](io& w) { return w.send(one.get(), std::span{sent}.subspan(1000)); }, 2000));
    run_until(3);
    for (const auto& [work, answer] : ended) {
        EXPECT_TRUE(answer.ok());
    }
    EXPECT_EQ(got, sent);
}

TEST_F(runtime_ring, moves_bytes_of_registered_buffers) {
    const fd file = file_of(1u << 16);
    std::vector<std::byte> memory = pattern(8192, 6);
    const std::array<iovec, 2> both{{{&memory[0], 4096}, {&memory[4096], 4096}}};
    ASSERT_EQ(port->io().register_buffers(both), 0);
    const registered_buffer first{0, reinterpret_cast<std::uintptr_t>(&memory[0]), 4096};
    const registered_buffer second{1, reinterpret_cast<std::uintptr_t>(&memory[4096]), 4096};
    const auto expected = memory;
    EXPECT_TRUE(serve(answers([&](io& w) { return w.write(file.get(), first, 512); }, 4096)).ok());
    const auto part = second.subspan(512, 1024);
    EXPECT_TRUE(serve(answers([&](io& w) { return w.read(file.get(), part, 512); }, 1024)).ok());
    EXPECT_TRUE(std::equal(expected.begin(), expected.begin() + 1024, memory.begin() + 4608));
    EXPECT_TRUE(
        std::equal(expected.begin() + 4096, expected.begin() + 4608, memory.begin() + 4096));
    // Beyond its buffer, and of a buffer that nobody registered.
    const auto beyond = registered_buffer{0, first.base() + 1, 4096};
    EXPECT_TRUE(serve(answers([&](io& w) { return w.read(file.get(), beyond, 0); }, -EFAULT)).ok());
    const auto unknown = registered_buffer{2, first.base(), 4096};
    EXPECT_TRUE(
        serve(answers([&](io& w) { return w.read(file.get(), unknown, 0); }, -EFAULT)).ok());
}

TEST_F(runtime_ring, more_operations_than_the_ring_has_entries_are_all_done) {
    open(4);
    const fd file = file_of(1u << 20);
    std::vector<std::vector<std::byte>> blocks(tags);
    std::vector<std::vector<std::byte>> out(tags, std::vector<std::byte>(4096));
    for (unsigned i = 0; i < tags; ++i) {
        blocks[i] = pattern(4096, i);
        begin(answers(
            [&, i](io& w) { return w.write(file.get(), blocks[i], std::uint64_t{i} * 4096); },
            4096));
    }
    run_until(tags);
    for (unsigned i = 0; i < tags; ++i) {
        begin(answers([&, i](io& w) { return w.read(file.get(), out[i], std::uint64_t{i} * 4096); },
                      4096));
    }
    run_until(2 * tags);
    EXPECT_EQ(out, blocks);
    EXPECT_FALSE(shop->busy());
}

// What is registered spares the kernel a look-up; what is not is found by its number as ever.
TEST_F(runtime_ring, reaches_registered_files_and_others_alike) {
    const fd other = file_of(4096);
    const registered_file file{file_of(4096)};
    const registered_file unknown{file_of(4096)};
    const registered_file closed;
    const std::array<const registered_file*, 2> files{&closed, &file};
    ASSERT_EQ(port->io().register_files(other.get(), files), 0);
    unsigned seed = 10;
    for (const file_ref each : {file_ref{file}, file_ref{unknown}, file_ref{other.get()}}) {
        const auto in = pattern(4096, ++seed);
        EXPECT_TRUE(serve(answers([&](io& w) { return w.write(each, in, 0); }, 4096)).ok());
        EXPECT_TRUE(serve(answers([&](io& w) { return w.fsync(each); }, 0)).ok());
        std::vector<std::byte> out(4096);
        ASSERT_EQ(::pread(each.number, out.data(), out.size(), 0), 4096);
        EXPECT_EQ(out, in);
    }
}

// A backend that reconnects gets the same number for another file.
TEST_F(runtime_ring, a_number_means_the_file_that_has_it_now) {
    const fd device = file_of(4096);
    const registered_file file{file_of(4096)};
    const std::array<const registered_file*, 1> files{&file};
    ASSERT_EQ(port->io().register_files(device.get(), files), 0);
    const int number = file.get();
    const fd kept{::dup(number)};
    const fd fresh = file_of(4096);
    ASSERT_EQ(::dup2(fresh.get(), number), number);
    const auto in = pattern(4096, 31);
    EXPECT_TRUE(serve(answers([&](io& w) { return w.write(number, in, 0); }, 4096)).ok());
    std::vector<std::byte> out(4096);
    ASSERT_EQ(::pread(fresh.get(), out.data(), out.size(), 0), 4096);
    EXPECT_EQ(out, in);
    ASSERT_EQ(::pread(kept.get(), out.data(), out.size(), 0), 4096);
    EXPECT_EQ(out, std::vector<std::byte>(4096)) << "the file that had the number";
}

TEST_F(runtime_ring, a_file_that_is_replaced_is_registered_anew) {
    const fd device = file_of(4096);
    registered_file file{file_of(4096)};
    const fd before{::dup(file.get())};
    const std::array<const registered_file*, 1> files{&file};
    ASSERT_EQ(port->io().register_files(device.get(), files), 0);
    const auto first = pattern(4096, 41);
    EXPECT_TRUE(serve(answers([&](io& w) { return w.write(file, first, 0); }, 4096)).ok());
    fd fresh = file_of(4096);
    const fd after{::dup(fresh.get())};
    const int number = file.get();
    ASSERT_EQ(file.replace(std::move(fresh)), 0);
    EXPECT_EQ(file.get(), number);
    const auto second = pattern(4096, 42);
    EXPECT_TRUE(serve(answers([&](io& w) { return w.write(file, second, 0); }, 4096)).ok());
    std::vector<std::byte> out(4096);
    ASSERT_EQ(::pread(before.get(), out.data(), out.size(), 0), 4096);
    EXPECT_EQ(out, first);
    ASSERT_EQ(::pread(after.get(), out.data(), out.size(), 0), 4096);
    EXPECT_EQ(out, second);
    EXPECT_EQ(file.replace(fd{}), -EBADF);
    EXPECT_TRUE(serve(answers([&](io& w) { return w.fsync(file); }, 0)).ok());
}

task halves(io& with, int file, std::span<std::byte> out) {
    co_return co_await ublk::when_all(
        answers([=](io& w) { return w.read(file, out.first(out.size() / 2), 0); },
                static_cast<int>(out.size() / 2))(with),
        answers([=](io& w) { return w.read(file, out.subspan(out.size() / 2), out.size() / 2); },
                static_cast<int>(out.size() / 2))(with));
}

TEST_F(runtime_ring, one_request_may_have_several_operations_in_flight) {
    const fd file = file_of(8192);
    const auto in = pattern(8192, 7);
    ASSERT_EQ(::pwrite(file.get(), in.data(), in.size(), 0), 8192);
    std::vector<std::byte> out(8192);
    EXPECT_TRUE(serve([&](io& with) { return halves(with, file.get(), out); }).ok());
    EXPECT_EQ(out, in);
}

TEST_F(runtime_ring, work_of_another_thread_rouses_it) {
    std::thread worker;
    const auto hand = [&worker](io& with) -> task {
        return [](io& same, std::thread& to) -> task {
            co_return co_await same.offload([&to](completion_handle ticket) {
                to = std::thread{[mine = std::move(ticket), waiting = ::gettid()]() mutable {
                    EXPECT_TRUE(ublk::test::falls_asleep(waiting));
                    std::move(mine).answer(std::errc::no_link);
                }};
            });
        }(with, worker);
    };
    EXPECT_EQ(serve(hand).error(), ENOLINK);
    worker.join();
}

// One operation of each kind that can wait for ever, and all end when they are cancelled.
TEST_F(runtime_ring, cancelling_ends_all_that_is_in_flight) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const fd out{ends[0]};
    const fd in{ends[1]};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    const fd one{ends[0]};
    const fd two{ends[1]};
    const fd wakeup_event{::eventfd(0, EFD_CLOEXEC)};
    std::vector<std::byte> memory(1u << 20);
    std::array<iovec, 1> vector{{{memory.data(), 100}}};

    begin(answers([&](io& w) { return w.read_some(out.get(), memory); }, -ECANCELED));
    begin(answers([&](io& w) { return w.readv(out.get(), vector, ~0ull); }, -ECANCELED));
    begin(answers([&](io& w) { return w.recv(two.get(), memory, MSG_WAITALL); }, -ECANCELED));
    begin(answers([&](io& w) { return w.poll(wakeup_event.get(), POLLIN); }, -ECANCELED));
    begin(answers([](io& w) { return w.sleep(1h); }, -ECANCELED));
    begin(answers([](io& w) { return w.sleep(2h); }, -ECANCELED));
    const std::size_t waiting = begun;
    EXPECT_TRUE(serve(answers([](io& w) { return w.sleep(2ms); }, 0)).ok());
    EXPECT_EQ(ended.size(), 1u);
    EXPECT_TRUE(shop->busy());
    shop->cancel();
    run_until(waiting + 1);
    EXPECT_FALSE(shop->busy());
    for (const auto& [work, answer] : ended) {
        EXPECT_TRUE(answer.ok());
    }
}

}  // namespace
}  // namespace coroutine_runtime_test
