// SPDX-License-Identifier: MIT

// Which threads serve what, how they wait, where they run, and who submits for them.

#include "client.hpp"
#include "fio.hpp"
#include "shell.hpp"

#include <ublk/backends/file.hpp>
#include <ublk/backends/memory.hpp>
#include <ublk/ublk.hpp>

#include <gtest/gtest.h>

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace policies_test {
namespace {

namespace places = ublk::places;
namespace waits = ublk::waits;
using namespace std::chrono_literals;
using ublk::data_path;
using ublk_test::succeeded;

constexpr std::uint64_t disk_size = std::uint64_t{16} << 20;  // what a RAM disk of brd's has

[[nodiscard]] bool driver_has(std::uint64_t feature) {
    return (ublk_test::open_control().get_features() & feature) == feature;
}

/// On which CPUs that thread of this process may run; 0: the calling one.
[[nodiscard]] std::set<std::size_t> cpus_of(pid_t thread) {
    std::set<std::size_t> all;
    ::cpu_set_t set;
    CPU_ZERO(&set);
    (void)::sched_getaffinity(thread, sizeof set, &set);
    for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (CPU_ISSET(cpu, &set)) {
            all.insert(cpu);
        }
    }
    return all;
}

/// A RAM disk that knows who called it, and where these threads run.
class witness {
public:
    [[nodiscard]] std::uint64_t size() const noexcept { return store_.size(); }
    ublk::result read(const ublk::request& r, std::span<std::byte> out) {
        note();
        return store_.read(r, out);
    }
    ublk::result write(const ublk::request& r, std::span<const std::byte> in) {
        note();
        return store_.write(r, in);
    }

    [[nodiscard]] std::map<pid_t, std::set<std::size_t>> threads() const {
        const std::lock_guard lock{mutex_};
        return threads_;
    }
    /// SCHED_OTHER and so on, of these threads.
    [[nodiscard]] std::set<int> schedules() const {
        const std::lock_guard lock{mutex_};
        return schedules_;
    }

private:
    void note() {
        const std::lock_guard lock{mutex_};
        const pid_t mine = ::gettid();
        if (!threads_.contains(mine)) {
            threads_[mine] = cpus_of(0);
            schedules_.insert(::sched_getscheduler(0));
        }
    }

    ublk::backends::memory store_{disk_size};
    mutable std::mutex mutex_;
    std::map<pid_t, std::set<std::size_t>> threads_;
    std::set<int> schedules_;
};

std::string outcome;

ublk::options asking(unsigned queues, unsigned threads = 0) {
    ublk::options requested = ublk_test::patient();
    requested.queues = queues;
    requested.depth = 30;  // not divided by the threads without a rest
    requested.threads = threads;
    requested.on_event = [](const ublk::event& e) { outcome += to_string(e) + "\n"; };
    return requested;
}

void expect_fio_verifies(const std::string& path) {
    const ublk_test::fio_run done = ublk_test::fio(ublk_test::both_cpus(path));
    EXPECT_TRUE(succeeded(done.program));
    EXPECT_FALSE(done.jobs.empty());
    for (const ublk_test::job& each : done.jobs) {
        EXPECT_EQ(each.error, 0) << each.name;
        EXPECT_GT(each.read, each.written) << each.name << ": what is written is read back";
    }
}

using policies = ublk_test::on_a_clean_system;

/// Serves fio; the threads that did it.
template <class QueuePolicy, class BatchPolicy = ublk::per_wakeup>
std::map<pid_t, std::set<std::size_t>> serve_fio(const ublk::options& requested,
                                                 ublk::device_info* info = nullptr) {
    outcome.clear();
    const auto store = std::make_shared<witness>();
    ublk::device<witness, QueuePolicy, BatchPolicy> disk{store, requested};
    disk.start();
    if (info != nullptr) {
        *info = disk.info();
    }
    ublk_test::without_scheduler(disk);
    expect_fio_verifies(disk.path());
    disk.stop();
    return store->threads();
}

TEST_F(policies, interleaved_threads_share_one_queue) {
    const bool apart = driver_has(ublk::uapi::feature::per_io_daemon);
    ublk::device_info info;
    const auto threads = serve_fio<ublk::interleaved>(asking(1, 3), &info);
    EXPECT_EQ(info.per_io_daemon, apart);
    EXPECT_EQ(info.threads, apart ? 3u : 1u);
    EXPECT_EQ(threads.size(), apart ? 3u : 1u);
    EXPECT_EQ(outcome.find("each queue has one thread") == std::string::npos, apart) << outcome;
}

TEST_F(policies, interleaved_threads_serve_several_queues) {
    ublk::device_info info;
    const auto threads = serve_fio<ublk::interleaved>(asking(2, 2), &info);
    EXPECT_EQ(info.threads, 2u);
    EXPECT_EQ(threads.size(), 2u);
}

/// By each data path that there is: a RAM disk by those that it has, a file on a block device of
/// the guest's by the others.
template <class QueuePolicy, class BatchPolicy, class... Set>
void serve_fio_by_every_path(const ublk::options& wanted, const Set&... set) {
    const auto serve = [](auto&& disk, data_path path) {
        SCOPED_TRACE(ublk::to_string(path));
        disk.start();
        EXPECT_EQ(disk.info().path, path);
        ublk_test::without_scheduler(disk);
        expect_fio_verifies(disk.path());
        disk.stop();
    };
    ublk::options requested = wanted;
    for (const data_path path : {data_path::copy, data_path::user_copy, data_path::get_data}) {
        requested.path = path;
        using disk = ublk::device<ublk::backends::memory, QueuePolicy, BatchPolicy>;
        serve(disk{ublk::backends::memory{disk_size}, set..., requested}, path);
    }
    for (const data_path path :
         {data_path::fixed_copy, data_path::zero_copy, data_path::auto_buffer}) {
        const std::uint64_t needed = ublk::features_of(path);
        if (needed == 0 || driver_has(needed)) {
            requested.path = path;
            using disk = ublk::device<ublk::backends::file, QueuePolicy, BatchPolicy>;
            serve(disk{ublk::backends::file{"/dev/ram1",
                                            ublk::backends::file_options{.direct = true}},
                       set..., requested},
                  path);
        }
    }
}

// Each of their tags has its own place in the thread's table of buffers.
TEST_F(policies, interleaved_threads_serve_by_every_path) {
    serve_fio_by_every_path<ublk::interleaved, ublk::per_wakeup>(asking(2, 3));
}

TEST_F(policies, threads_of_a_set_serve_by_every_path) {
    serve_fio_by_every_path<ublk::pooled, ublk::per_wakeup>(asking(2),
                                                            ublk::thread_set{{.threads = 2}});
}

TEST_F(policies, threads_that_spin_serve) {
    (void)serve_fio<ublk::with<ublk::shared, waits::spin>>(asking(2));
}

TEST_F(policies, threads_that_spin_and_then_sleep_serve) {
    (void)serve_fio<ublk::with<ublk::per_cpu, waits::spin_then_block>>(asking(2));
}

using tids = std::set<pid_t>;

[[nodiscard]] tids queue_threads() {
    return ublk_test::threads_named("ublk-queue");
}

[[nodiscard]] bool all_sleep(const tids& threads) {
    return std::all_of(threads.begin(), threads.end(),
                       [](pid_t each) { return ublk::test::state_of_thread(each) == 'S'; });
}

/// How often they went to sleep or were made to wait for a CPU.
[[nodiscard]] std::string switches_of(const tids& threads) {
    std::string all;
    for (const pid_t each : threads) {
        const std::string status =
            ublk_test::read_text("/proc/self/task/" + std::to_string(each) + "/status");
        all += status.substr(std::min(status.find("\nvoluntary_ctxt_switches"), status.size()));
    }
    return all;
}

/// Whether they come to sleep for a second without waking up once.
[[nodiscard]] bool come_to_rest(const tids& threads) {
    return !threads.empty() && ublk_test::eventually([&] {
        const std::string before = switches_of(threads);
        std::this_thread::sleep_for(1s);
        return all_sleep(threads) && switches_of(threads) == before;
    });
}

/// Whether they run whenever one looks at them.
[[nodiscard]] bool never_rest(const tids& threads) {
    bool run = !threads.empty();
    for (int i = 0; i < 200 && run; ++i) {
        std::this_thread::sleep_for(1ms);
        run = std::all_of(threads.begin(), threads.end(),
                          [](pid_t each) { return ublk::test::state_of_thread(each) == 'R'; });
    }
    return run;
}

template <class QueuePolicy>
[[nodiscard]] bool when_idle(bool (*look)(const tids&)) {
    ublk::device<witness, QueuePolicy> disk{std::make_shared<witness>(), asking(1)};
    disk.start();
    ublk_test::await_partition_scan(disk.path());
    const bool seen = look(queue_threads());
    disk.stop();
    return seen;
}

TEST_F(policies, only_threads_that_spin_take_a_cpu_when_there_is_nothing_to_do) {
    EXPECT_TRUE(when_idle<ublk::shared>(come_to_rest));
    EXPECT_TRUE((when_idle<ublk::with<ublk::shared, waits::spin_then_block>>(come_to_rest)));
    EXPECT_TRUE((when_idle<ublk::with<ublk::shared, waits::spin>>(never_rest)));
}

TEST_F(policies, threads_run_on_the_listed_cpus) {
    if (ublk::detail::online_cpus() < 2) {
        GTEST_SKIP() << "there is one CPU only";
    }
    ublk::options requested = asking(2);
    requested.cpus = {1};
    const auto threads = serve_fio<ublk::with<ublk::per_cpu, places::listed_cpus>>(requested);
    ASSERT_FALSE(threads.empty());
    for (const auto& [thread, cpus] : threads) {
        EXPECT_EQ(cpus, (std::set<std::size_t>{1})) << "thread " << thread;
    }
}

// As under taskset(1): also threads whose queue carries requests of other CPUs stay there.
TEST_F(policies, threads_run_where_the_user_lets_them) {
    std::map<pid_t, std::set<std::size_t>> threads;
    std::thread{[&threads] {
        ublk::cpu_set first;
        first.insert(std::size_t{0});
        ASSERT_TRUE(ublk::detail::pin_this_thread(first));
        const auto store = std::make_shared<witness>();
        ublk::device<witness> disk{store, asking(2)};
        disk.start();
        for (const int cpu : {0, 1}) {
            ublk_test::client file{disk.path()};
            EXPECT_EQ(file.write(0, ublk_test::pattern(0, 4096, 3), cpu), 0);
        }
        disk.stop();
        threads = store->threads();
    }}.join();
    ASSERT_FALSE(threads.empty());
    for (const auto& [thread, cpus] : threads) {
        EXPECT_EQ(cpus, (std::set<std::size_t>{0})) << "thread " << thread;
    }
}

/// How the threads are scheduled that serve the partition scan of a disk of `Arguments`.
template <class QueuePolicy, class... Arguments>
[[nodiscard]] std::set<int> schedules_of(const Arguments&... arguments) {
    const auto store = std::make_shared<witness>();
    ublk::device<witness, QueuePolicy> disk{store, arguments..., asking(2)};
    disk.start();
    ublk_test::await_partition_scan(disk.path());
    disk.stop();
    return store->schedules();
}

template <ublk::scheduling Treated>
using treated = ublk::with<ublk::per_cpu, places::scheduled_as<places::queue_cpus, Treated>>;

// By default SCHED_BATCH from 7.2 on, which the guests' newest kernel is and 6.12 is not.
TEST_F(policies, threads_are_scheduled_as_their_placement_says) {
    const int by_default = ublk::detail::linux_kernel{}.version() >= ublk::kernel_version{7, 2}
                               ? SCHED_BATCH
                               : SCHED_OTHER;
    const std::set<int> automatic{by_default}, batch{SCHED_BATCH}, other{SCHED_OTHER};
    EXPECT_EQ(schedules_of<ublk::per_cpu>(), automatic);
    EXPECT_EQ(schedules_of<treated<ublk::scheduling::batch>>(), batch);
    EXPECT_EQ(schedules_of<treated<ublk::scheduling::inherited>>(), other);
    EXPECT_EQ(schedules_of<ublk::pooled>(ublk::thread_set{{.threads = 2}}), automatic);
    EXPECT_EQ(schedules_of<ublk::pooled>(
                  ublk::thread_set{{.threads = 2, .scheduled = ublk::scheduling::batch}}),
              batch);
    EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER) << "the caller of start is not changed";
}

TEST_F(policies, threads_keep_what_the_user_has_chosen_for_the_program) {
    std::thread{[] {
        const ::sched_param none{};
        ASSERT_EQ(::sched_setscheduler(0, SCHED_IDLE, &none), 0);
        EXPECT_EQ(schedules_of<ublk::per_cpu>(), (std::set<int>{SCHED_IDLE}));
        EXPECT_EQ(schedules_of<treated<ublk::scheduling::batch>>(), (std::set<int>{SCHED_IDLE}));
    }}.join();
}

/// Takes the second CPU away, or gives it back.
bool second_cpu(bool online) {
    std::ofstream file{"/sys/devices/system/cpu/cpu1/online"};
    file << (online ? '1' : '0') << std::flush;
    return file.good();
}

// The kernel lets a thread run anywhere that wakes up while its only CPU is offline, and leaves it
// at that.
TEST_F(policies, threads_go_back_to_a_cpu_that_was_away) {
    ublk::options requested = asking(1);
    requested.cpus = {1};
    const auto store = std::make_shared<witness>();
    ublk::device<witness, ublk::with<ublk::per_cpu, places::listed_cpus>> disk{store, requested};
    disk.start();
    const auto use = [&] {
        ublk_test::client file{disk.path()};
        EXPECT_EQ(file.write(0, ublk_test::pattern(0, 4096, 3), 0), 0);
    };
    use();
    ASSERT_EQ(store->threads().size(), 1u);
    const auto [thread, before] = *store->threads().begin();
    EXPECT_EQ(before, (std::set<std::size_t>{1}));

    ASSERT_TRUE(second_cpu(false));
    use();
    const std::set<std::size_t> meanwhile = cpus_of(thread);
    ASSERT_TRUE(second_cpu(true));
    EXPECT_EQ(meanwhile, (std::set<std::size_t>{0}));
    EXPECT_EQ(cpus_of(thread), (std::set<std::size_t>{0, 1})) << "the kernel pins it again itself";

    // With its CPU taken, the thread runs on the other one, where it is found.
    std::atomic<bool> found{false};
    std::thread hog{[&found] {
        ublk::cpu_set second;
        second.insert(std::size_t{1});
        EXPECT_TRUE(ublk::detail::pin_this_thread(second));
        while (!found) {
        }
    }};
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds{30};
    while (cpus_of(thread) != std::set<std::size_t>{1} &&
           std::chrono::steady_clock::now() < until) {
        use();
    }
    found = true;
    hog.join();
    EXPECT_EQ(cpus_of(thread), (std::set<std::size_t>{1}));
    disk.stop();
}

TEST_F(policies, threads_run_in_one_domain) {
    ublk::options requested = asking(2);
    requested.cpus = {0};
    const ublk::cpu_set wanted = ublk::detail::neighbours_of(0, ublk::cpu_domain::node);
    const auto threads = serve_fio<ublk::with<ublk::per_cpu, places::one_node>>(requested);
    ASSERT_FALSE(threads.empty());
    for (const auto& [thread, cpus] : threads) {
        for (const std::size_t cpu : cpus) {
            EXPECT_TRUE(wanted.empty() || wanted.contains(cpu)) << "thread " << thread;
        }
    }
}

TEST_F(policies, completions_within_a_delay_go_back) {
    ublk::options requested = asking(2);
    requested.batch_delay = std::chrono::nanoseconds{1};
    (void)serve_fio<ublk::per_cpu, ublk::within>(requested);
    requested.batch_delay = std::chrono::seconds{1};
    (void)serve_fio<ublk::shared, ublk::within>(requested);
}

// The copies to and from the tags' buffers are then made by the kernel's thread.
TEST_F(policies, a_thread_of_the_kernels_submits) {
    ublk::device_info info;
    (void)serve_fio<ublk::per_cpu, ublk::sqpoll>(asking(2), &info);
    EXPECT_NE(info.ring_flags & 2u, 0u) << "IORING_SETUP_SQPOLL";
}

TEST_F(policies, nobody_makes_a_system_call) {
    (void)serve_fio<ublk::with<ublk::shared, waits::spin>, ublk::sqpoll>(asking(2));
}

TEST_F(policies, a_thread_of_the_kernels_wakes_up_again) {
    ublk::options requested = asking(1);
    requested.sqpoll_idle = std::chrono::milliseconds{1};
    ublk::device<witness, ublk::per_cpu, ublk::sqpoll> disk{std::make_shared<witness>(), requested};
    disk.start();
    ublk_test::client file{disk.path()};
    ublk_test::bytes buffer(4096);
    const tids kernels = ublk_test::threads_named("iou-sqp");
    ASSERT_FALSE(kernels.empty());
    for (int i = 0; i < 20; ++i) {
        ASSERT_TRUE(ublk_test::eventually([&] { return all_sleep(kernels); }));
        ASSERT_EQ(file.write(0, buffer), 0);
        ASSERT_EQ(file.read(0, buffer), 0);
    }
    disk.stop();
}

/// By commands and by operations of a backend's, both submitted by the kernel's thread.
TEST_F(policies, a_thread_of_the_kernels_submits_by_every_path) {
    serve_fio_by_every_path<ublk::per_cpu, ublk::sqpoll>(asking(1));
}

// ---------------------------------------------------------------- several devices on one set

using pooled_disk = ublk::device<witness, ublk::pooled>;

TEST_F(policies, many_devices_share_two_threads) {
    constexpr std::size_t devices = 5;
    std::set<pid_t> threads;
    {
        const ublk::thread_set set{{.threads = 2}};
        std::vector<std::unique_ptr<pooled_disk>> disks;
        for (std::size_t i = 0; i < devices; ++i) {
            disks.push_back(
                std::make_unique<pooled_disk>(std::make_shared<witness>(), set, asking(2)));
            disks.back()->start();
            ublk_test::without_scheduler(*disks.back());
        }
        EXPECT_EQ(queue_threads().size(), 2u);
        std::vector<std::thread> clients;
        for (const auto& each : disks) {
            clients.emplace_back([path = each->path()] {
                ublk_test::client client{path};
                ublk_test::bytes there(8192);
                ublk_test::bytes back(8192);
                for (int i = 0; i < 60; ++i) {
                    std::fill(there.begin(), there.end(), std::byte(i));
                    const auto at = static_cast<std::uint64_t>(i) * 8192;
                    ASSERT_EQ(client.write(at, there, i % 2), 0);
                    ASSERT_EQ(client.read(at, back, (i + 1) % 2), 0);
                    ASSERT_TRUE(std::equal(there.begin(), there.end(), back.begin()));
                }
            });
        }
        for (std::thread& each : clients) {
            each.join();
        }
        for (const auto& each : disks) {
            for (const auto& [thread, cpus] : each->backend().threads()) {
                threads.insert(thread);
            }
            each->stop();
        }
    }
    EXPECT_EQ(threads.size(), 2u);
    EXPECT_TRUE(ublk_test::eventually([] { return queue_threads().size() == 0; }));
}

TEST_F(policies, devices_of_a_set_come_and_go_under_load) {
    const ublk::thread_set set{{.threads = 2}};
    pooled_disk busy{std::make_shared<witness>(), set, asking(2)};
    busy.start();
    ublk_test::without_scheduler(busy);
    std::thread client{[&] { expect_fio_verifies(busy.path()); }};
    for (int round = 0; round < 6; ++round) {
        ublk::device<ublk::backends::file, ublk::with<ublk::pooled>, ublk::batch_io> other{
            ublk::backends::file{"/dev/ram1", {.direct = true}}, set, asking(1)};
        other.start();
        ublk_test::client file{other.path()};
        ublk_test::bytes buffer(4096);
        EXPECT_EQ(file.read(0, buffer), 0);
        EXPECT_EQ(file.close(), 0);
        other.stop();
    }
    client.join();
    busy.stop();
    EXPECT_EQ(queue_threads().size(), 2u) << "the set keeps them";
}

TEST_F(policies, a_set_that_spins_serves_and_sleeps_again) {
    ublk::thread_set_options few;
    few.threads = 1;
    few.cpus = {0};
    few.spin = std::chrono::milliseconds{1};
    pooled_disk disk{std::make_shared<witness>(), ublk::thread_set{few}, asking(2)};
    disk.start();
    ublk_test::without_scheduler(disk);
    expect_fio_verifies(disk.path());
    for (const auto& [thread, cpus] : disk.backend().threads()) {
        EXPECT_EQ(cpus, (std::set<std::size_t>{0}));
    }
    EXPECT_TRUE(come_to_rest(queue_threads()));
    disk.stop();
}

TEST_F(policies, a_set_of_too_many_threads_is_refused) {
    ublk::thread_set_options many;
    many.threads = 5000;
    EXPECT_THROW(ublk::thread_set{many}, ublk::error);
}

/// Starts and stops, with clients at work.
template <class QueuePolicy, class BatchPolicy>
void stop_under_load(const ublk::options& requested) {
    for (int round = 0; round < 8; ++round) {
        ublk::device<witness, QueuePolicy, BatchPolicy> disk{std::make_shared<witness>(),
                                                             requested};
        disk.start();
        std::atomic<unsigned> written = 0;
        std::thread client{[path = disk.path(), &written] {
            ublk_test::client file{path};
            ublk_test::bytes buffer(4096);
            while (written < 100'000 && file.write(4096u * (written % 64), buffer) == 0) {
                ++written;
            }
        }};
        EXPECT_TRUE(ublk_test::eventually([&] { return written >= 1; }));
        disk.stop();
        client.join();
    }
}

TEST_F(policies, stop_under_load) {
    stop_under_load<ublk::interleaved, ublk::per_wakeup>(asking(2, 3));
    stop_under_load<ublk::per_cpu, ublk::sqpoll>(asking(2));
    stop_under_load<ublk::with<ublk::shared, waits::spin>, ublk::within>(asking(2));
}

}  // namespace
}  // namespace policies_test
