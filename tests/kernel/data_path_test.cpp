// SPDX-License-Identifier: MIT

// Every way that bytes can travel between a client and a backend, on the real driver: where the
// kernel has it the disk keeps what it is given, from every CPU, and where not the start says why.

#include "client.hpp"
#include "fio.hpp"
#include "shell.hpp"

#include <ublk/backends/fault.hpp>
#include <ublk/backends/file.hpp>
#include <ublk/backends/file_more_paths.hpp>
#include <ublk/backends/memory.hpp>
#include <ublk/backends/null_any_path.hpp>
#include <ublk/backends/stripe.hpp>
#include <ublk/ublk.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <ostream>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace data_path_test {
namespace {

using namespace std::chrono_literals;
using ublk::data_path;
using ublk_test::scratch;
using ublk_test::sh;
using ublk_test::succeeded;
using ublk_test::text;

constexpr std::uint64_t mebibyte = std::uint64_t{1} << 20;
constexpr std::uint64_t disk_size = 16 * mebibyte;  // what a RAM disk of brd's has

// ---------------------------------------------------------------- backends, by name

enum class store { memory, buffered_file, direct_file, stripe, faulty, more_paths };

[[nodiscard]] constexpr const char* name_of(store stored) {
    switch (stored) {
    case store::memory:
        return "memory";
    case store::buffered_file:
        return "buffered_file";
    case store::direct_file:
        return "direct_file";
    case store::stripe:
        return "stripe";
    case store::faulty:
        return "faulty";
    case store::more_paths:
        return "more_paths";
    }
    return "";
}

/// Calls `use` with a shared pointer to that backend.
template <class Use>
void with_backend(store stored, const Use& use) {
    using ublk::backends::file;
    using ublk::backends::file_more_paths;
    const ublk::backends::file_options by_ring{.at_once = false};
    switch (stored) {
    case store::memory:
        use(std::make_shared<ublk::backends::memory>(disk_size));
        break;
    case store::buffered_file: {
        const scratch one{"file", disk_size};
        use(std::make_shared<file>(one.path()));
        break;
    }
    case store::direct_file:  // a block device of the guest's
        use(std::make_shared<file>("/dev/ram1", ublk::backends::file_options{.direct = true}));
        break;
    case store::stripe: {
        const scratch one{"one", disk_size / 2}, other{"other", disk_size / 2};
        std::vector<file> members;
        members.emplace_back(one.path(), by_ring);
        members.emplace_back(other.path(), by_ring);
        use(std::make_shared<ublk::backends::stripe<file>>(16u << 10, std::move(members)));
        break;
    }
    case store::faulty: {  // delays and transfers in two pieces, but no failures
        const scratch one{"faulty", disk_size};
        ublk::fault_plan plan;
        plan.odds.delay = 8;
        plan.odds.split = 3;
        plan.odds.longest = 2ms;
        use(std::make_shared<ublk::backends::fault<file>>(file{one.path(), by_ring}, plan));
        break;
    }
    case store::more_paths: {
        const scratch one{"more_paths", disk_size};
        use(std::make_shared<file_more_paths>(one.path(), by_ring));
        break;
    }
    }
}

[[nodiscard]] std::uint64_t known_features() {
    return ublk_test::open_control().get_features();
}

[[nodiscard]] bool possible(data_path path) {
    return (ublk::features_of(path) & ~known_features()) == 0;
}

ublk::options asking_for(data_path path) {
    ublk::options requested = ublk_test::patient();
    requested.queues = 2;
    requested.depth = 32;
    requested.path = path;
    return requested;
}

// ---------------------------------------------------------------- the matrix

struct cell {
    store where;
    data_path path;
    bool shared;

    friend std::ostream& operator<<(std::ostream& out, const cell& c) {
        return out << name_of(c.where) << "_by_" << ublk::to_string(c.path)
                   << (c.shared ? "_shared" : "_per_cpu");
    }
};

/// Each backend by each path that it has; what one thread for both queues changes is tried where
/// there is most in flight. Under AddressSanitizer, which is slow, the paths are tried once each.
std::vector<cell> matrix() {
    using enum data_path;
    std::vector<cell> all{{store::memory, get_data, false},
                          {store::memory, user_copy, false},
                          {store::memory, thread_copy, false},
                          {store::more_paths, pages, false},
                          {store::more_paths, user_copy, false}};
    for (const data_path path : {copy, fixed_copy, zero_copy, auto_buffer}) {
        all.push_back({store::stripe, path, false});
        if (!ublk_test::with_asan) {
            all.push_back({store::stripe, path, true});
            all.push_back({store::direct_file, path, false});
            all.push_back({store::faulty, path, false});
        }
    }
    if (!ublk_test::with_asan) {
        all.push_back({store::memory, copy, false});
        all.push_back({store::memory, get_data, true});
        all.push_back({store::buffered_file, copy, false});
    }
    return all;
}

class data_paths : public ublk_test::on_a_clean_system, public testing::WithParamInterface<cell> {
protected:
    /// Calls `use(disk)` with a started device of this cell.
    template <class Use>
    void serve(const Use& use) {
        with_backend(GetParam().where, [&](auto backend) {
            using backend_type = typename decltype(backend)::element_type;
            if constexpr (!ublk_test::with_asan) {  // the matrix has none, and it compiles for long
                if (GetParam().shared) {
                    run(
                        ublk::device<backend_type, ublk::shared, ublk::up_to<8>>{
                            backend, asking_for(GetParam().path)},
                        use);
                    return;
                }
            }
            run(ublk::device<backend_type>{backend, asking_for(GetParam().path)}, use);
        });
    }

private:
    template <class Device, class Use>
    static void run(Device&& disk, const Use& use) {
        disk.start();
        EXPECT_EQ(disk.info().path, GetParam().path);
        EXPECT_EQ(disk.info().path_reason, "it was asked for");
        use(disk);
        disk.stop();
    }
};

TEST_P(data_paths, keep_what_fio_writes_from_each_cpu) {
    if (!possible(GetParam().path)) {
        GTEST_SKIP() << "this kernel has no " << ublk::to_string(GetParam().path);
    }
    serve([](auto& disk) {
        ublk_test::without_scheduler(disk);
        const ublk_test::fio_run done = ublk_test::fio(ublk_test::both_cpus(disk.path()));
        EXPECT_TRUE(succeeded(done.program));
        EXPECT_FALSE(done.jobs.empty());
        for (const ublk_test::job& each : done.jobs) {
            EXPECT_EQ(each.error, 0) << each.name;
            EXPECT_GT(each.written, 0u) << each.name;
            EXPECT_GT(each.read, each.written) << each.name << ": what is written is read back";
        }
    });
}

class page_rings : public ublk_test::on_a_clean_system {};

// What the kernel still holds of one transfer is not let go of by the next: there is none.
TEST_F(page_rings, complete_requests_that_come_one_at_a_time) {
    if (!possible(data_path::pages)) {
        GTEST_SKIP() << "this kernel has no pages";
    }
    const scratch one{"alone", disk_size};
    ublk::device<ublk::backends::file_more_paths> disk{
        std::make_shared<ublk::backends::file_more_paths>(one.path()),
        asking_for(data_path::pages)};
    disk.start();
    const ublk_test::fio_run done = ublk_test::fio(
        ublk_test::globals(disk.path(), "psync", 1) +
        ublk_test::section("alone", {{"rw", "randwrite"}, {"bs", "4k"}, {"size", "4m"}}));
    EXPECT_TRUE(succeeded(done.program));
    ASSERT_EQ(done.jobs.size(), 1u);
    EXPECT_EQ(done.jobs[0].error, 0);
    EXPECT_EQ(done.jobs[0].read, 4 * mebibyte) << "what is written is read back";
    disk.stop();
}

class file_systems : public data_paths {};

TEST_P(file_systems, live_on_them) {
    if (!possible(GetParam().path)) {
        GTEST_SKIP() << "this kernel has no " << ublk::to_string(GetParam().path);
    }
    serve([](auto& disk) {
        const std::string script = R"(set -e
d=$1; m=/tmp/ublk-mount; mkdir -p $m
mkfs.ext4 -q -F -E discard $d
mount -t ext4 -o discard $d $m
head -c 3000000 /dev/urandom > $m/large
for i in 1 2 3 4 5 6 7 8; do echo $i > $m/small$i; done
sync; rm $m/small3
(cd $m && sha256sum large small* > sums)
sync; umount $m; echo 3 > /proc/sys/vm/drop_caches
mount -t ext4 $d $m
(cd $m && sha256sum -c sums)
fallocate -p -o 4096 -l 65536 $m/large 2>/dev/null || true
umount $m
e2fsck -f -n $d)";
        EXPECT_TRUE(succeeded(sh("set -- " + disk.path() + "\n" + script)));
    });
}

TEST_P(data_paths, are_refused_where_the_kernel_lacks_them) {
    if (possible(GetParam().path)) {
        GTEST_SKIP() << "this kernel has " << ublk::to_string(GetParam().path);
    }
    const auto before = ublk_test::devices();
    try {
        serve([](auto&) { ADD_FAILURE() << "it started"; });
        ADD_FAILURE() << "nothing was thrown";
    } catch (const ublk::error& refused) {
        EXPECT_EQ(refused.errno_value(), EOPNOTSUPP);
        const std::string reason{refused.cause()};
        EXPECT_NE(reason.find("which came with Linux 6.1"), std::string::npos) << reason;
    }
    EXPECT_EQ(ublk_test::devices(), before);
}

INSTANTIATE_TEST_SUITE_P(all, data_paths, testing::ValuesIn(matrix()),
                         testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(all, file_systems,
                         testing::Values(cell{store::memory, data_path::get_data, false},
                                         cell{store::memory, data_path::user_copy, false},
                                         cell{store::memory, data_path::thread_copy, false},
                                         cell{store::more_paths, data_path::pages, false},
                                         cell{store::buffered_file, data_path::copy, false},
                                         cell{store::stripe, data_path::fixed_copy, false},
                                         cell{store::faulty, data_path::zero_copy, false},
                                         cell{store::direct_file, data_path::auto_buffer, false}),
                         testing::PrintToStringParamName());

// ---------------------------------------------------------------- what is taken unasked

using data_path_choice = ublk_test::on_a_clean_system;

TEST_F(data_path_choice, is_the_best_that_the_kernel_has) {
    const scratch one{"choice", disk_size};
    ublk::options requested = ublk_test::patient();
    requested.depth = 8;
    using ublk::backends::file;
    ublk::device<file> disk{
        std::make_shared<file>(one.path(), ublk::backends::file_options{.at_once = false}),
        requested};
    disk.start();
    const bool registers = possible(data_path::auto_buffer);
    EXPECT_EQ(disk.info().path, registers ? data_path::auto_buffer : data_path::fixed_copy);
    EXPECT_EQ(disk.info().path_reason == "no other copies less", registers)
        << disk.info().path_reason;
    disk.stop();
}

TEST_F(data_path_choice, follows_the_preference_of_the_backend) {
    const scratch one{"preference", disk_size};
    using ublk::backends::file;
    ublk::options requested = ublk_test::patient();
    requested.depth = 8;
    ublk::device<file> disk{std::make_shared<file>(one.path()), requested};
    disk.start();
    EXPECT_EQ(disk.info().path, data_path::copy);
    EXPECT_EQ(disk.info().path_reason, "the backend prefers it");
    disk.stop();
}

TEST_F(data_path_choice, takes_no_memory_for_buffers_that_it_does_not_need) {
    for (const data_path path :
         {data_path::get_data, data_path::user_copy, data_path::thread_copy}) {
        ublk::options requested = asking_for(path);
        requested.depth = 128;
        requested.max_io_bytes = 1u << 20;  // 256 MiB in copy mode
        ublk::device<ublk::backends::memory> disk{ublk::backends::memory{disk_size}, requested};
        const std::size_t before = ublk_test::held().resident_kib;
        disk.start();
        // AddressSanitizer has shadows and quarantines of its own.
        const std::size_t allowed = (ublk_test::with_asan ? 64 : 8) * 1024;
        EXPECT_LT(ublk_test::held().resident_kib, before + allowed) << ublk::to_string(path);
        disk.stop();
    }
}

TEST_F(data_path_choice, is_refused_to_a_backend_that_cannot) {
    ublk::device<ublk::backends::memory> disk{ublk::backends::memory{disk_size},
                                              asking_for(data_path::auto_buffer)};
    try {
        disk.start();
        ADD_FAILURE() << "it started";
    } catch (const ublk::error& refused) {
        EXPECT_NE(std::string{refused.cause()}.find("the backend has no"), std::string::npos)
            << refused.what();
    }
}

TEST_F(data_path_choice, null_reads_as_zeroes_by_every_path) {
    ublk::device<ublk::backends::null_any_path> by_choice{ublk::backends::null_any_path{disk_size},
                                                          ublk_test::patient()};
    by_choice.start();
    EXPECT_EQ(by_choice.info().path, possible(data_path::auto_buffer) ? data_path::auto_buffer
                                     : possible(data_path::get_data)  ? data_path::get_data
                                                                      : data_path::copy);
    by_choice.stop();
    for (const auto& [path, name] : ublk::data_path_names) {
        if (!possible(path)) {
            continue;  // are_refused_where_the_kernel_lacks_them
        }
        ublk::device<ublk::backends::null_any_path> disk{ublk::backends::null_any_path{disk_size},
                                                         asking_for(path)};
        disk.start();
        EXPECT_EQ(disk.info().path, path);
        const ublk::fd client{::open(disk.path().c_str(), O_RDWR | O_DIRECT | O_CLOEXEC)};
        ASSERT_TRUE(client) << disk.path();
        constexpr std::size_t bytes = 64u << 10;
        const ublk::detail::mapping buffer{
            bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, "a client's buffer"};
        for (const off_t offset : {0l, 4096l, static_cast<long>(disk_size - bytes)}) {
            std::memset(buffer.data(), 0xaa, bytes);
            EXPECT_EQ(::pwrite(client.get(), buffer.data(), bytes, offset), ssize_t{bytes}) << name;
            EXPECT_EQ(::pread(client.get(), buffer.data(), bytes, offset), ssize_t{bytes}) << name;
            EXPECT_TRUE(std::all_of(buffer.data(), buffer.data() + bytes, [](std::byte b) {
                return b == std::byte{};
            })) << name;
        }
        disk.stop();
    }
}

// ---------------------------------------------------------------- when registration fails

/// The real kernel, told to register each request in a place that the table has not: it then says
/// so, and leaves the registration to us.
struct misplacing_kernel : ublk::detail::linux_kernel {
    static inline std::atomic<unsigned> registered_by_us = 0;

    struct port : ublk::detail::linux_kernel::port {
        using ublk::detail::linux_kernel::port::port;
        void fetch(ublk::queue_id q, ublk::tag t, ublk::detail::buffer_address at,
                   ublk::detail::user_data e) noexcept {
            ublk::detail::linux_kernel::port::fetch(q, t, misplaced(at), e);
        }
        void commit(ublk::queue_id q, ublk::tag t, int result, ublk::detail::buffer_address at,
                    ublk::detail::user_data e) noexcept {
            ublk::detail::linux_kernel::port::commit(q, t, result, misplaced(at), e);
        }
        void register_buffer(ublk::queue_id q, ublk::tag t, std::uint16_t index) noexcept {
            ++registered_by_us;
            ublk::detail::linux_kernel::port::register_buffer(q, t, index);
        }
        static ublk::detail::buffer_address misplaced(ublk::detail::buffer_address at) noexcept {
            return {at.memory, at.registration | 0xffff};
        }
    };
};

TEST_F(data_path_choice, registers_by_itself_what_the_driver_could_not) {
    if (!possible(data_path::auto_buffer)) {
        GTEST_SKIP() << "this kernel does not register buffers by itself";
    }
    const scratch one{"fallback", disk_size};
    misplacing_kernel::registered_by_us = 0;
    ublk::device<ublk::backends::file, ublk::per_cpu, ublk::per_wakeup, misplacing_kernel> disk{
        std::make_shared<ublk::backends::file>(one.path()), asking_for(data_path::auto_buffer)};
    disk.start();
    ublk_test::without_scheduler(disk);
    EXPECT_TRUE(succeeded(ublk_test::fio(ublk_test::both_cpus(disk.path())).program));
    EXPECT_GT(misplacing_kernel::registered_by_us, 100u);
    disk.stop();
}

}  // namespace
}  // namespace data_path_test
