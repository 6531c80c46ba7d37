// SPDX-License-Identifier: MIT
#include "fake_kernel.hpp"

#include <ublk/data/queue_loop.hpp>
#include <ublk/policy/batch_policy.hpp>

#include <gtest/gtest.h>

#include <atomic>

#include <algorithm>
#include <cerrno>
#include <span>
#include <stdexcept>
#include <thread>
#include <vector>

namespace queue_loop_test {
namespace {

using ublk_test::client_io;
using ublk_test::fake_kernel;
namespace uapi = ublk::uapi;

constexpr std::uint32_t op(uapi::op op_code) {
    return static_cast<std::uint32_t>(op_code);
}

// Writes down every call, with where the payload was.
struct recorder {
    struct call {
        uapi::op op;
        std::uint64_t offset;
        std::uint64_t length;
        unsigned queue;
        unsigned tag;
        std::span<const std::byte> payload;
    };
    std::vector<call> calls{};
    ublk::result answer = ublk::ok;

    [[gnu::noinline]] ublk::result note(const ublk::request& r,
                                        std::span<const std::byte> payload = {}) {
        calls.push_back(
            {r.op(), r.offset(), r.length(), r.queue().value(), r.tag().value(), payload});
        return answer;
    }
    std::uint64_t size() const noexcept { return 1ull << 40; }
    [[gnu::noinline]] ublk::result read(const ublk::request& r, std::span<std::byte> out) {
        std::fill(out.begin(), out.end(), static_cast<std::byte>(r.tag().value() + 1));
        return note(r, out);
    }
    ublk::result write(const ublk::request& r, std::span<const std::byte> in) {
        return note(r, in);
    }
    ublk::result flush(const ublk::request& r) { return note(r); }
    ublk::result discard(const ublk::request& r) { return note(r); }
    ublk::result write_zeroes(const ublk::request& r) { return note(r); }
};

constexpr std::uint32_t buffer_bytes = 64u << 10;

// A device of the fake driver and its queues, all served by the thread of the test.
template <class Backend = recorder, class Batch = ublk::per_wakeup, bool SingleQueue = false>
struct bench {
    explicit bench(unsigned queue_count = 1, unsigned depth = 4, std::uint16_t descriptor_size = 0)
        : kernel{created(queue_count, depth, descriptor_size)}, queues{mapped(kernel, channel)} {}

    static fake_kernel created(unsigned queue_count, unsigned depth, std::uint16_t size) {
        fake_kernel kernel;
        uapi::dev_info info;
        info.nr_hw_queues = static_cast<std::uint16_t>(queue_count);
        info.queue_depth = static_cast<std::uint16_t>(depth);
        info.max_io_buf_bytes = buffer_bytes;
        kernel.driver->desc_size = size;
        kernel.driver->create(info);
        return kernel;
    }

    static std::vector<ublk::detail::queue> mapped(const fake_kernel& kernel,
                                                   const fake_kernel::channel& channel) {
        const auto& driver = *kernel.driver;
        const std::size_t size = driver.desc_size != 0 ? driver.desc_size : sizeof(uapi::io_desc);
        const std::size_t page = kernel.page_size();
        const unsigned depth = driver.info.queue_depth;
        std::vector<ublk::detail::queue> all;
        for (std::uint16_t q = 0; q < driver.info.nr_hw_queues; ++q) {
            all.emplace_back(ublk::queue_id{q},
                             channel.map(q * uapi::cmd_buf_stride(size, page),
                                         uapi::cmd_buf_size(depth, size, page)),
                             size, ublk::detail::tag_buffers{depth, buffer_bytes, {}}, depth);
        }
        return all;
    }

    // Serves these and whatever else the driver has, until it has taken back every tag.
    int serve_and_stop(const std::vector<client_io>& all) {
        kernel.post(all);
        kernel.stop_from_outside();
        return server.run();
    }

    void expect_no_violation() const {
        for (const std::string& each : kernel.driver->violations) {
            ADD_FAILURE() << each;
        }
    }

    fake_kernel kernel;
    fake_kernel::channel channel = kernel.open_channel(0, {});
    std::vector<ublk::detail::queue> queues;
    fake_kernel::wakeup wakeup{};
    fake_kernel::port port{channel, wakeup, {.tags = 4096}};
    Backend backend{};
    std::atomic<unsigned> flags{ublk::detail::loop_flags::serve};
    ublk::detail::queue_loop<Backend, Batch, fake_kernel::port, SingleQueue> server{backend, port,
                                                                                    queues, flags};
};

// One request on each tag of a queue.
std::vector<client_io> one_a_tag(unsigned tags, uapi::op op_code = uapi::op::read) {
    std::vector<client_io> all;
    for (unsigned i = 0; i < tags; ++i) {
        all.push_back({0, i, op(op_code), i, 1});
    }
    return all;
}

TEST(queue, every_tag_is_offered_with_a_buffer_of_its_own) {
    bench b{2, 8};
    ASSERT_EQ(b.server.fetch_all(), 0);
    std::vector<const std::byte*> buffers;
    for (const auto& queue : b.kernel.driver->tags) {
        for (const auto& slot : queue) {
            EXPECT_EQ(slot.at, fake_kernel::slot_state::stage::fetched);
            buffers.push_back(slot.buffer);
        }
    }
    std::sort(buffers.begin(), buffers.end());
    for (std::size_t i = 1; i < buffers.size(); ++i) {
        EXPECT_GE(buffers[i] - buffers[i - 1], std::ptrdiff_t{buffer_bytes});
    }
    EXPECT_EQ(b.serve_and_stop({}), 0);
    b.expect_no_violation();
}

TEST(queue, each_operation_reaches_the_backend_with_its_span_and_comes_back_whole) {
    bench b{1, 5};
    ASSERT_EQ(b.server.fetch_all(), 0);
    const std::vector<std::byte> data(4096, std::byte{0x5a});
    EXPECT_EQ(b.serve_and_stop({
                  {0, 0, op(uapi::op::read), 8, 16},
                  {0, 1, op(uapi::op::write), 1ull << 24, 8, data},
                  {0, 2, op(uapi::op::flush), 0, 0},
                  {0, 3, op(uapi::op::discard), 64, 1u << 22},
                  {0, 4, op(uapi::op::write_zeroes), 1ull << 30, 8},
              }),
              0);
    ASSERT_EQ(b.backend.calls.size(), 5u);
    const auto& calls = b.backend.calls;
    EXPECT_EQ(calls[0].op, uapi::op::read);
    EXPECT_EQ(calls[0].offset, 4096u);
    EXPECT_EQ(calls[0].payload.size(), 8192u);
    EXPECT_EQ(calls[1].op, uapi::op::write);
    EXPECT_EQ(calls[1].offset, 1ull << 33);
    EXPECT_TRUE(
        std::equal(calls[1].payload.begin(), calls[1].payload.end(), data.begin(), data.end()));
    EXPECT_EQ(calls[2].op, uapi::op::flush);
    EXPECT_EQ(calls[3].op, uapi::op::discard);
    EXPECT_EQ(calls[3].length, 1ull << 31);
    EXPECT_EQ(calls[4].op, uapi::op::write_zeroes);
    for (unsigned i = 2; i < 5; ++i) {
        EXPECT_TRUE(calls[i].payload.empty());
    }

    std::vector<std::byte> read;
    EXPECT_EQ(b.kernel.answer(0, 0, &read), 8192);
    EXPECT_EQ(read, std::vector<std::byte>(8192, std::byte{1}));
    EXPECT_EQ(b.kernel.answer(0, 1), 4096);
    for (unsigned i = 2; i < 5; ++i) {
        EXPECT_EQ(b.kernel.answer(0, i), 0);
    }
    b.expect_no_violation();
}

TEST(queue, an_errno_of_the_backend_is_committed_as_a_negative_number) {
    bench b{1, 5};
    b.backend.answer = std::errc::no_space_on_device;
    ASSERT_EQ(b.server.fetch_all(), 0);
    EXPECT_EQ(b.serve_and_stop({{0, 0, op(uapi::op::read), 0, 1},
                                {0, 1, op(uapi::op::write), 0, 1},
                                {0, 2, op(uapi::op::flush), 0, 0},
                                {0, 3, op(uapi::op::discard), 0, 1},
                                {0, 4, op(uapi::op::write_zeroes), 0, 1}}),
              0);
    for (unsigned i = 0; i < 5; ++i) {
        EXPECT_EQ(b.kernel.answer(0, i), -ENOSPC);
    }
    b.expect_no_violation();
}

TEST(queue, an_operation_that_nobody_knows_is_not_supported) {
    bench b{1, 3};
    ASSERT_EQ(b.server.fetch_all(), 0);
    EXPECT_EQ(b.serve_and_stop({{0, 0, op(uapi::op::zone_reset), 0, 1},
                                {0, 1, op(uapi::op::report_zones), 0, 1u << 20},
                                {0, 2, 0xff, 0, 1}}),
              0);
    for (unsigned i = 0; i < 3; ++i) {
        EXPECT_EQ(b.kernel.answer(0, i), -EOPNOTSUPP);
    }
    EXPECT_TRUE(b.backend.calls.empty());
    b.expect_no_violation();
}

// The flags lie above the operation and must not change it.
TEST(queue, flags_do_not_disturb_the_operation) {
    bench b{1, 1};
    ASSERT_EQ(b.server.fetch_all(), 0);
    EXPECT_EQ(b.serve_and_stop(
                  {{0, 0, op(uapi::op::write) | uapi::io_flag::fua | uapi::io_flag::meta, 0, 2}}),
              0);
    EXPECT_EQ(b.kernel.answer(0, 0), 1024);
    b.expect_no_violation();
}

TEST(queue, queues_and_tags_do_not_get_mixed_up) {
    bench b{3, 7};
    ASSERT_EQ(b.server.fetch_all(), 0);
    std::vector<client_io> all;
    for (unsigned q = 0; q < 3; ++q) {
        for (unsigned t = 0; t < 7; ++t) {
            all.push_back({q, t, op(uapi::op::read), q * 1000 + t, 1 + t});
        }
    }
    EXPECT_EQ(b.serve_and_stop(all), 0);
    ASSERT_EQ(b.backend.calls.size(), all.size());
    for (const auto& call : b.backend.calls) {
        EXPECT_EQ(call.offset, (call.queue * 1000 + call.tag) * 512);
        EXPECT_EQ(call.payload.size(), (1 + call.tag) * 512);
        EXPECT_EQ(call.payload.data(), b.kernel.driver->tags[call.queue][call.tag].buffer);
    }
    b.expect_no_violation();
}

TEST(queue, descriptors_may_be_spaced_out) {
    for (const std::uint16_t size : {std::uint16_t{24}, std::uint16_t{64}, std::uint16_t{256}}) {
        bench b{2, 300, size};
        ASSERT_EQ(b.server.fetch_all(), 0);
        std::vector<client_io> all;
        for (unsigned q = 0; q < 2; ++q) {
            for (unsigned t = 0; t < 300; ++t) {
                all.push_back({q, t, op(uapi::op::discard), q * 1000 + t, 8});
            }
        }
        EXPECT_EQ(b.serve_and_stop(all), 0);
        ASSERT_EQ(b.backend.calls.size(), all.size());
        for (const auto& call : b.backend.calls) {
            EXPECT_EQ(call.offset, (call.queue * 1000 + call.tag) * 512) << size;
        }
        b.expect_no_violation();
    }
}

TEST(queue, a_single_queue_is_served_as_well) {
    bench<recorder, ublk::per_wakeup, true> b{1, 4};
    ASSERT_EQ(b.server.fetch_all(), 0);
    EXPECT_EQ(b.serve_and_stop(one_a_tag(4)), 0);
    EXPECT_EQ(b.backend.calls.size(), 4u);
    b.expect_no_violation();
}

TEST(queue, a_tag_is_served_again_and_again) {
    bench b{1, 1};
    ASSERT_EQ(b.server.fetch_all(), 0);
    std::thread clients{[&] {
        for (unsigned i = 0; i < 100; ++i) {
            EXPECT_EQ(b.kernel.serve({0, 0, op(uapi::op::read), i, 1}), 512);
        }
        b.kernel.stop_from_outside();
    }};
    EXPECT_EQ(b.server.run(), 0);
    clients.join();
    EXPECT_EQ(b.backend.calls.size(), 100u);
    b.expect_no_violation();
}

TEST(queue, a_descriptor_longer_than_the_buffer_is_answered_with_eio_and_overruns_nothing) {
    bench b{1, 3};
    ASSERT_EQ(b.server.fetch_all(), 0);
    EXPECT_EQ(b.serve_and_stop({{0, 0, op(uapi::op::read), 0, buffer_bytes / 512 + 1},
                                {0, 1, op(uapi::op::write), 0, 0xffffffff},
                                {0, 2, op(uapi::op::read), 0, buffer_bytes / 512}}),
              0);
    EXPECT_EQ(b.kernel.answer(0, 0), -EIO);
    EXPECT_EQ(b.kernel.answer(0, 1), -EIO);
    EXPECT_EQ(b.kernel.answer(0, 2), int{buffer_bytes});
    EXPECT_EQ(b.backend.calls.size(), 1u);
    b.expect_no_violation();
}

struct thrower : recorder {
    ublk::result read(const ublk::request&, std::span<std::byte>) {
        throw std::runtime_error{"no"};
    }
};

TEST(queue, an_exception_becomes_eio_and_the_loop_goes_on) {
    bench<thrower> b{1, 2};
    ASSERT_EQ(b.server.fetch_all(), 0);
    EXPECT_EQ(
        b.serve_and_stop({{0, 0, op(uapi::op::read), 0, 1}, {0, 1, op(uapi::op::write), 0, 1}}), 0);
    EXPECT_EQ(b.kernel.answer(0, 0), -EIO);
    EXPECT_EQ(b.kernel.answer(0, 1), 512);
    b.expect_no_violation();
}

// ---------------------------------------------------------------- batches

// How often ten answers of one turn are handed over before the turn's wait.
template <class Batch, bool SingleQueue>
unsigned flushes_of_ten() {
    bench<recorder, Batch, SingleQueue> b{1, 10};
    EXPECT_EQ(b.server.fetch_all(), 0);
    EXPECT_EQ(b.serve_and_stop(one_a_tag(10)), 0);
    EXPECT_EQ(b.kernel.driver->commits, 10u);
    for (unsigned i = 0; i < 10; ++i) {
        EXPECT_EQ(b.kernel.driver->order[i].tag, i);
    }
    b.expect_no_violation();
    return b.kernel.driver->flushes;
}

TEST(queue, each_hands_every_answer_over_at_once) {
    EXPECT_EQ((flushes_of_ten<ublk::each, false>()), 10u);
    EXPECT_EQ((flushes_of_ten<ublk::each, true>()), 10u);
}

TEST(queue, per_wakeup_leaves_all_answers_to_the_wait) {
    EXPECT_EQ((flushes_of_ten<ublk::per_wakeup, false>()), 0u);
    EXPECT_EQ((flushes_of_ten<ublk::per_wakeup, true>()), 0u);
}

TEST(queue, up_to_hands_over_full_batches_and_leaves_the_rest_to_the_wait) {
    EXPECT_EQ((flushes_of_ten<ublk::up_to<1>, false>()), 10u);
    EXPECT_EQ((flushes_of_ten<ublk::up_to<4>, false>()), 2u);
    EXPECT_EQ((flushes_of_ten<ublk::up_to<4>, true>()), 2u);
    EXPECT_EQ((flushes_of_ten<ublk::up_to<10>, false>()), 1u);
    EXPECT_EQ((flushes_of_ten<ublk::up_to<11>, false>()), 0u);
}

TEST(queue, a_batch_does_not_count_what_an_earlier_wait_handed_over) {
    bench<recorder, ublk::up_to<4>> b{1, 3};
    ASSERT_EQ(b.server.fetch_all(), 0);
    std::thread clients{[&] {
        for (unsigned turn = 0; turn < 4; ++turn) {
            b.kernel.post(one_a_tag(3));
            for (unsigned i = 0; i < 3; ++i) {
                EXPECT_EQ(b.kernel.answer(0, i), 512);
            }
        }
        b.kernel.stop_from_outside();
    }};
    EXPECT_EQ(b.server.run(), 0);
    clients.join();
    EXPECT_EQ(b.kernel.driver->flushes, 0u);
    b.expect_no_violation();
}

// ---------------------------------------------------------------- what goes wrong

TEST(queue, a_refused_fetch_is_reported) {
    bench b{2, 4};
    b.kernel.driver->refuse_fetch = EINVAL;
    EXPECT_EQ(b.server.fetch_all(), -EINVAL);
}

TEST(queue, a_fetch_while_the_device_is_stopping_is_no_failure) {
    bench b{1, 1};
    b.kernel.driver->refuse_fetch = ENODEV;
    EXPECT_EQ(b.server.fetch_all(), 0);
    EXPECT_EQ(b.server.run(), 0);  // nothing is left to wait for
}

TEST(queue, a_refused_commit_ends_the_server_and_is_reported) {
    bench b{1, 4};
    ASSERT_EQ(b.server.fetch_all(), 0);
    b.kernel.driver->refuse_commit = EBUSY;
    b.kernel.post(one_a_tag(1));
    EXPECT_EQ(b.server.run(), -EBUSY);
    b.expect_no_violation();
}

TEST(queue, an_event_that_copy_mode_does_not_know_ends_the_server) {
    bench b{1, 1};
    ASSERT_EQ(b.server.fetch_all(), 0);
    auto& slot = b.kernel.driver->tags[0][0];
    slot.to->ring(slot.event, uapi::io_res_need_get_data);
    EXPECT_EQ(b.server.run(), -EPROTO);
}

TEST(queue, a_cancelled_tag_counts_as_taken_back) {
    bench b{1, 1};
    ASSERT_EQ(b.server.fetch_all(), 0);
    auto& slot = b.kernel.driver->tags[0][0];
    slot.to->ring(slot.event, -ECANCELED);
    EXPECT_EQ(b.server.run(), 0);
}

TEST(queue, passing_errors_of_the_wait_are_passed_over) {
    bench b{1, 2};
    ASSERT_EQ(b.server.fetch_all(), 0);
    b.kernel.driver->wait_codes = {-EINTR, -EAGAIN, -EBUSY, -EINTR};
    EXPECT_EQ(b.serve_and_stop(one_a_tag(2)), 0);
    EXPECT_EQ(b.kernel.driver->commits, 2u);
    b.expect_no_violation();
}

TEST(queue, any_other_error_of_the_wait_ends_the_server) {
    bench b{1, 2};
    ASSERT_EQ(b.server.fetch_all(), 0);
    b.kernel.driver->wait_codes = {-EBADF};
    EXPECT_EQ(b.server.run(), -EBADF);
}

TEST(queue, an_order_to_leave_ends_the_server_and_hands_over_its_last_answers) {
    bench b{1, 4};
    ASSERT_EQ(b.server.fetch_all(), 0);
    b.kernel.post(one_a_tag(3));
    b.flags = ublk::detail::loop_flags::leave;
    b.wakeup.wake();
    b.wakeup.wake();
    EXPECT_EQ(b.server.run(), 0);
    EXPECT_EQ(b.kernel.driver->commits, 3u);
    b.expect_no_violation();
}

TEST(queue, a_server_told_to_refuse_answers_eio_without_asking_the_backend) {
    bench<> b{1, 4};
    b.flags = ublk::detail::loop_flags::refuse | ublk::detail::loop_flags::leave;
    ASSERT_EQ(b.server.fetch_all(), 0);
    b.kernel.post(one_a_tag(4));
    b.wakeup.wake();
    EXPECT_EQ(b.server.run(), 0);
    for (unsigned tag = 0; tag < 4; ++tag) {
        EXPECT_EQ(b.kernel.answer(0, tag), -EIO);
    }
    EXPECT_TRUE(b.backend.calls.empty());
    b.expect_no_violation();
}

// A tag that was taken back and then gets a request.
void serve_a_tag_that_is_gone() {
    bench b{1, 2};
    (void)b.server.fetch_all();
    auto& slot = b.kernel.driver->tags[0][0];
    slot.to->ring(slot.event, -ECANCELED);
    slot.to->ring(slot.event, uapi::io_res_ok);
    (void)b.server.run();
}

TEST(queue, a_request_on_a_tag_that_the_kernel_does_not_hold_asserts) {
    EXPECT_DEATH(serve_a_tag_that_is_gone(),
                 "the kernel only sends requests on tags that it holds");
}

}  // namespace
}  // namespace queue_loop_test
