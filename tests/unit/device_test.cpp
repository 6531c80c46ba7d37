// SPDX-License-Identifier: MIT
#include "../support/child.hpp"
#include "../support/listener.hpp"
#include "fake_kernel.hpp"

#include <ublk/backends/memory.hpp>
#include <ublk/ublk.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace device_test {
namespace {

using namespace std::chrono_literals;
using ublk_test::client_io;
using ublk_test::count_of;
using ublk_test::fake_kernel;
using ublk_test::listener;
using ublk_test::reply;
using manner = reply::manner;
namespace uapi = ublk::uapi;
namespace ctrl = ublk::uapi::ctrl;

constexpr std::uint32_t op(uapi::op op_code) {
    return static_cast<std::uint32_t>(op_code);
}

using memory = ublk::backends::memory;
template <class Backend, class Queue = ublk::per_cpu, class Batch = ublk::per_wakeup>
using device = ublk::device<Backend, Queue, Batch, fake_kernel>;

ublk::options small() {
    ublk::options requested;
    requested.queues = 2;
    requested.depth = 4;
    requested.max_io_bytes = 64u << 10;
    requested.command_deadline = 10s;  // a loaded machine is slow, a passing test is not
    requested.stop_deadline = 10s;
    return requested;
}

ublk::options hasty() {
    ublk::options requested = small();
    requested.command_deadline = 30ms;  // which does not pass as long as a thread is on its way
    requested.stop_deadline = 20ms;
    return requested;
}

// Without the workers of io_uring, which other tests leave behind for some seconds.
std::size_t threads_of_this_process() {
    std::size_t n = 0;
    for (const auto& each : std::filesystem::directory_iterator{"/proc/self/task"}) {
        std::string name;
        std::ifstream{each.path() / "comm"} >> name;
        n += name.starts_with("iou-") ? 0u : 1u;
    }
    return n;
}

/// Asks again and again until `condition` holds; false after 60 s.
template <class Condition>
bool eventually(Condition condition) {
    const auto until = std::chrono::steady_clock::now() + 60s;
    while (!condition()) {
        if (std::chrono::steady_clock::now() >= until) {
            return false;
        }
        std::this_thread::sleep_for(1ms);
    }
    return true;
}

// A thread that was joined stays visible for a moment, so there may be more.
bool threads_come_down_to(std::size_t wanted) {
    return eventually([wanted] { return threads_of_this_process() <= wanted; });
}

// Whether a thread has come to wait for the end of a device.
bool somebody_waits() {
    return eventually([] { return ublk_test::waiting_threads == 1; });
}

// The errno and command with which a call fails.
struct failure {
    int code = 0;
    std::string command{};
    std::string text{};
};

template <class Call>
failure failure_of(Call&& call) {
    try {
        call();
    } catch (const ublk::error& e) {
        return {e.errno_value(), std::string{e.command()}, e.what()};
    }
    return {};
}

class device_test : public ::testing::Test {
protected:
    void TearDown() override {
        for (const std::string& each : kernel.get([](const auto& s) { return s.violations; })) {
            ADD_FAILURE() << each;
        }
        expect_nothing_left();
    }

    void expect_nothing_left() {
        EXPECT_EQ(kernel.get([](const auto& s) { return s.open_channels; }), 0u);
        EXPECT_EQ(kernel.get([](const auto& s) { return s.open_controls; }), 0u);
        EXPECT_TRUE(threads_come_down_to(threads_before));
    }

    void script(std::uint32_t op_code, manner given, int code = 0) {
        const std::lock_guard lock{kernel.driver->mutex};
        kernel.driver->script[op_code] = {given, code};
    }
    void forget_script() {
        const std::lock_guard lock{kernel.driver->mutex};
        kernel.driver->script.clear();
    }

    fake_kernel kernel{};
    // The thread sanitizer has a thread of its own, from the first thread on.
    std::size_t threads_before = [] {
        std::thread{[] {}}.join();
        return threads_of_this_process();
    }();
};

// ---------------------------------------------------------------- the usual way

TEST_F(device_test, nothing_happens_before_the_start) {
    device<memory> disk{memory{1u << 20}, small(), kernel};
    EXPECT_EQ(disk.state(), ublk::device_state::idle);
    EXPECT_EQ(disk.path(), "");
    EXPECT_EQ(disk.char_path(), "");
    disk.stop();
    disk.wait();
    EXPECT_TRUE(kernel.driver->log.empty());
}

TEST_F(device_test, a_started_device_serves_and_a_stopped_one_is_gone) {
    device<memory> disk{memory{1u << 20}, small(), kernel};
    disk.start();
    EXPECT_EQ(disk.state(), ublk::device_state::live);
    EXPECT_EQ(disk.path(), "/dev/ublkb7");
    EXPECT_EQ(disk.char_path(), "/dev/ublkc7");
    EXPECT_EQ(disk.id(), 7u);
    EXPECT_EQ(disk.info().queues, 2u);
    EXPECT_EQ(disk.info().threads, 2u);
    EXPECT_EQ(disk.info().depth, 4u);
    EXPECT_EQ(disk.info().max_io_bytes, 64u << 10);
    EXPECT_EQ(disk.info().io_desc_size, 24u);
    EXPECT_EQ(disk.info().ring_flags, 0x3000u);
    EXPECT_EQ(disk.info().driver_features, kernel.driver->features);

    const std::vector<std::byte> data(8192, std::byte{0x42});
    EXPECT_EQ(kernel.serve({1, 3, op(uapi::op::write), 16, 16, data}), 8192);
    std::vector<std::byte> back;
    EXPECT_EQ(kernel.serve({0, 0, op(uapi::op::read), 16, 16}, &back), 8192);
    EXPECT_EQ(back, data);

    disk.stop();
    EXPECT_EQ(disk.state(), ublk::device_state::idle);
    EXPECT_FALSE(kernel.driver->exists);
    std::vector<std::uint32_t> sent;
    for (const auto& each : kernel.driver->log) {
        sent.push_back(each.op);
    }
    EXPECT_EQ(sent,
              (std::vector{ctrl::get_features, ctrl::add_dev, ctrl::set_params,
                           ctrl::get_queue_affinity, ctrl::get_queue_affinity, ctrl::start_dev,
                           ctrl::stop_dev, ctrl::get_dev_info, ctrl::del_dev}));
    disk.stop();
    EXPECT_EQ(kernel.driver->log.size(), sent.size());
}

TEST_F(device_test, a_shared_backend_may_be_looked_at_while_it_serves) {
    const auto store = std::make_shared<memory>(1u << 20);
    device<memory> disk{store, small(), kernel};
    EXPECT_EQ(&disk.backend(), store.get());
    disk.start();
    EXPECT_EQ(kernel.serve({0, 0, op(uapi::op::read), 0, 1}), 512);
    disk.stop();
    EXPECT_EQ(store.use_count(), 3);  // two in the device; the threads have given theirs back
}

template <class Policies>
class device_policies : public device_test {};

template <class Queue, class Batch>
struct policies {
    using queue = Queue;
    using batch = Batch;
};
using every_combination =
    ::testing::Types<policies<ublk::per_cpu, ublk::each>, policies<ublk::per_cpu, ublk::per_wakeup>,
                     policies<ublk::per_cpu, ublk::up_to<3>>, policies<ublk::shared, ublk::each>,
                     policies<ublk::shared, ublk::per_wakeup>,
                     policies<ublk::shared, ublk::up_to<3>>>;
TYPED_TEST_SUITE(device_policies, every_combination);

// Clients on every tag of every queue, each with a stretch of the disk to itself.
TYPED_TEST(device_policies, serve_many_clients_at_once) {
    fake_kernel& driver = this->kernel;
    driver.driver->desc_size = 64;
    device<memory, typename TypeParam::queue, typename TypeParam::batch> disk{memory{1u << 20},
                                                                              small(), driver};
    disk.start();
    std::vector<std::thread> clients;
    for (unsigned q = 0; q < 2; ++q) {
        clients.emplace_back([&driver, q] {
            for (unsigned round = 0; round < 20; ++round) {
                std::vector<client_io> writes;
                std::vector<client_io> reads;
                for (unsigned t = 0; t < 4; ++t) {
                    const std::uint64_t at = (q * 4 + t) * 8;
                    const auto mark = static_cast<std::byte>(q * 4 + t + round);
                    writes.push_back(
                        {q, t, op(uapi::op::write), at, 8, std::vector<std::byte>(4096, mark)});
                    reads.push_back({q, t, op(uapi::op::read), at, 8});
                }
                driver.post(writes);
                for (unsigned t = 0; t < 4; ++t) {
                    EXPECT_EQ(driver.answer(q, t), 4096);
                }
                driver.post(reads);
                for (unsigned t = 0; t < 4; ++t) {
                    std::vector<std::byte> back;
                    EXPECT_EQ(driver.answer(q, t, &back), 4096);
                    EXPECT_EQ(back, writes[t].data);
                }
            }
        });
    }
    for (std::thread& each : clients) {
        each.join();
    }
    disk.stop();
    EXPECT_EQ(driver.driver->commits, 2u * 4 * 20 * 2);
}

TEST_F(device_test, one_thread_serves_all_queues_where_they_are_shared) {
    device<memory, ublk::shared> disk{memory{1u << 20}, small(), kernel};
    disk.start();
    EXPECT_EQ(disk.info().threads, 1u);
    EXPECT_TRUE(threads_come_down_to(threads_before + 1));
    EXPECT_EQ(kernel.times(ctrl::get_queue_affinity), 0u);  // nothing is pinned
    disk.stop();
}

// This driver knows no tags of their own.
TEST_F(device_test, interleaved_threads_deal_out_the_queues) {
    ublk::options requested = small();
    requested.threads = 8;
    device<memory, ublk::interleaved> disk{memory{1u << 20}, requested, kernel};
    disk.start();
    EXPECT_EQ(disk.info().threads, disk.info().queues);
    EXPECT_FALSE(disk.info().per_io_daemon);
    disk.stop();
}

TEST_F(device_test, a_number_of_threads_that_the_policy_has_no_use_for_is_refused) {
    ublk::options requested = small();
    requested.threads = 3;
    device<memory> disk{memory{1u << 20}, requested, kernel};
    const failure f = failure_of([&] { disk.start(); });
    EXPECT_EQ(f.code, EINVAL);
    EXPECT_NE(f.text.find("the queue policy has a number of its own"), std::string::npos) << f.text;
    EXPECT_EQ(kernel.times(ctrl::add_dev), 0u);
}

TEST_F(device_test, a_list_of_cpus_that_is_empty_is_refused) {
    using policy = ublk::with<ublk::per_cpu, ublk::places::listed_cpus>;
    device<memory, policy> disk{memory{1u << 20}, small(), kernel};
    EXPECT_NE(failure_of([&] { disk.start(); }).text.find("cpus is empty"), std::string::npos);
    EXPECT_EQ(kernel.times(ctrl::add_dev), 0u);
}

TEST_F(device_test, a_thread_that_spins_never_sleeps) {
    device<memory, ublk::with<ublk::shared, ublk::waits::spin>> disk{memory{1u << 20}, small(),
                                                                     kernel};
    disk.start();
    for (int i = 0; i < 100; ++i) {
        kernel.post({{0, 0, op(uapi::op::read), 0, 8, {}}});
        EXPECT_EQ(kernel.answer(0, 0), 4096);
    }
    disk.stop();
    EXPECT_EQ(kernel.driver->waits, 0u);
}

TEST_F(device_test, the_destructor_stops) {
    {
        device<memory> disk{memory{1u << 20}, small(), kernel};
        disk.start();
    }
    EXPECT_EQ(kernel.times(ctrl::stop_dev), 1u);
    EXPECT_EQ(kernel.times(ctrl::del_dev), 1u);
}

TEST_F(device_test, a_second_start_is_refused_and_changes_nothing) {
    device<memory> disk{memory{1u << 20}, small(), kernel};
    disk.start();
    const std::size_t sent = kernel.driver->log.size();
    EXPECT_EQ(failure_of([&] { disk.start(); }).code, EALREADY);
    EXPECT_EQ(disk.state(), ublk::device_state::live);
    EXPECT_EQ(kernel.driver->log.size(), sent);
    EXPECT_EQ(kernel.serve({0, 0, op(uapi::op::read), 0, 1}), 512);
    disk.stop();
}

TEST_F(device_test, a_stopped_device_starts_again_with_what_it_stored) {
    device<memory> disk{memory{1u << 20}, small(), kernel};
    const std::vector<std::byte> data(512, std::byte{7});
    disk.start();
    EXPECT_EQ(kernel.serve({0, 0, op(uapi::op::write), 3, 1, data}), 512);
    for (int i = 0; i < 3; ++i) {
        disk.stop();
        disk.start();
        std::vector<std::byte> back;
        EXPECT_EQ(kernel.serve({0, 0, op(uapi::op::read), 3, 1}, &back), 512);
        EXPECT_EQ(back, data);
    }
    disk.stop();
    EXPECT_EQ(kernel.times(ctrl::add_dev), 4u);
    EXPECT_EQ(kernel.times(ctrl::del_dev), 4u);
}

TEST_F(device_test, wait_ends_when_another_thread_stops) {
    device<memory> disk{memory{1u << 20}, small(), kernel};
    disk.start();
    auto waiting = std::async(std::launch::async, [&] { disk.wait(); });
    ASSERT_TRUE(somebody_waits());
    disk.stop();
    waiting.get();
    EXPECT_EQ(disk.state(), ublk::device_state::idle);
}

TEST_F(device_test, wait_stops_the_device_when_its_token_fires) {
    device<memory> disk{memory{1u << 20}, small(), kernel};
    disk.start();
    std::stop_source source;
    auto waiting = std::async(std::launch::async, [&] { disk.wait(source.get_token()); });
    ASSERT_TRUE(somebody_waits());
    source.request_stop();
    waiting.get();
    EXPECT_EQ(disk.state(), ublk::device_state::idle);
    EXPECT_FALSE(kernel.driver->exists);
}

TEST_F(device_test, wait_with_a_token_that_has_fired_stops_at_once) {
    device<memory> disk{memory{1u << 20}, small(), kernel};
    disk.start();
    std::stop_source source;
    source.request_stop();
    disk.wait(source.get_token());
    EXPECT_FALSE(kernel.driver->exists);
}

// The waiting thread may come to stop() only when the next session runs already.
TEST_F(device_test, a_wait_for_one_session_does_not_stop_the_next) {
    device<memory> disk{memory{1u << 20}, small(), kernel};
    for (int i = 0; i < 20; ++i) {
        disk.start();
        auto waiting = std::async(std::launch::async, [&] { disk.wait(); });
        ASSERT_TRUE(somebody_waits());
        disk.stop();
        disk.start();
        waiting.get();
        EXPECT_EQ(disk.state(), ublk::device_state::live);
        disk.stop();
    }
}

TEST_F(device_test, two_threads_may_stop_at_once) {
    device<memory> disk{memory{1u << 20}, small(), kernel};
    disk.start();
    auto one = std::async(std::launch::async, [&] { disk.stop(); });
    auto two = std::async(std::launch::async, [&] { disk.stop(); });
    one.get();
    two.get();
    EXPECT_EQ(kernel.times(ctrl::stop_dev), 1u);
    EXPECT_EQ(kernel.times(ctrl::del_dev), 1u);
}

TEST_F(device_test, removal_from_outside_ends_the_wait_and_deletes_the_device) {
    device<memory> disk{memory{1u << 20}, small(), kernel};
    disk.start();
    auto waiting = std::async(std::launch::async, [&] { disk.wait(); });
    ASSERT_TRUE(somebody_waits());
    kernel.stop_from_outside();
    waiting.get();
    EXPECT_EQ(disk.state(), ublk::device_state::idle);
    EXPECT_FALSE(kernel.driver->exists);
}

TEST_F(device_test, a_device_that_somebody_deleted_counts_as_stopped) {
    device<memory> disk{memory{1u << 20}, small(), kernel};
    disk.start();
    kernel.stop_from_outside();
    ASSERT_TRUE(kernel.until([](const auto& s) { return s.open_channels == 0; }));
    EXPECT_EQ(disk.state(), ublk::device_state::failed);
    script(ctrl::stop_dev, manner::refuse, ENODEV);
    script(ctrl::del_dev, manner::refuse, ENODEV);
    disk.stop();
    EXPECT_EQ(disk.state(), ublk::device_state::idle);
}

TEST_F(device_test, a_device_of_somebody_else_with_our_old_id_is_left_alone) {
    device<memory> disk{memory{1u << 20}, small(), kernel};
    disk.start();
    kernel.stop_from_outside();
    ASSERT_TRUE(kernel.until([](const auto& s) { return s.open_channels == 0; }));
    kernel.driver->info.server_flags ^= 1;  // deleted, and its id given to another server
    const std::size_t sent = kernel.driver->log.size();
    disk.stop();
    EXPECT_EQ(disk.state(), ublk::device_state::idle);
    EXPECT_TRUE(kernel.driver->exists);
    for (std::size_t i = sent; i < kernel.driver->log.size(); ++i) {
        EXPECT_EQ(kernel.driver->log[i].op, ctrl::get_dev_info);
    }
}

// ---------------------------------------------------------------- after fork

// A child has no thread that would answer, and no right to end what its parent serves.
TEST_F(device_test, a_forked_child_is_told_that_the_device_is_its_parents) {
    device<memory> disk{memory{1u << 20}, small(), kernel};
    disk.start();
    const std::size_t sent = kernel.driver->log.size();
    EXPECT_EQ(ublk_test::in_child([&] {
                  const auto refused = [](const failure& f) {
                      return f.code == EPERM && f.text.find("forked") != std::string::npos;
                  };
                  return disk.state() != ublk::device_state::of_parent            ? 1
                         : !refused(failure_of([&] { disk.stop(); }))             ? 2
                         : !refused(failure_of([&] { disk.wait(); }))             ? 3
                         : !refused(failure_of([&] { disk.start(); }))            ? 4
                         : disk.path() != "/dev/ublkb7" || disk.info().depth != 4 ? 5
                         : kernel.driver->log.size() != sent                      ? 6
                                                                                  : 0;
              }),
              0);
    EXPECT_EQ(disk.state(), ublk::device_state::live);
    EXPECT_EQ(kernel.serve({0, 0, op(uapi::op::read), 0, 1}), 512);
    disk.stop();
}

TEST_F(device_test, a_forked_childs_destructor_lets_go_at_once) {
    auto disk = std::make_unique<device<memory>>(memory{1u << 20}, small(), kernel);
    disk->start();
    const std::size_t sent = kernel.driver->log.size();
    EXPECT_EQ(ublk_test::in_child([&] {
                  disk.reset();
                  return kernel.driver->log.size() == sent && kernel.driver->exists ? 0 : 1;
              }),
              0);
    EXPECT_EQ(kernel.serve({0, 0, op(uapi::op::read), 0, 1}), 512);
}

TEST_F(device_test, a_device_that_was_only_made_before_the_fork_may_start_in_the_child) {
    device<memory> disk{memory{1u << 20}, small(), kernel};
    EXPECT_EQ(ublk_test::in_child([&] {
                  disk.start();
                  const bool live = disk.state() == ublk::device_state::live;
                  disk.stop();
                  return live ? 0 : 1;
              }),
              0);
}

TEST_F(device_test, a_forked_child_does_not_serve_on_the_threads_of_its_parent) {
    auto set = std::make_unique<ublk::thread_set>(ublk::thread_set_options{.threads = 2});
    EXPECT_EQ(ublk_test::in_child([&] {
                  int code = 0;
                  {
                      ublk::device<memory, ublk::pooled> disk{memory{1u << 20}, *set, small()};
                      code = failure_of([&] { disk.start(); }).code;
                  }
                  set.reset();  // waits for nobody
                  return code == EPERM ? 0 : 1;
              }),
              0);
}

TEST_F(device_test, control_commands_belong_to_a_process_too) {
    ublk::detail::control_commands<fake_kernel> commands{kernel, 10s};
    const std::size_t sent = kernel.driver->log.size();
    EXPECT_EQ(ublk_test::in_child([&] {
                  const int requested = failure_of([&] { (void)commands.get_features(); }).code;
                  const int begun = failure_of([&] { (void)commands.begin_stop(7); }).code;
                  return requested == EPERM && begun == EPERM && kernel.driver->log.size() == sent
                             ? 0
                             : 1;
              }),
              0);
}

// ---------------------------------------------------------------- what is asked and granted

TEST_F(device_test, what_is_asked_reaches_the_driver) {
    ublk::options requested = small();
    requested.id = 42;
    requested.queues = 3;
    requested.depth = 17;
    requested.max_io_bytes = 128u << 10;
    device<memory> disk{memory{1u << 20, {4096, false}}, requested, kernel};
    disk.start();
    EXPECT_EQ(disk.path(), "/dev/ublkb42");
    uapi::dev_info sent;
    std::memcpy(&sent, kernel.driver->log.at(1).payload.data(), sizeof sent);
    EXPECT_EQ(sent.dev_id, 42u);
    EXPECT_EQ(sent.nr_hw_queues, 3u);
    EXPECT_EQ(sent.queue_depth, 17u);
    EXPECT_EQ(sent.max_io_buf_bytes, 128u << 10);
    EXPECT_EQ(sent.flags, 0u);
    EXPECT_EQ(kernel.driver->params.basic.logical_bs_shift, 12u);
    EXPECT_EQ(kernel.driver->params.basic.dev_sectors, 2048u);
    EXPECT_EQ(kernel.driver->params.basic.max_sectors, 256u);
    disk.stop();
}

TEST_F(device_test, one_queue_a_cpu_is_asked_for_by_default) {
    ublk::options requested = small();
    requested.queues = 0;
    device<memory> disk{memory{1u << 20}, requested, kernel};
    disk.start();
    EXPECT_EQ(disk.info().queues, std::min(64u, ublk::detail::online_cpus()));
    disk.stop();
}

TEST_F(device_test, less_than_asked_is_honoured) {
    kernel.driver->queues_max = 1;
    kernel.driver->depth_max = 3;
    kernel.driver->io_bytes_max = 16u << 10;
    kernel.driver->desc_size = 64;
    device<memory> disk{memory{1u << 20}, small(), kernel};
    disk.start();
    EXPECT_EQ(disk.info().queues, 1u);
    EXPECT_EQ(disk.info().threads, 1u);
    EXPECT_EQ(disk.info().depth, 3u);
    EXPECT_EQ(disk.info().max_io_bytes, 16u << 10);
    EXPECT_EQ(disk.info().io_desc_size, 64u);
    EXPECT_EQ(kernel.driver->params.basic.max_sectors, 32u);
    EXPECT_EQ(kernel.serve({0, 2, op(uapi::op::read), 0, 32}), 16 << 10);
    EXPECT_EQ(kernel.serve({0, 2, op(uapi::op::read), 0, 33}), -EIO);
    disk.stop();
}

TEST_F(device_test, a_flag_that_is_not_granted_fails_the_start) {
    kernel.driver->features |= uapi::feature::no_auto_part_scan;
    kernel.driver->dropped_flags = uapi::feature::no_auto_part_scan;
    ublk::options requested = small();
    requested.partition_scan = false;
    device<memory> disk{memory{1u << 20}, requested, kernel};
    const failure f = failure_of([&] { disk.start(); });
    EXPECT_EQ(f.code, EOPNOTSUPP);
    EXPECT_NE(f.text.find("NO_AUTO_PART_SCAN"), std::string::npos) << f.text;
    EXPECT_FALSE(kernel.driver->exists);
}

TEST_F(device_test, larger_descriptors_are_asked_for_where_the_driver_has_them) {
    ublk::options requested = small();
    requested.io_desc_size = 64;
    {
        device<memory> disk{memory{1u << 20}, requested, kernel};
        disk.start();
        EXPECT_EQ(disk.info().io_desc_size, 24u);
        ASSERT_EQ(disk.info().fallbacks.size(), 1u);
        EXPECT_NE(disk.info().fallbacks[0].find("IO_DESC_SIZE"), std::string::npos);
        disk.stop();
    }
    {
        requested.fall_back = false;
        device<memory> disk{memory{1u << 20}, requested, kernel};
        EXPECT_EQ(failure_of([&] { disk.start(); }).code, EOPNOTSUPP);
        EXPECT_FALSE(kernel.driver->exists);
    }
    kernel.driver->features |= uapi::feature::io_desc_size;
    kernel.driver->desc_size = 64;
    device<memory> disk{memory{1u << 20}, requested, kernel};
    disk.start();
    EXPECT_EQ(disk.info().io_desc_size, 64u);
    EXPECT_TRUE(disk.info().fallbacks.empty());
    disk.stop();
}

TEST_F(device_test, a_flag_that_the_driver_does_not_know_is_not_asked_for) {
    ublk::options requested = small();
    requested.partition_scan = false;
    device<memory> disk{memory{1u << 20}, requested, kernel};
    EXPECT_EQ(failure_of([&] { disk.start(); }).code, EOPNOTSUPP);
    EXPECT_EQ(kernel.times(ctrl::add_dev), 0u);
}

TEST_F(device_test, more_tags_than_a_ring_holds_are_refused_for_one_thread) {
    ublk::options requested = small();
    requested.queues = 9;
    requested.depth = 4096;
    requested.max_io_bytes = 4096;
    device<memory, ublk::shared> disk{memory{1u << 20}, requested, kernel};
    EXPECT_EQ(failure_of([&] { disk.start(); }).code, EINVAL);
    EXPECT_FALSE(kernel.driver->exists);
}

TEST_F(device_test, an_old_kernel_is_refused_before_anything_is_opened) {
    kernel.driver->version = {6, 7};
    kernel.driver->control_errno = EACCES;  // whoever opens it finds out
    device<memory> disk{memory{1u << 20}, small(), kernel};
    const failure f = failure_of([&] { disk.start(); });
    EXPECT_EQ(f.code, EOPNOTSUPP);
    EXPECT_NE(f.text.find("6.7"), std::string::npos) << f.text;
    EXPECT_NE(f.text.find("6.8"), std::string::npos) << f.text;
    EXPECT_EQ(disk.state(), ublk::device_state::idle);
}

TEST_F(device_test, bad_options_and_attributes_are_refused_before_anything_is_opened) {
    kernel.driver->control_errno = EACCES;
    ublk::options requested = small();
    requested.depth = 0;
    device<memory> shallow{memory{1u << 20}, requested, kernel};
    EXPECT_EQ(failure_of([&] { shallow.start(); }).command, "checking the options");
    device<memory> empty{memory{0}, small(), kernel};
    EXPECT_EQ(failure_of([&] { empty.start(); }).command, "checking the backend's attributes");
}

// ---------------------------------------------------------------- a start that fails

class device_start_fails : public device_test {
protected:
    // A start that fails leaves nothing behind, and the next one works.
    failure try_start(ublk::options requested = small()) {
        device<memory> disk{memory{1u << 20}, requested, kernel};
        const failure f = failure_of([&] { disk.start(); });
        EXPECT_NE(f.code, 0);
        EXPECT_EQ(disk.state(), ublk::device_state::idle);
        EXPECT_EQ(disk.path(), "");
        expect_nothing_left();
        EXPECT_EQ(kernel.times(ctrl::del_dev),
                  kernel.get([](const auto& s) { return s.total(); }) != 0 ? 1u : 0u);
        EXPECT_FALSE(kernel.driver->exists);
        // Linux 6.12 has crashed where a ring closes upon tags before START_DEV has ended.
        EXPECT_EQ(kernel.driver->closed_upon_tags, 0u);

        forget_script();
        {
            const std::lock_guard lock{kernel.driver->mutex};
            kernel.driver->control_errno = kernel.driver->open_errno = 0;
            kernel.driver->map_errno = kernel.driver->refuse_fetch = 0;
            kernel.driver->map_last_errno = 0;
        }
        disk.start();
        EXPECT_EQ(kernel.serve({1, 3, op(uapi::op::read), 0, 1}), 512);
        disk.stop();
        return f;
    }
};

TEST_F(device_start_fails, where_the_control_node_cannot_be_opened) {
    kernel.driver->control_errno = ENOENT;
    EXPECT_EQ(try_start().code, ENOENT);
}

struct refused_command {
    std::uint32_t op;
    int code;
};

class device_start_refused : public device_start_fails,
                             public ::testing::WithParamInterface<refused_command> {};

TEST_P(device_start_refused, and_the_error_says_by_what) {
    const auto [op_code, code] = GetParam();
    script(op_code, manner::refuse, code);
    const failure f = try_start();
    EXPECT_EQ(f.code, code);
    EXPECT_EQ(f.command, ublk::detail::command_name(op_code));
    EXPECT_NE(f.text.find("Likely cause"), std::string::npos) << f.text;
    EXPECT_NE(f.text.find("Remedy"), std::string::npos) << f.text;
}

INSTANTIATE_TEST_SUITE_P(every_command, device_start_refused,
                         ::testing::Values(refused_command{ctrl::get_features, EOPNOTSUPP},
                                           refused_command{ctrl::add_dev, EEXIST},
                                           refused_command{ctrl::add_dev, EPERM},
                                           refused_command{ctrl::set_params, EINVAL},
                                           refused_command{ctrl::get_queue_affinity, ENODEV},
                                           refused_command{ctrl::start_dev, EINVAL},
                                           refused_command{ctrl::start_dev, EBUSY}),
                         [](const auto& each) {
                             return std::string{ublk::detail::command_name(each.param.op)} + "_" +
                                    std::to_string(each.param.code);
                         });

class device_start_silent : public device_start_fails,
                            public ::testing::WithParamInterface<std::uint32_t> {};

TEST_P(device_start_silent, and_ends_within_the_deadline) {
    script(GetParam(), manner::silent);
    const auto begun = std::chrono::steady_clock::now();
    device<memory> disk{memory{1u << 20}, hasty(), kernel};
    const failure f = failure_of([&] { disk.start(); });
    EXPECT_GE(std::chrono::steady_clock::now() - begun, hasty().command_deadline);
    EXPECT_LE(kernel.driver->limits[GetParam()], hasty().command_deadline);
    EXPECT_EQ(kernel.times(GetParam()), 1u);
    EXPECT_EQ(f.code, ETIMEDOUT);
    EXPECT_EQ(f.command, ublk::detail::command_name(GetParam()));
    EXPECT_FALSE(kernel.driver->exists);
    expect_nothing_left();
}

INSTANTIATE_TEST_SUITE_P(every_command, device_start_silent,
                         ::testing::Values(ctrl::get_features, ctrl::add_dev, ctrl::set_params,
                                           ctrl::get_queue_affinity, ctrl::start_dev),
                         [](const auto& each) {
                             return std::string{ublk::detail::command_name(each.param)};
                         });

// The driver carries it out when nobody waits for it any more.
TEST_F(device_test, an_add_that_is_answered_too_late_leaves_no_device) {
    script(ctrl::add_dev, manner::tardy);
    device<memory> disk{memory{1u << 20}, hasty(), kernel};
    EXPECT_EQ(failure_of([&] { disk.start(); }).code, ETIMEDOUT);
    EXPECT_NE(kernel.get([](const auto& s) { return s.total(); }), 0u) << "it was added";
    EXPECT_FALSE(kernel.driver->exists);
    EXPECT_EQ(kernel.times(ctrl::del_dev), 1u);
    forget_script();
    disk.start();
    disk.stop();
}

TEST_F(device_start_fails, where_the_channel_cannot_be_opened) {
    kernel.driver->open_errno = EBUSY;
    const failure f = try_start();
    EXPECT_EQ(f.code, EBUSY);
    EXPECT_EQ(f.command, "opening /dev/ublkc7");
}

TEST_F(device_start_fails, where_the_descriptors_cannot_be_mapped) {
    kernel.driver->map_errno = EPERM;
    EXPECT_EQ(try_start().code, EPERM);
}

TEST_F(device_start_fails, where_a_fetch_is_refused) {
    kernel.driver->refuse_fetch = EINVAL;
    const failure f = try_start();
    EXPECT_EQ(f.code, EINVAL);
    EXPECT_EQ(f.command, "FETCH_REQ");
}

// The others' tags are with the driver by then.
TEST_F(device_start_fails, where_the_last_thread_has_no_descriptors) {
    kernel.driver->map_last_errno = EPERM;
    EXPECT_EQ(try_start().code, EPERM);
}

// Many threads that fail at once, while others are still being started.
TEST_F(device_start_fails, where_every_thread_fails_at_once) {
    for (int i = 0; i < 10; ++i) {
        kernel.driver->map_errno = EPERM;
        ublk::options requested = small();
        requested.queues = 32;
        device<memory> disk{memory{1u << 20}, requested, kernel};
        EXPECT_EQ(failure_of([&] { disk.start(); }).code, EPERM);
        expect_nothing_left();
    }
}

// The device may become ready at the last moment: an answer is an answer.
TEST_F(device_test, a_start_that_is_answered_after_its_deadline_counts) {
    script(ctrl::start_dev, manner::late);
    device<memory> disk{memory{1u << 20}, hasty(), kernel};
    disk.start();
    EXPECT_EQ(disk.state(), ublk::device_state::live);
    disk.stop();
}

// ---------------------------------------------------------------- a stop that fails

TEST_F(device_test, a_stop_that_the_driver_refuses_still_ends_the_threads) {
    script(ctrl::stop_dev, manner::refuse, EPERM);
    device<memory> disk{memory{1u << 20}, hasty(), kernel};
    disk.start();
    const failure f = failure_of([&] { disk.stop(); });
    EXPECT_EQ(f.code, EPERM);
    EXPECT_EQ(f.command, "STOP_DEV");
    EXPECT_EQ(disk.state(), ublk::device_state::idle);
    EXPECT_FALSE(kernel.driver->exists);
}

TEST_F(device_test, a_stop_that_is_not_answered_ends_the_threads_at_its_deadline) {
    script(ctrl::stop_dev, manner::deaf);
    device<memory> disk{memory{1u << 20}, hasty(), kernel};
    disk.start();
    EXPECT_EQ(failure_of([&] { disk.stop(); }).code, ETIMEDOUT);
    EXPECT_EQ(disk.state(), ublk::device_state::idle);
    EXPECT_FALSE(kernel.driver->exists);
}

TEST_F(device_test, a_stop_that_is_answered_without_aborting_the_tags_ends_the_threads) {
    script(ctrl::stop_dev, manner::refuse, 0);  // "done", and nothing was
    device<memory> disk{memory{1u << 20}, hasty(), kernel};
    disk.start();
    disk.stop();
    EXPECT_FALSE(kernel.driver->exists);
}

// DEL_DEV waits for clients that have the removed disk open, as long as they like.
TEST_F(device_test, a_client_that_keeps_the_removed_disk_open_is_no_failure) {
    script(ctrl::del_dev, manner::silent);
    device<memory> disk{memory{1u << 20}, hasty(), kernel};
    disk.start();
    disk.stop();
    EXPECT_EQ(disk.state(), ublk::device_state::idle);
}

TEST_F(device_test, a_device_that_cannot_be_deleted_is_reported) {
    for (const auto& [given, code] :
         {std::pair{manner::deaf, ETIMEDOUT}, std::pair{manner::refuse, EPERM}}) {
        script(ctrl::del_dev, given, code);
        device<memory> disk{memory{1u << 20}, hasty(), kernel};
        disk.start();
        const failure f = failure_of([&] { disk.stop(); });
        EXPECT_EQ(f.code, code);
        EXPECT_EQ(f.command, "DEL_DEV");
        EXPECT_EQ(disk.state(), ublk::device_state::idle);
        kernel.driver->exists = false;
    }
}

// ---------------------------------------------------------------- threads that fail

TEST_F(device_test, a_refused_commit_fails_the_device_and_wait_says_so) {
    device<memory> disk{memory{1u << 20}, small(), kernel};
    disk.start();
    {
        const std::lock_guard lock{kernel.driver->mutex};
        kernel.driver->refuse_commit = EBUSY;
    }
    EXPECT_EQ(kernel.serve({0, 0, op(uapi::op::read), 0, 1}), -EIO);  // not lost, but failed
    ASSERT_TRUE(kernel.until([](const auto& s) { return s.open_channels == 0; }));
    EXPECT_TRUE(eventually([&] { return disk.state() == ublk::device_state::failed; }));
    const failure f = failure_of([&] { disk.wait(); });
    EXPECT_EQ(f.code, EBUSY);
    EXPECT_EQ(f.command, "serving");
    EXPECT_EQ(disk.state(), ublk::device_state::idle);
    disk.start();
    EXPECT_EQ(kernel.serve({0, 0, op(uapi::op::read), 0, 1}), 512);
    disk.stop();
}

TEST_F(device_test, a_ring_that_fails_ends_a_wait_that_is_under_way) {
    device<memory> disk{memory{1u << 20}, small(), kernel};
    disk.start();
    auto waiting = std::async(std::launch::async, [&] { return failure_of([&] { disk.wait(); }); });
    {
        const std::lock_guard lock{kernel.driver->mutex};
        kernel.driver->wait_codes.push_back(-EBADF);
    }
    (void)kernel.serve({1, 1, op(uapi::op::read), 0, 1});
    EXPECT_EQ(waiting.get().code, EBADF);
    EXPECT_EQ(disk.state(), ublk::device_state::idle);
}

/// Hands its read to whoever has the ticket; after that its ring fails.
struct handing {
    std::shared_ptr<std::promise<ublk::completion_handle>> ticket;
    fake_kernel kernel;
    std::uint64_t size() const { return 1u << 20; }
    ublk::task read(ublk::io& with, const ublk::request&, std::span<std::byte>) {
        const auto give = [this](ublk::completion_handle t) {
            const std::lock_guard lock{kernel.driver->mutex};
            kernel.driver->wait_codes = {-EBADF, -EBADF};
            ticket->set_value(std::move(t));
        };
        co_return co_await with.offload(give);
    }
    ublk::result write(const ublk::request&, std::span<const std::byte>) { return ublk::ok; }
};

// The thread may still copy bytes by the number of /dev/ublkcN, which another file must not get.
TEST_F(device_test, a_users_thread_that_is_late_meets_no_other_file) {
    const auto ticket = std::make_shared<std::promise<ublk::completion_handle>>();
    auto given = ticket->get_future();
    {
        ublk::options requested = small();
        requested.queues = 1;
        device<handing> disk{handing{ticket, kernel}, requested, kernel};
        disk.start();
        kernel.post({{0, 0, op(uapi::op::read), 0, 1}});
        (void)failure_of([&] { disk.wait(); });
    }
    EXPECT_EQ(kernel.driver->open_channels, 0u);
    EXPECT_EQ(kernel.driver->kept_numbers, 1u);
    given.get().answer(ublk::ok);
}

TEST_F(device_test, without_late_threads_the_number_is_given_back) {
    device<memory> disk{memory{1u << 20}, small(), kernel};
    disk.start();
    disk.stop();
    EXPECT_EQ(kernel.driver->kept_numbers, 0u);
}

TEST_F(device_test, passing_errors_of_a_ring_do_not_disturb) {
    device<memory> disk{memory{1u << 20}, small(), kernel};
    disk.start();
    {
        const std::lock_guard lock{kernel.driver->mutex};
        kernel.driver->wait_codes = {-EINTR, -EAGAIN, -EBUSY};
    }
    for (unsigned i = 0; i < 5; ++i) {
        EXPECT_EQ(kernel.serve({0, 0, op(uapi::op::read), 0, 1}), 512);
    }
    disk.stop();
}

// ---------------------------------------------------------------- backends that misbehave

struct thrower {
    std::uint64_t size() const { return 1u << 20; }
    ublk::result read(const ublk::request&, std::span<std::byte>) {
        throw std::runtime_error{"no"};
    }
    ublk::result write(const ublk::request&, std::span<const std::byte>) { throw 1; }
};

TEST_F(device_test, a_backend_that_throws_answers_eio) {
    device<thrower> disk{thrower{}, small(), kernel};
    disk.start();
    EXPECT_EQ(kernel.serve({0, 0, op(uapi::op::read), 0, 1}), -EIO);
    EXPECT_EQ(kernel.serve({1, 0, op(uapi::op::write), 0, 1}), -EIO);
    EXPECT_EQ(kernel.serve({0, 0, op(uapi::op::flush), 0, 0}), 0);
    disk.stop();
}

/// Serves with a backend while `use` goes on; what options::on_event is told meanwhile, apart from
/// the start.
template <class Backend, class Use>
std::vector<std::string> told_of(const fake_kernel& kernel, ublk::options requested, Use use) {
    requested.on_event = listener::log;
    device<Backend> disk{Backend{}, requested, kernel};
    disk.start();
    (void)listener::take();
    use();
    disk.stop();  // which waits for what is to be told
    return listener::take();
}

TEST_F(device_test, events_are_kept_without_a_hook) {
    device<thrower> disk{thrower{}, small(), kernel};
    EXPECT_TRUE(disk.events().empty());
    disk.start();
    EXPECT_EQ(kernel.serve({1, 2, op(uapi::op::read), 8, 3}), -EIO);
    const std::uint32_t id = disk.id();
    disk.stop();  // which waits for what is to be told
    const std::vector<ublk::event> events = disk.events();
    ASSERT_GE(events.size(), 2u);
    EXPECT_EQ(events.front().type, ublk::event::kind::setup);
    EXPECT_EQ(events.front().message,
              "data path copy (the backend has functions for no better one)");
    EXPECT_EQ(events.back().type, ublk::event::kind::exception);
    EXPECT_EQ(events.back().device, id);
}

struct immovable {
    explicit immovable(std::uint64_t bytes) : bytes_{bytes} {}
    immovable(const immovable&) = delete;
    immovable& operator=(const immovable&) = delete;
    std::uint64_t size() const noexcept { return bytes_; }
    ublk::result read(const ublk::request&, std::span<std::byte>) noexcept { return ublk::ok; }
    ublk::result write(const ublk::request&, std::span<const std::byte>) noexcept {
        return ublk::ok;
    }

private:
    std::uint64_t bytes_;
};

TEST_F(device_test, a_backend_that_cannot_be_moved_is_made_in_place) {
    const ublk::device<immovable> disk{std::in_place, ublk::options{.queues = 2}, 1u << 20};
    EXPECT_EQ(disk.backend().size(), 1u << 20);
    EXPECT_EQ(disk.id(), ublk::no_device_id);
}

TEST_F(device_test, what_a_backend_throws_is_told_with_its_request) {
    std::uint32_t device_id = 0;
    const std::vector<std::string> told = told_of<thrower>(kernel, small(), [&] {
        device_id = kernel.driver->info.dev_id;
        EXPECT_EQ(kernel.serve({1, 2, op(uapi::op::read), 8, 3}), -EIO);
        EXPECT_EQ(kernel.serve({0, 1, op(uapi::op::write), 1, 1}), -EIO);
    });
    const std::string id = "ublk: device " + std::to_string(device_id) + ": ";
    EXPECT_EQ(count_of(told, id +
                                 "READ of 1536 bytes at 4096 (queue 1, tag 2) failed with EIO: the "
                                 "backend threw: no"),
              1u)
        << ::testing::PrintToString(told);
    EXPECT_EQ(count_of(told, id + "WRITE of 512 bytes at 512 (queue 0, tag 1) failed with EIO: the "
                                  "backend threw: an exception that is no std::exception"),
              1u)
        << ::testing::PrintToString(told);
}

TEST_F(device_test, of_many_exceptions_some_are_told_and_the_others_counted) {
    const std::vector<std::string> told = told_of<thrower>(kernel, small(), [&] {
        for (int i = 0; i < 1000; ++i) {
            ASSERT_EQ(kernel.serve({0, 0, op(uapi::op::read), 0, 1}), -EIO);
        }
    });
    const std::size_t one_by_one = count_of(told, "the backend threw: no");
    EXPECT_GE(one_by_one, 8u);
    EXPECT_LE(one_by_one, 64u);
    std::size_t others = 0;
    for (const std::string& each : told) {
        const std::size_t at = each.find(" more requests failed");
        others += at == each.npos ? 0 : std::stoul(each.substr(each.rfind(' ', at - 1)));
    }
    EXPECT_EQ(one_by_one + others, 1000u) << ::testing::PrintToString(told);
}

// Coroutines whose frames take more than they have.
struct sprawling {
    static constexpr std::size_t task_bytes = 512;
    static constexpr unsigned operations_in_flight = 1;
    std::uint64_t size() const { return 1u << 20; }
    ublk::task read(ublk::io& with, const ublk::request& r, std::span<std::byte>) {
        volatile std::byte much[4096];
        much[0] = std::byte{};
        const int slept = co_await with.sleep(1us);
        much[static_cast<std::size_t>(r.length()) % sizeof much] = std::byte{};
        co_return slept == 0 ? ublk::ok : ublk::result::failure(slept);
    }
    ublk::result write(const ublk::request&, std::span<const std::byte>) { return ublk::ok; }
};

TEST_F(device_test, frames_that_outgrow_their_memory_fail_their_request_and_say_so_once) {
    const std::vector<std::string> told = told_of<sprawling>(kernel, small(), [&] {
        for (int i = 0; i < 3; ++i) {
            EXPECT_EQ(kernel.serve({0, 0, op(uapi::op::read), 0, 1}), -EIO);
            EXPECT_EQ(kernel.serve({0, 0, op(uapi::op::write), 0, 1}), 512);
        }
    });
    ASSERT_EQ(count_of(told, "failed with EIO"), 1u) << ::testing::PrintToString(told);
    const std::string& outcome = told.back();
    const std::size_t at = outcome.find("coroutines take ");
    ASSERT_NE(at, outcome.npos) << outcome;
    EXPECT_GT(std::stoul(outcome.substr(at + std::strlen("coroutines take "))), 4096u) << outcome;
    const std::size_t remedy = outcome.find("static constexpr std::size_t task_bytes = ");
    ASSERT_NE(remedy, outcome.npos) << outcome;
    EXPECT_EQ(std::stoul(outcome.substr(outcome.rfind('=') + 1)) % 256, 0u) << outcome;
}

#if !defined(__clang__) && __GNUC__ == 12
struct never_running {
    static constexpr unsigned operations_in_flight = 1;
    std::uint64_t size() const { return 1u << 20; }
    ublk::task read(ublk::io& with, const ublk::request&, std::span<std::byte>) {
        if (co_await with.sleep(1us) == 0) {
            co_return ublk::ok;
        }
        co_return std::errc::no_link;
    }
    ublk::result write(const ublk::request&, std::span<const std::byte>) { return ublk::ok; }
};

TEST_F(device_test, a_coroutine_that_never_runs_is_named_with_a_remedy) {
    const std::vector<std::string> told = told_of<never_running>(kernel, small(), [&] {
        for (int i = 0; i < 100; ++i) {
            EXPECT_EQ(kernel.serve({1, 0, op(uapi::op::read), 16, 1}), -EIO);
        }
        EXPECT_EQ(kernel.serve({0, 0, op(uapi::op::write), 0, 1}), 512);
    });
    EXPECT_EQ(count_of(told, "READ of 512 bytes at 8192 (queue 1, tag 0) failed with EIO: a "
                             "coroutine of the backend never ran, which g++ 12 makes of"),
              1u)
        << ::testing::PrintToString(told);
}
#endif

struct sizeless : thrower {
    std::uint64_t size() const { throw std::runtime_error{"no size"}; }
};

TEST_F(device_test, a_backend_whose_size_throws_fails_the_start) {
    device<sizeless> disk{sizeless{}, small(), kernel};
    EXPECT_THROW(disk.start(), std::runtime_error);
    EXPECT_EQ(disk.state(), ublk::device_state::idle);
}

// Calls back what the test puts into it, from the queue thread.
struct caller {
    std::function<void()>* call;
    std::uint64_t size() const noexcept { return 1u << 20; }
    ublk::result read(const ublk::request&, std::span<std::byte>) noexcept {
        (*call)();
        return ublk::ok;
    }
    static constexpr bool read_only = true;
};

TEST_F(device_test, start_stop_and_wait_are_refused_on_a_queue_thread) {
    std::function<void()> call;
    device<caller> disk{caller{&call}, small(), kernel};
    std::vector<int> codes;
    call = [&] {
        codes = {failure_of([&] { disk.stop(); }).code, failure_of([&] { disk.wait(); }).code,
                 failure_of([&] { disk.start(); }).code};
    };
    disk.start();
    EXPECT_EQ(kernel.serve({0, 0, op(uapi::op::read), 0, 1}), 512);
    EXPECT_EQ(codes, (std::vector{EDEADLK, EDEADLK, EDEADLK}));
    EXPECT_EQ(disk.state(), ublk::device_state::live);
    disk.stop();
}

// START_DEV reads the partition table through the backend while start() holds its lock.
TEST_F(device_test, stop_is_refused_on_a_queue_thread_during_the_start_too) {
    kernel.driver->scan = true;
    std::function<void()> call;
    device<caller> disk{caller{&call}, small(), kernel};
    std::atomic<int> code = 0;
    call = [&] { code = failure_of([&] { disk.stop(); }).code; };
    disk.start();
    EXPECT_EQ(code, EDEADLK);
    disk.stop();
}

TEST_F(device_test, a_backend_may_stop_another_device) {
    fake_kernel other_kernel;
    device<memory> other{memory{1u << 20}, small(), other_kernel};
    other.start();
    std::function<void()> call = [&] { other.stop(); };
    device<caller> disk{caller{&call}, small(), kernel};
    disk.start();
    EXPECT_EQ(kernel.serve({0, 0, op(uapi::op::read), 0, 1}), 512);
    EXPECT_EQ(other.state(), ublk::device_state::idle);
    disk.stop();
}

// Does not return before the test opens the gate.
struct gate {
    std::promise<void> entered{};
    std::promise<void> opened{};
    std::shared_future<void> open{opened.get_future()};
};

struct sleeper {
    std::shared_ptr<gate> at;
    std::uint64_t size() const noexcept { return 1u << 20; }
    ublk::result read(const ublk::request& r, std::span<std::byte>) noexcept {
        if (r.offset() == 0) {
            at->entered.set_value();
            const ublk_test::pause idle;
            at->open.wait();
        }
        return ublk::ok;
    }
    static constexpr bool read_only = true;
};

TEST_F(device_test, a_stop_waits_for_a_slow_request) {
    const auto door = std::make_shared<gate>();
    device<sleeper> disk{sleeper{door}, small(), kernel};
    disk.start();
    kernel.post({{0, 0, op(uapi::op::read), 0, 1}});
    door->entered.get_future().wait();
    auto stopping = std::async(std::launch::async, [&] { disk.stop(); });
    ASSERT_TRUE(kernel.until([](const auto& s) { return s.log.back().op == ctrl::stop_dev; }));
    EXPECT_EQ(kernel.serve({1, 0, op(uapi::op::read), 8, 1}), 512);  // write-back still works
    EXPECT_EQ(stopping.wait_for(0s), std::future_status::timeout);
    EXPECT_EQ(disk.state(), ublk::device_state::stopping);
    door->opened.set_value();
    stopping.get();
    EXPECT_EQ(kernel.answer(0, 0), 512);
}

TEST_F(device_test, a_backend_that_never_returns_is_left_behind_and_cannot_hurt) {
    const auto door = std::make_shared<gate>();
    {
        device<sleeper> disk{sleeper{door}, hasty(), kernel};
        disk.start();
        kernel.post({{0, 0, op(uapi::op::read), 0, 1}});
        door->entered.get_future().wait();
        const failure f = failure_of([&] { disk.stop(); });
        EXPECT_EQ(f.code, ETIMEDOUT) << f.text;
        EXPECT_LE(kernel.driver->limits[ctrl::stop_dev], hasty().stop_deadline);
        EXPECT_EQ(disk.state(), ublk::device_state::idle);
        // DEL_DEV would wait for the request with the driver's global lock in its hands.
        EXPECT_EQ(kernel.times(ctrl::del_dev), 0u);
        EXPECT_TRUE(threads_come_down_to(threads_before + 1));
    }
    door->opened.set_value();  // the device is gone, and its thread comes back
    ASSERT_TRUE(kernel.until([](const auto& s) { return s.open_channels == 0; }));
}

TEST_F(device_test, a_start_whose_partition_scan_never_ends_leaves_its_thread_behind) {
    kernel.driver->scan = true;
    const auto door = std::make_shared<gate>();
    {
        device<sleeper> disk{sleeper{door}, hasty(), kernel};
        const failure f = failure_of([&] { disk.start(); });
        EXPECT_EQ(f.code, ETIMEDOUT);
        EXPECT_EQ(f.command, "START_DEV");
        EXPECT_EQ(disk.state(), ublk::device_state::idle);
    }
    door->opened.set_value();
    ASSERT_TRUE(kernel.until([](const auto& s) { return s.open_channels == 0; }));
}

}  // namespace
}  // namespace device_test
