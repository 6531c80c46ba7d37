// SPDX-License-Identifier: MIT
#include "../support/allocations.hpp"
#include "scripted_port.hpp"

#include <ublk/data/data_paths.hpp>
#include <ublk/data/queue_loop.hpp>
#include <ublk/detail/fd.hpp>
#include <ublk/policy/batch_policy.hpp>
#include <ublk/when_all.hpp>

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace async_queue_loop_test {
namespace {

using ublk::completion_handle;
using ublk::io;
using ublk::ok;
using ublk::registered_buffer;
using ublk::request;
using ublk::result;
using ublk::task;
using ublk::detail::operation;
using ublk_test::scripted_port;
using ublk_test::scripted_queues;
using verb = ublk_test::scripted_port::verb;
namespace paths = ublk::detail::paths;
namespace uapi = ublk::uapi;

constexpr std::uint32_t op(uapi::op which) {
    return static_cast<std::uint32_t>(which);
}
constexpr std::uint32_t reading = op(uapi::op::read);
constexpr std::uint32_t writing = op(uapi::op::write);
constexpr std::uint32_t flushing = op(uapi::op::flush);

// A backend whose tasks are whatever a test wants, and which keeps the payloads that it gets.
template <class P>
struct puppet {
    static constexpr std::size_t task_bytes = 16384;
    using in = typename ublk::detail::written<P>::type;

    std::function<task(io&, const request&)> act = [](io&, const request&) { return task{ok}; };
    std::vector<request> requested{};
    std::map<std::pair<unsigned, unsigned>, P> read_into{};
    std::map<std::pair<unsigned, unsigned>, in> written_from{};

    std::uint64_t size() const noexcept { return 1ull << 40; }
    [[gnu::noinline]] task read(io& with, const request& r, P out) {
        read_into.insert_or_assign({r.queue().value(), r.tag().value()}, out);
        return note(with, r);
    }
    [[gnu::noinline]] task write(io& with, const request& r, in from) {
        written_from.insert_or_assign({r.queue().value(), r.tag().value()}, from);
        return note(with, r);
    }
    [[gnu::noinline]] task flush(io& with, const request& r) { return note(with, r); }
    [[gnu::noinline]] task discard(io& with, const request& r) { return note(with, r); }
    [[gnu::noinline]] task note(io& with, const request& r) {
        requested.push_back(r);
        return act(with, r);
    }
};

// Its memory is lent, so that it is asked for neither reads nor writes.
struct lending : puppet<std::span<std::byte>> {
    static constexpr std::size_t bytes = 1u << 20;
    std::unique_ptr<std::byte[]> memory = std::make_unique<std::byte[]>(bytes);
    std::size_t less = 0;  ///< by so much what it gets_data is too short
    unsigned lent = 0;

    std::span<std::byte> memory_for(const request& r) noexcept {
        ++lent;
        return {memory.get() + r.offset(), static_cast<std::size_t>(r.length()) - less};
    }
    std::uint64_t address(std::uint64_t offset) const {
        return reinterpret_cast<std::uintptr_t>(memory.get()) + offset;
    }
};

template <class Path>
using backend_of = std::conditional_t<Path::id == ublk::data_path::get_data, lending,
                                      puppet<typename Path::payload>>;

template <class Path, bool SingleQueue = false, class Backend = backend_of<Path>>
struct bench {
    explicit bench(unsigned count = 1, unsigned queue_depth = 4, int file = -1)
        : depth{queue_depth}, shelf{count, queue_depth, ublk::has_tag_buffers(Path::id), file} {
        EXPECT_EQ(server.fetch_all(), 0);
    }
    ~bench() {
        for (const std::string& each : port.complaints) {
            ADD_FAILURE() << each;
        }
    }

    void request(unsigned queue, unsigned tag, std::uint32_t op_flags, std::uint64_t sector = 0,
                 std::uint32_t sectors = 8) {
        shelf.describe(queue, tag, op_flags, sector, sectors);
        const bool asks =
            Path::id == ublk::data_path::get_data && uapi::op_of(op_flags) == uapi::op::write;
        port.deliver(queue, tag, asks ? uapi::io_res_need_get_data : uapi::io_res_ok);
    }

    void take_all_back() {
        for (unsigned q = 0; q < shelf.queues.size(); ++q) {
            for (unsigned t = 0; t < depth; ++t) {
                port.deliver(q, t, uapi::io_res_abort);
            }
        }
    }

    void order(unsigned action) {
        flags |= action;
        scripted_port::wakeup(&port);
    }

    // The script: one move after the other, each when the server has nothing else to do, and then
    // the driver takes its tags back.
    int run(std::vector<std::function<void()>> moves) {
        std::size_t next = 0;
        port.step = [&, this] {
            if (next < moves.size()) {
                moves[next++]();
                return true;
            }
            if (next++ == moves.size()) {
                take_all_back();
                return true;
            }
            return false;
        };
        return server.run();
    }

    unsigned depth;
    scripted_port port{};
    scripted_queues shelf;
    Backend backend{};
    std::atomic<unsigned> flags{ublk::detail::loop_flags::serve};
    ublk::detail::queue_loop<Backend, ublk::per_wakeup, scripted_port, SingleQueue, Path> server{
        backend, port, shelf.queues, flags,
        ublk::detail::wakeup_call{&scripted_port::wakeup, &port}};
};

// ---------------------------------------------------------------- tasks

[[gnu::noinline]] task one_operation(io& with) {
    const int outcome = co_await with.read_some(3, {});
    co_return outcome < 0 ? result::failure(outcome) : ok;
}

TEST(async_server, a_task_that_ends_at_once_is_committed_at_once) {
    bench<paths::copy> b;
    b.backend.act = [](io&, const request& r) {
        return r.tag().value() == 1 ? task{std::errc::no_link} : task{ok};
    };
    EXPECT_EQ(b.run({[&] {
        b.request(0, 0, reading);
        b.request(0, 1, reading);
        b.request(0, 2, flushing, 0, 0);
    }}),
              0);
    EXPECT_EQ(b.port.at(0, 0).answer, 4096);
    EXPECT_EQ(b.port.at(0, 1).answer, -ENOLINK);
    EXPECT_EQ(b.port.at(0, 2).answer, 0);
    EXPECT_EQ(b.port.count(verb::start), 0u);
}

TEST(async_server, a_task_is_committed_when_its_operation_has_ended) {
    bench<paths::copy> b;
    b.backend.act = [](io& with, const request&) { return one_operation(with); };
    EXPECT_EQ(b.run({[&] { b.request(0, 2, reading); },
                     [&] {
                         EXPECT_EQ(b.port.at(0, 2).commits, 0u);
                         ASSERT_EQ(b.port.in_flight.size(), 1u);
                         b.port.answer(*b.port.in_flight[0], 1);
                     },
                     [&] { EXPECT_EQ(b.port.at(0, 2).commits, 1u); }}),
              0);
    EXPECT_EQ(b.port.at(0, 2).answer, 4096);
}

TEST(async_server, tasks_end_in_any_order) {
    bench<paths::copy> b;
    b.backend.act = [](io& with, const request&) { return one_operation(with); };
    EXPECT_EQ(b.run({[&] {
                         for (unsigned tag = 0; tag < 4; ++tag) {
                             b.request(0, tag, reading);
                         }
                     },
                     [&] {
                         const auto requested = b.port.in_flight;
                         ASSERT_EQ(requested.size(), 4u);
                         for (const std::size_t i : {2u, 0u, 3u, 1u}) {
                             b.port.answer(*requested[i], i == 3 ? -ENOSPC : 1);
                         }
                     }}),
              0);
    std::vector<unsigned> order;
    for (const auto& each : b.port.log) {
        if (each.action == verb::commit) {
            order.push_back(each.tag);
        }
    }
    EXPECT_EQ(order, (std::vector<unsigned>{2, 0, 3, 1}));
    EXPECT_EQ(b.port.at(0, 3).answer, -ENOSPC);
    EXPECT_EQ(b.port.at(0, 1).answer, 4096);
}

TEST(async_server, the_same_tag_is_served_again_in_the_same_memory) {
    bench<paths::copy, true> b{1, 1};
    b.backend.act = [](io& with, const request&) { return one_operation(with); };
    std::vector<std::function<void()>> moves;
    for (int i = 0; i < 200; ++i) {
        moves.emplace_back([&] { b.request(0, 0, reading); });
        moves.emplace_back([&] { b.port.answer(*b.port.in_flight.at(0), 1); });
    }
    EXPECT_EQ(b.run(std::move(moves)), 0);
    EXPECT_EQ(b.port.at(0, 0).commits, 200u);
}

[[gnu::noinline]] task refusing(io& with, bool later) {
    if (later) {
        const int outcome = co_await with.read_some(3, {});
        EXPECT_EQ(outcome, 1);
    }
    throw std::runtime_error{"no"};
    co_return ok;
}

TEST(async_server, an_exception_becomes_eio) {
    bench<paths::copy> b;
    b.backend.act = [](io& with, const request& r) -> task {
        if (r.tag().value() == 2) {
            throw 1;  // not even a coroutine
        }
        return refusing(with, r.tag().value() == 1);
    };
    EXPECT_EQ(b.run({[&] {
                         b.request(0, 0, reading);
                         b.request(0, 1, reading);
                         b.request(0, 2, reading);
                     },
                     [&] { b.port.answer(*b.port.in_flight.at(0), 1); }}),
              0);
    for (unsigned tag = 0; tag < 3; ++tag) {
        EXPECT_EQ(b.port.at(0, tag).answer, -EIO);
        EXPECT_EQ(b.port.at(0, tag).commits, 1u);
    }
}

// The request is a copy: the driver's descriptor may change as soon as its tag is committed.
[[gnu::noinline]] task remembering(io& with, const request& r, std::uint64_t* offset) {
    (void)co_await with.read_some(3, {});
    *offset = r.offset();
    co_return ok;
}

TEST(async_server, a_request_lives_as_long_as_its_task) {
    bench<paths::copy> b;
    std::uint64_t offset = 0;
    b.backend.act = [&](io& with, const request& r) { return remembering(with, r, &offset); };
    EXPECT_EQ(b.run({[&] { b.request(0, 0, reading, 77); },
                     [&] {
                         b.shelf.describe(0, 0, writing, 99, 1);
                         b.port.answer(*b.port.in_flight.at(0), 1);
                     }}),
              0);
    EXPECT_EQ(offset, 77u * 512);
    EXPECT_EQ(b.port.at(0, 0).answer, 4096);
}

TEST(async_server, several_queues_share_a_thread_and_do_not_get_mixed_up) {
    bench<paths::copy> b{3, 5};
    b.backend.act = [](io& with, const request&) { return one_operation(with); };
    EXPECT_EQ(b.run({[&] {
                         for (unsigned q = 0; q < 3; ++q) {
                             for (unsigned t = 0; t < 5; ++t) {
                                 b.request(q, t, reading, 1000 * q + t, t + 1);
                             }
                         }
                     },
                     [&] {
                         while (!b.port.in_flight.empty()) {
                             b.port.answer(*b.port.in_flight.back(), 1);
                         }
                     }}),
              0);
    ASSERT_EQ(b.backend.requested.size(), 15u);
    for (const request& r : b.backend.requested) {
        EXPECT_EQ(r.offset(), (1000 * r.queue().value() + r.tag().value()) * 512);
        const auto& out = b.backend.read_into.at({r.queue().value(), r.tag().value()});
        EXPECT_EQ(out.data(), b.shelf.queues[r.queue().value()].data[r.tag()]);
        EXPECT_EQ(b.port.at(r.queue().value(), r.tag().value()).answer,
                  static_cast<int>((r.tag().value() + 1) * 512));
        EXPECT_EQ(b.port.at(r.queue().value(), r.tag().value()).commits, 1u);
    }
}

TEST(async_server, a_descriptor_longer_than_the_buffer_is_answered_with_eio) {
    bench<paths::copy> copying;
    const auto sectors = static_cast<std::uint32_t>(scripted_queues::stride / 512);
    EXPECT_EQ(copying.run({[&] {
        copying.request(0, 0, reading, 0, sectors + 1);
        copying.request(0, 1, reading, 0, sectors);
    }}),
              0);
    EXPECT_EQ(copying.port.at(0, 0).answer, -EIO);
    EXPECT_EQ(copying.port.at(0, 1).answer, static_cast<int>(scripted_queues::stride));
    EXPECT_EQ(copying.backend.requested.size(), 1u);
}

// ---------------------------------------------------------------- what goes with a tag

TEST(data_paths, that_copy_offer_each_tag_with_its_buffer) {
    bench<paths::copy> copying{2, 4};
    bench<paths::fixed_copy> fixed{2, 4};
    const auto check = [](auto& b) {
        for (unsigned q = 0; q < 2; ++q) {
            for (std::uint16_t t = 0; t < 4; ++t) {
                EXPECT_EQ(b.port.at(q, t).memory,
                          reinterpret_cast<std::uintptr_t>(b.shelf.queues[q].data[ublk::tag{t}]));
            }
        }
        EXPECT_EQ(b.run({}), 0);
    };
    check(copying);
    check(fixed);
}

template <class Path>
std::uint64_t registration_of(unsigned q, unsigned t) {
    bench<Path> b{2, 4};
    EXPECT_EQ(b.run({[&] { b.request(q, t, reading); }}), 0);
    std::optional<std::uint64_t> outcome;
    for (const auto& each : b.port.log) {
        EXPECT_EQ(each.memory, 0u);
        const bool offers = each.action == verb::fetch || each.action == verb::commit;
        if (offers && each.queue == q && each.tag == t) {
            EXPECT_EQ(outcome.value_or(each.registration), each.registration);  // fetch and commit
            outcome = each.registration;
        }
    }
    return outcome.value_or(~0ull);
}

TEST(data_paths, other_than_that_offer_tags_without_memory) {
    EXPECT_EQ(registration_of<paths::user_copy>(1, 2), 0u);
    EXPECT_EQ(registration_of<paths::zero_copy>(1, 2), 0u);
    EXPECT_EQ(registration_of<paths::pages>(1, 2), 0u);
}

TEST(data_paths, of_auto_buffer_name_the_place_in_the_table_of_their_thread) {
    for (unsigned q = 0; q < 2; ++q) {
        for (unsigned t = 0; t < 4; ++t) {
            const uapi::auto_buf_reg queue_index{.index = static_cast<std::uint16_t>(q * 4 + t),
                                                 .flags = uapi::auto_buf_reg_fallback};
            EXPECT_EQ(registration_of<paths::auto_buffer>(q, t), queue_index.sqe_addr());
        }
    }
}

TEST(data_paths, of_user_copy_give_the_position_of_queue_and_tag) {
    const ublk::fd file{::memfd_create("client", MFD_CLOEXEC)};
    bench<paths::user_copy> b{3, 100, file.get()};
    const std::vector<std::byte> bytes(4096, std::byte{0x5a});
    EXPECT_EQ(b.run({[&] {
        b.request(2, 99, reading);
        b.request(0, 0, writing);
    }}),
              0);
    EXPECT_TRUE(b.backend.read_into.at({2, 99}).put(0, bytes).ok());
    std::vector<std::byte> raw(4096);
    const auto position = static_cast<off_t>(uapi::user_copy_position(2, 99, 0));
    ASSERT_EQ(::pread(file.get(), raw.data(), raw.size(), position), 4096);
    EXPECT_EQ(raw, bytes);
    EXPECT_EQ(b.backend.read_into.at({2, 99}).size(), 4096u);
    EXPECT_EQ(b.backend.written_from.at({0, 0}).size(), 4096u);
}

TEST(data_paths, of_pages_name_the_request_and_leave_its_pages_to_the_backend) {
    bench<paths::pages> b{3, 100, 77};
    EXPECT_EQ(b.run({[&] { b.request(2, 99, reading | uapi::io_flag::need_reg_buf); }}), 0);
    const ublk::client_pages out = b.backend.read_into.at({2, 99});
    EXPECT_EQ(out.file(), 77);
    EXPECT_EQ(out.queue(), 2);
    EXPECT_EQ(out.tag(), 99);
    EXPECT_EQ(out.base(), 0u);
    EXPECT_EQ(out.size(), 4096u);
    EXPECT_EQ(b.port.count(verb::register_buffer), 0u);
}

TEST(data_paths, of_fixed_copy_name_the_registered_buffer_of_the_tag) {
    bench<paths::fixed_copy> b{2, 4};
    EXPECT_EQ(b.run({[&] { b.request(1, 2, reading); }}), 0);
    const registered_buffer out = b.backend.read_into.at({1, 2});
    EXPECT_EQ(out.index(), 6);
    EXPECT_EQ(out.base(), reinterpret_cast<std::uintptr_t>(b.shelf.queues[1].data[ublk::tag{2}]));
    EXPECT_EQ(out.size(), 4096u);
    EXPECT_EQ(b.port.count(verb::register_buffer), 0u);
}

// ---------------------------------------------------------------- registered pages

[[gnu::noinline]] task from_its_pages(io& with, registered_buffer bytes) {
    const int outcome = co_await with.read(3, bytes, 0);
    co_return outcome < 0 ? result::failure(outcome) : ok;
}

template <class Path>
void let_it_use_pages(bench<Path>& b) {
    b.backend.act = [&b](io& with, const request& r) {
        if (!r.carries_data()) {
            return task{ok};
        }
        const auto& all = b.backend.read_into;
        return from_its_pages(with, all.at({r.queue().value(), r.tag().value()}));
    };
}

TEST(zero_copy, pages_are_registered_before_the_operation_and_given_back_before_the_commit) {
    bench<paths::zero_copy> b{2, 4};
    let_it_use_pages(b);
    EXPECT_EQ(b.run({[&] { b.request(1, 2, reading); },
                     [&] {
                         ASSERT_EQ(b.port.in_flight.size(), 1u);
                         EXPECT_EQ(b.port.in_flight[0]->submitted.buffer, 6);
                         EXPECT_EQ(b.port.in_flight[0]->submitted.address, 0u);
                         EXPECT_TRUE(b.port.at(1, 2).registered);
                         EXPECT_EQ(b.port.log.back().action, verb::start);
                         b.port.answer(*b.port.in_flight[0], 4096);
                     }}),
              0);
    EXPECT_EQ(b.port.said_of(1, 2), (std::vector<verb>{verb::fetch, verb::register_buffer,
                                                       verb::unregister_buffer, verb::commit}));
    for (const auto& each : b.port.log) {
        if (each.action == verb::register_buffer || each.action == verb::unregister_buffer) {
            EXPECT_EQ(each.index, 6u);
        }
    }
    EXPECT_EQ(b.port.at(1, 2).answer, 4096);
}

TEST(zero_copy, pages_are_given_back_after_a_failure_and_after_an_answer_at_once) {
    bench<paths::zero_copy> b;
    EXPECT_EQ(b.run({[&] { b.request(0, 0, reading); },
                     [&] {
                         b.backend.act = [](io& with, const request&) { return refusing(with, 0); };
                         b.request(0, 1, writing);
                     }}),
              0);
    for (unsigned tag = 0; tag < 2; ++tag) {
        EXPECT_EQ(b.port.said_of(0, tag),
                  (std::vector<verb>{verb::fetch, verb::register_buffer, verb::unregister_buffer,
                                     verb::commit}));
    }
    EXPECT_EQ(b.port.at(0, 1).answer, -EIO);
}

TEST(zero_copy, what_carries_no_bytes_has_no_pages) {
    bench<paths::zero_copy> b;
    EXPECT_EQ(b.run({[&] {
        b.request(0, 0, flushing, 0, 0);
        b.request(0, 1, op(uapi::op::discard), 0, 1u << 20);
        b.request(0, 2, 0xff);
        b.request(0, 3, reading, 0, 0);
    }}),
              0);
    EXPECT_EQ(b.port.count(verb::register_buffer), 0u);
    EXPECT_EQ(b.port.count(verb::unregister_buffer), 0u);
    EXPECT_EQ(b.port.at(0, 2).answer, -EOPNOTSUPP);
}

TEST(auto_buffer, registers_only_what_the_driver_could_not) {
    bench<paths::auto_buffer> b;
    let_it_use_pages(b);
    EXPECT_EQ(b.run({[&] {
                         b.request(0, 0, reading);
                         b.request(0, 1, reading | uapi::io_flag::need_reg_buf);
                         b.request(0, 2, flushing | uapi::io_flag::need_reg_buf, 0, 0);
                     },
                     [&] {
                         EXPECT_FALSE(b.port.at(0, 0).registered);
                         EXPECT_TRUE(b.port.at(0, 1).registered);
                         while (!b.port.in_flight.empty()) {
                             b.port.answer(*b.port.in_flight.back(), 4096);
                         }
                     },
                     [&] { b.request(0, 1, reading); },
                     [&] { b.port.answer(*b.port.in_flight.at(0), 4096); }}),
              0);
    EXPECT_EQ(b.port.said_of(0, 0), (std::vector<verb>{verb::fetch, verb::commit}));
    EXPECT_EQ(b.port.said_of(0, 1),
              (std::vector<verb>{verb::fetch, verb::register_buffer, verb::unregister_buffer,
                                 verb::commit, verb::commit}));
    EXPECT_EQ(b.port.said_of(0, 2), (std::vector<verb>{verb::fetch, verb::commit}));
}

// ---------------------------------------------------------------- lent memory

TEST(lend_path, a_write_is_told_where_its_bytes_belong_and_then_committed) {
    bench<paths::get_data> b{2, 4};
    EXPECT_EQ(b.port.at(1, 3).memory, 0u);
    EXPECT_EQ(b.run({[&] { b.request(1, 3, writing, 16, 8); },
                     [&] {
                         EXPECT_EQ(b.port.at(1, 3).memory, b.backend.address(8192));
                         EXPECT_EQ(b.port.at(1, 3).commits, 0u);
                         b.port.deliver(1, 3, uapi::io_res_ok);
                     }}),
              0);
    EXPECT_EQ(b.port.said_of(1, 3), (std::vector<verb>{verb::fetch, verb::get_data, verb::commit}));
    EXPECT_EQ(b.port.at(1, 3).answer, 4096);
    EXPECT_EQ(b.port.at(1, 3).memory, 0u);  // with the commit of a write goes none
    EXPECT_TRUE(b.backend.requested.empty());
}

TEST(lend_path, a_read_is_committed_with_the_place_of_its_bytes) {
    bench<paths::get_data> b;
    EXPECT_EQ(b.run({[&] { b.request(0, 1, reading, 24, 8); }}), 0);
    EXPECT_EQ(b.port.said_of(0, 1), (std::vector<verb>{verb::fetch, verb::commit}));
    EXPECT_EQ(b.port.at(0, 1).memory, b.backend.address(24 * 512));
    EXPECT_EQ(b.port.at(0, 1).answer, 4096);
    EXPECT_TRUE(b.backend.requested.empty());
}

TEST(lend_path, everything_else_reaches_the_backend) {
    bench<paths::get_data> b;
    EXPECT_EQ(b.run({[&] {
        b.request(0, 0, flushing, 0, 0);
        b.request(0, 1, op(uapi::op::discard), 8, 1024);
    }}),
              0);
    EXPECT_EQ(b.backend.requested.size(), 2u);
    EXPECT_EQ(b.backend.lent, 0u);
    EXPECT_EQ(b.port.at(0, 1).answer, 0);
}

// A kernel that meets a fault in the middle shortens the descriptor and goes on as if nothing was.
TEST(lend_path, a_write_whose_descriptor_was_shortened_is_answered_with_eio) {
    bench<paths::get_data> b;
    EXPECT_EQ(b.run({[&] { b.request(0, 0, writing, 0, 8); },
                     [&] {
                         b.shelf.describe(0, 0, writing, 0, 7);
                         b.port.deliver(0, 0, uapi::io_res_ok);
                     },
                     [&] { b.request(0, 0, writing, 0, 7); },
                     [&] {
                         EXPECT_EQ(b.port.at(0, 0).answer, -EIO);
                         b.port.deliver(0, 0, uapi::io_res_ok);
                     }}),
              0);
    EXPECT_EQ(b.port.at(0, 0).answer, 7 * 512);
}

TEST(lend_path, memory_of_a_wrong_size_is_answered_with_eio) {
    bench<paths::get_data> b;
    b.backend.less = 512;
    EXPECT_EQ(b.run({[&] {
        b.request(0, 0, writing);
        b.request(0, 1, reading);
    }}),
              0);
    EXPECT_EQ(b.port.said_of(0, 0), (std::vector<verb>{verb::fetch, verb::commit}));
    EXPECT_EQ(b.port.at(0, 0).answer, -EIO);
    EXPECT_EQ(b.port.at(0, 1).answer, -EIO);
    EXPECT_NE(b.port.at(0, 1).memory, 0u);  // or the driver would refuse the commit
}

TEST(lend_path, that_is_to_refuse_asks_for_no_bytes) {
    bench<paths::get_data> b;
    b.flags = ublk::detail::loop_flags::refuse;
    EXPECT_EQ(b.run({[&] {
        b.request(0, 0, writing);
        b.request(0, 1, reading);
    }}),
              0);
    EXPECT_EQ(b.port.count(verb::get_data), 0u);
    EXPECT_EQ(b.port.at(0, 0).answer, -EIO);
    EXPECT_EQ(b.port.at(0, 1).answer, -EIO);
    EXPECT_NE(b.port.at(0, 1).memory, 0u);
}

// ---------------------------------------------------------------- orders

TEST(async_orders, to_refuse_cancel_what_is_in_flight_and_answer_the_rest_with_eio) {
    bench<paths::copy> b;
    b.backend.act = [](io& with, const request&) { return one_operation(with); };
    EXPECT_EQ(b.run({[&] {
                         b.request(0, 0, reading);
                         b.request(0, 1, reading);
                     },
                     [&] { b.order(ublk::detail::loop_flags::refuse); },
                     [&] {
                         EXPECT_EQ(b.port.at(0, 0).answer, -ECANCELED);
                         EXPECT_EQ(b.port.at(0, 1).answer, -ECANCELED);
                         b.request(0, 0, reading);
                         b.request(0, 2, flushing, 0, 0);
                     },
                     [&] { b.order(ublk::detail::loop_flags::refuse); }}),
              0);
    EXPECT_EQ(b.port.at(0, 0).answer, -EIO);
    EXPECT_EQ(b.port.at(0, 2).answer, -EIO);
    EXPECT_EQ(b.backend.requested.size(), 2u);
    EXPECT_EQ(b.port.count(verb::cancel), 1u);
}

TEST(async_orders, to_leave_wait_for_operations_in_flight) {
    bench<paths::copy> b;
    b.port.cancels_at_once = false;  // a kernel that takes its time
    b.backend.act = [](io& with, const request&) { return one_operation(with); };
    bool waited = false;
    EXPECT_EQ(
        b.run({[&] { b.request(0, 0, reading); }, [&] { b.order(ublk::detail::loop_flags::leave); },
               [&] {
                   EXPECT_EQ(b.port.count(verb::cancel), 1u);
                   EXPECT_EQ(b.port.at(0, 0).commits, 0u);
                   waited = true;
                   b.port.answer(*b.port.in_flight.at(0), 1);
               }}),
        0);
    EXPECT_TRUE(waited);
    EXPECT_EQ(b.port.at(0, 0).commits, 1u);
    EXPECT_EQ(b.port.at(0, 0).answer, 4096);  // it was done in spite of all
    EXPECT_GE(b.port.flushes, 1u);            // its answer is handed over
}

[[gnu::noinline]] task handing(io& with, std::vector<completion_handle>& to) {
    co_return co_await with.offload(
        [&to](completion_handle ticket) { to.push_back(std::move(ticket)); });
}

TEST(async_orders, to_leave_wait_for_tickets) {
    bench<paths::copy> b;
    std::vector<completion_handle> given;
    b.backend.act = [&](io& with, const request&) { return handing(with, given); };
    EXPECT_EQ(
        b.run({[&] { b.request(0, 0, reading); }, [&] { b.order(ublk::detail::loop_flags::leave); },
               [&] {
                   EXPECT_EQ(b.port.at(0, 0).commits, 0u);
                   EXPECT_TRUE(given.at(0).cancelled());
                   std::move(given.at(0)).answer(std::errc::no_link);
               }}),
        0);
    EXPECT_EQ(b.port.at(0, 0).answer, -ENOLINK);
}

// It awaits something that is none of the engine's, and that nobody ends.
[[gnu::noinline]] task lost(io&) {
    co_await std::suspend_always{};
    co_return ok;
}

TEST(async_orders, to_leave_abandon_a_task_that_waits_for_what_never_comes) {
    bench<paths::zero_copy> b;
    b.backend.act = [](io& with, const request&) { return lost(with); };
    EXPECT_EQ(b.run({[&] { b.request(0, 0, reading); },
                     [&] { b.order(ublk::detail::loop_flags::leave); }}),
              0);
    EXPECT_EQ(b.port.at(0, 0).answer, -EIO);
    EXPECT_EQ(b.port.said_of(0, 0), (std::vector<verb>{verb::fetch, verb::register_buffer,
                                                       verb::unregister_buffer, verb::commit}));
}

TEST(async_orders, a_ring_that_fails_ends_the_server) {
    bench<paths::copy> b;
    b.port.wait_codes = {-EINTR, -EAGAIN, -EBADF};
    EXPECT_EQ(b.server.run(), -EBADF);
}

// ---------------------------------------------------------------- tickets from real threads

TEST(async_server, tickets_come_back_from_other_threads) {
    bench<paths::copy> b{1, 8};
    std::vector<std::thread> threads;
    const auto hand = [&](io& with) -> task {
        co_return co_await with.offload([&threads](completion_handle ticket) {
            threads.emplace_back([mine = std::move(ticket)]() mutable {
                std::this_thread::yield();
                std::move(mine).answer(std::errc::no_link);
            });
        });
    };
    b.backend.act = [&](io& with, const request&) { return hand(with); };
    unsigned sent = 0;
    b.port.step = [&] {
        unsigned done = 0;
        for (unsigned t = 0; t < 8; ++t) {
            done += b.port.at(0, t).commits;
        }
        if (sent == 0) {
            for (; sent < 8; ++sent) {
                b.request(0, sent, reading);
            }
            return true;
        }
        if (done == 8) {
            b.take_all_back();
        }
        return done == 8;
    };
    EXPECT_EQ(b.server.run(), 0);
    for (std::thread& each : threads) {
        each.join();
    }
    for (unsigned t = 0; t < 8; ++t) {
        EXPECT_EQ(b.port.at(0, t).answer, -ENOLINK);
    }
}

// ---------------------------------------------------------------- any interleaving

// A random program for each request: operations one after the other or at once, tickets, answers
// at once, exceptions.
struct chance {
    std::mt19937 random;
    std::list<completion_handle> tickets{};
    unsigned started = 0;
    unsigned ended = 0;

    unsigned waiting() const { return static_cast<unsigned>(tickets.size()); }
    unsigned below(unsigned limit) { return static_cast<unsigned>(random() % limit); }
};

struct counted {
    chance& of;
    explicit counted(chance& which) : of{which} { ++of.started; }
    counted(const counted&) = delete;
    ~counted() { ++of.ended; }
};

[[gnu::noinline]] task wandering(io& with, chance& world, unsigned depth) {
    const counted life{world};
    std::byte bytes[64];
    const unsigned steps = world.below(4);
    for (unsigned i = 0; i < steps; ++i) {
        switch (world.below(depth == 0 ? 3 : 5)) {
        case 0: {
            const int outcome = co_await with.read(3, bytes, i);
            if (outcome < 0) {
                co_return result::failure(outcome);
            }
            break;
        }
        case 1: {
            const int outcome = co_await with.write_some(3, bytes);
            if (outcome == -EIO) {
                throw std::runtime_error{"disappointed"};
            }
            break;
        }
        case 2: {
            const result outcome = co_await with.offload(
                [&world](completion_handle ticket) { world.tickets.push_back(std::move(ticket)); });
            if (!outcome.ok()) {
                co_return outcome;
            }
            break;
        }
        case 3: {
            const result outcome = co_await wandering(with, world, depth - 1);
            if (!outcome.ok()) {
                co_return outcome;
            }
            break;
        }
        default: {
            const result outcome = co_await ublk::when_all(
                wandering(with, world, depth - 1), wandering(with, world, depth - 1), task{ok});
            if (!outcome.ok()) {
                co_return outcome;
            }
        }
        }
    }
    co_return ok;
}

template <class Path>
struct interleaving {
    static constexpr unsigned queue_count = 2;
    static constexpr unsigned depth = 4;

    explicit interleaving(unsigned seed) : world{std::mt19937{seed}} {
        b.port.cancels_at_once = false;
        b.backend.act = [this](io& with, const request&) { return wandering(with, world, 2); };
        b.port.step = [this] { return move(); };
    }

    bool move() {
        ++moves;
        check();
        const bool more = sent < requests;
        for (unsigned tries = 0; tries < 100; ++tries) {
            if (attempt(more)) {
                return true;
            }
        }
        return leave();
    }

    bool attempt(bool more) {
        switch (world.below(3)) {
        case 0:
            return more && send();
        case 1:
            return answer_one();
        default:
            if (world.tickets.empty()) {
                return false;
            }
            answer_ticket();
            return true;
        }
    }

    void answer_ticket() {
        const auto which = std::next(world.tickets.begin(), world.below(world.waiting()));
        if (world.below(4) != 0) {
            std::move(*which).answer(world.below(9) == 0 ? result{std::errc::no_link} : ok);
        }
        world.tickets.erase(which);
    }

    bool send() {
        const unsigned q = world.below(queue_count);
        const unsigned t = world.below(depth);
        if (!b.port.at(q, t).with_driver) {
            return false;
        }
        constexpr std::array kinds{reading, writing, flushing, op(uapi::op::discard),
                                   reading | uapi::io_flag::need_reg_buf};
        const std::uint32_t kind = kinds[world.below(kinds.size())];
        b.request(q, t, kind, world.below(1000), uapi::op_of(kind) == uapi::op::flush ? 0 : 8);
        ++sent;
        return true;
    }

    bool answer_one() {
        if (b.port.in_flight.empty()) {
            return false;
        }
        const auto count = static_cast<unsigned>(b.port.in_flight.size());
        const operation& requested = *b.port.in_flight[world.below(count)];
        constexpr std::array failures{-EIO, -ECANCELED, -EINTR, -EAGAIN, 0};
        const bool fails = world.below(6) == 0;
        b.port.answer(requested,
                      fails ? failures[world.below(failures.size())]
                            : static_cast<int>(1 + world.below(requested.submitted.length)));
        return true;
    }

    bool leave() {
        if (left) {
            return false;
        }
        left = true;
        if (world.below(2) == 0) {
            b.order(ublk::detail::loop_flags::leave);
        } else {
            b.take_all_back();
        }
        return true;
    }

    // Whoever has a tag has committed once for each request, less the one that it serves.
    void check() {
        for (unsigned q = 0; q < queue_count; ++q) {
            for (unsigned t = 0; t < depth; ++t) {
                const auto& tag = b.port.at(q, t);
                ASSERT_EQ(tag.commits + (tag.with_driver || tag.gone ? 0 : 1), tag.requests);
            }
        }
    }

    static constexpr unsigned requests = 400;
    chance world;
    bench<Path> b{queue_count, depth};
    unsigned sent = 0;
    unsigned moves = 0;
    bool left = false;
};

template <class Path>
void expect_each_request_committed_once() {
    unsigned moves = 0;
    for (unsigned seed = 0; seed < 30; ++seed) {
        SCOPED_TRACE(seed);
        interleaving<Path> any{seed};
        ASSERT_EQ(any.b.server.run(), 0);
        any.check();
        unsigned commits = 0;
        for (unsigned q = 0; q < any.queue_count; ++q) {
            for (unsigned t = 0; t < any.depth; ++t) {
                commits += any.b.port.at(q, t).commits;
            }
        }
        EXPECT_EQ(commits, any.requests);
        EXPECT_EQ(any.world.started, any.world.ended);
        EXPECT_TRUE(any.b.port.in_flight.empty());
        moves += any.moves;
    }
    EXPECT_GT(moves, 10'000u);
}

TEST(async_server, commits_each_request_once_in_any_interleaving) {
    expect_each_request_committed_once<paths::copy>();
    expect_each_request_committed_once<paths::zero_copy>();
    expect_each_request_committed_once<paths::auto_buffer>();
}

// Ordered to leave or to refuse at any moment, with whatever is in flight.
TEST(async_server, commits_each_request_once_whenever_it_is_told_to_go) {
    for (unsigned seed = 0; seed < 200; ++seed) {
        SCOPED_TRACE(seed);
        interleaving<paths::zero_copy> any{seed};
        const unsigned when = 1 + seed * 3;
        const unsigned action =
            seed % 2 == 0 ? ublk::detail::loop_flags::leave : ublk::detail::loop_flags::refuse;
        any.b.port.step = [&any, when, action] {
            if (any.moves == when) {
                any.b.order(action);
            }
            return any.move();
        };
        ASSERT_EQ(any.b.server.run(), 0);
        any.check();
        EXPECT_EQ(any.world.started, any.world.ended);
        EXPECT_TRUE(any.b.port.in_flight.empty());
        EXPECT_TRUE(any.world.tickets.empty());
    }
}

TEST(async_server, takes_nothing_from_the_heap_while_it_serves) {
    if (!ublk::test::allocations_are_counted()) {
        GTEST_SKIP() << "this program has another operator new";
    }
    bench<paths::copy, true> b{1, 1};
    b.backend.act = [](io& with, const request&) { return one_operation(with); };
    // What the test itself keeps has its room before, and what it does is the same each time.
    b.port.log.reserve(10'000);
    b.backend.requested.reserve(10'000);
    std::uint64_t before = 0;
    unsigned sent = 0;
    b.port.step = [&] {
        if (!b.port.in_flight.empty()) {
            b.port.answer(*b.port.in_flight[0], 1);
        } else if (sent == 2000) {
            EXPECT_EQ(ublk::test::allocations - before, 0u);
            b.port.deliver(0, 0, uapi::io_res_abort);
        } else {
            before = ++sent == 10 ? ublk::test::allocations.load() : before;
            b.request(0, 0, flushing, 0, 0);
        }
        return true;
    };
    EXPECT_EQ(b.server.run(), 0);
    EXPECT_EQ(b.port.at(0, 0).commits, 2000u);
}

}  // namespace
}  // namespace async_queue_loop_test
