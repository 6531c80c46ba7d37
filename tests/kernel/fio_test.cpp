// SPDX-License-Identifier: MIT

// fio writes every block with a checksum and a place of its own and reads all of them back: through
// every policy, with every block size, depth and number of queues, from every CPU.

#include "client.hpp"
#include "fio.hpp"
#include "shell.hpp"

#include <ublk/backends/memory.hpp>
#include <ublk/ublk.hpp>

#include <gtest/gtest.h>

#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace fio_test {
namespace {

using namespace std::chrono_literals;
using ublk_test::finished;
using ublk_test::fio;
using ublk_test::fio_run;
using ublk_test::globals;
using ublk_test::job;
using ublk_test::section;
using ublk_test::succeeded;
using ublk_test::text;
using ublk_test::without_scheduler;

constexpr std::uint64_t kibibyte = 1024;
constexpr std::uint64_t mebibyte = 1024 * kibibyte;

// ---------------------------------------------------------------- every pair of values

enum class queue_kind { per_cpu, shared };
enum class batch_kind { each, per_wakeup, up_to_8 };
enum class engine_kind { libaio, io_uring };
enum class workload { randwrite, randrw };

struct setting {
    queue_kind queue;
    batch_kind batch;
    unsigned queues;
    unsigned max_io_kib;
    unsigned depth;  ///< of the device's queues, and of each of fio's jobs
    engine_kind engine;
    workload what;

    [[nodiscard]] constexpr std::array<unsigned, 7> values() const {
        return {
            static_cast<unsigned>(queue),  static_cast<unsigned>(batch), queues, max_io_kib, depth,
            static_cast<unsigned>(engine), static_cast<unsigned>(what)};
    }
    [[nodiscard]] std::string engine_name() const {
        return engine == engine_kind::libaio ? "libaio" : "io_uring";
    }
    [[nodiscard]] std::string workload_name() const {
        return what == workload::randwrite ? "randwrite" : "randrw";
    }
    [[nodiscard]] std::string name() const {
        constexpr const char* batches[] = {"each", "per_wakeup", "up_to_8"};
        return std::string{queue == queue_kind::per_cpu ? "per_cpu_" : "shared_"} +
               batches[static_cast<unsigned>(batch)] + "_" + text(queues) + "_queues_of_" +
               text(depth) + "_up_to_" + text(max_io_kib) + "_KiB_" + engine_name() + "_" +
               workload_name();
    }
    friend std::ostream& operator<<(std::ostream& out, const setting& s) { return out << s.name(); }
};

using qk = queue_kind;
using bk = batch_kind;
using ek = engine_kind;
using wk = workload;
// clang-format off
constexpr std::array settings{
    setting{qk::per_cpu, bk::each, 1, 256, 1, ek::libaio, wk::randrw},
    setting{qk::per_cpu, bk::each, 4, 1024, 8, ek::io_uring, wk::randrw},
    setting{qk::per_cpu, bk::per_wakeup, 1, 64, 64, ek::io_uring, wk::randrw},
    setting{qk::per_cpu, bk::per_wakeup, 2, 64, 1, ek::io_uring, wk::randrw},
    setting{qk::per_cpu, bk::per_wakeup, 4, 1024, 8, ek::libaio, wk::randrw},
    setting{qk::per_cpu, bk::up_to_8, 1, 1024, 128, ek::io_uring, wk::randrw},
    setting{qk::per_cpu, bk::up_to_8, 2, 64, 8, ek::libaio, wk::randwrite},
    setting{qk::per_cpu, bk::up_to_8, 2, 1024, 64, ek::libaio, wk::randwrite},
    setting{qk::per_cpu, bk::up_to_8, 4, 256, 64, ek::io_uring, wk::randrw},
    setting{qk::shared, bk::each, 2, 256, 64, ek::io_uring, wk::randwrite},
    setting{qk::shared, bk::each, 4, 64, 128, ek::libaio, wk::randrw},
    setting{qk::shared, bk::per_wakeup, 1, 256, 8, ek::io_uring, wk::randwrite},
    setting{qk::shared, bk::per_wakeup, 2, 256, 128, ek::io_uring, wk::randwrite},
    setting{qk::shared, bk::up_to_8, 4, 1024, 1, ek::io_uring, wk::randwrite},
};
// clang-format on

/// How many pairs of values of two columns the settings lack.
constexpr std::size_t missing_pairs() {
    std::size_t missing = 0;
    const std::size_t columns = settings[0].values().size();
    for (std::size_t a = 0; a < columns; ++a) {
        for (std::size_t b = a + 1; b < columns; ++b) {
            for (const setting& one : settings) {
                for (const setting& other : settings) {
                    bool found = false;
                    for (const setting& each : settings) {
                        found = found || (each.values()[a] == one.values()[a] &&
                                          each.values()[b] == other.values()[b]);
                    }
                    missing += found ? 0u : 1u;
                }
            }
        }
    }
    return missing;
}
static_assert(missing_pairs() == 0, "every pair of values appears in some setting");

/// A block size, and as much of it as an emulated machine writes in a moment.
struct stride {
    const char* name;
    const char* key;
    const char* value;
    std::uint64_t bytes;  ///< for each CPU
    bool even;            ///< one size, so that the number of bytes is exact
};

// Every setting runs all of them at once, so each size meets each value of everything else.
constexpr std::array strides{
    stride{"512", "bs", "512", 64 * kibibyte, true},
    stride{"4k", "bs", "4k", 512 * kibibyte, true},
    stride{"64k", "bs", "64k", mebibyte, true},
    stride{"128k", "bs", "128k", mebibyte, true},
    stride{"1m", "bs", "1m", 3 * mebibyte, true},
    stride{"range", "bsrange", "512-128k", mebibyte, false},
    stride{"split", "bssplit", "512/10:4k/40:64k/30:1m/20", 3 * mebibyte, false},
};

constexpr std::uint64_t disk_size = 64 * mebibyte;

std::string all_strides(const std::string& path, const setting& s) {
    const unsigned cpus = ublk::detail::online_cpus();
    std::string file = globals(path, s.engine_name(), s.depth);
    std::uint64_t offset = 0;
    for (const stride& each : strides) {
        file += section(each.name, {{"rw", s.workload_name()},
                                    {each.key, each.value},
                                    {"offset", text(offset)},
                                    {"offset_increment", text(each.bytes)},
                                    {"size", text(each.bytes)},
                                    {"numjobs", text(cpus)},
                                    {"cpus_allowed", "0-" + text(cpus - 1)},
                                    {"cpus_allowed_policy", "split"}});
        offset += each.bytes * cpus;
    }
    EXPECT_LE(offset, disk_size);
    return file;
}

void expect_all_verified(const fio_run& done) {
    ASSERT_TRUE(succeeded(done.program));
    const unsigned cpus = ublk::detail::online_cpus();
    ASSERT_EQ(done.jobs.size(), strides.size() * cpus) << done.program;
    for (std::size_t i = 0; i < done.jobs.size(); ++i) {
        const job& one = done.jobs[i];
        const stride& what = strides[i / cpus];
        SCOPED_TRACE("job " + one.name);
        ASSERT_EQ(one.name, what.name);
        EXPECT_EQ(one.error, 0);
        EXPECT_GT(one.written, 0u);
        // A job moves `bytes` and then reads again what of them it wrote.
        ASSERT_GT(one.read + one.written, what.bytes) << "nothing was verified";
        if (what.even) {
            EXPECT_EQ(one.read + one.written - what.bytes, one.written)
                << "not everything was verified";
        }
    }
}

template <class QueuePolicy, class BatchPolicy>
void verify_all(const setting& s) {
    using disk_type = ublk::device<ublk::backends::memory, QueuePolicy, BatchPolicy>;
    ublk::options requested = ublk_test::patient();
    requested.queues = s.queues;
    requested.depth = s.depth;
    requested.max_io_bytes = s.max_io_kib * 1024;
    disk_type disk{ublk::backends::memory{disk_size}, requested};
    ASSERT_NO_THROW(disk.start());
    ASSERT_NO_FATAL_FAILURE(without_scheduler(disk));
    expect_all_verified(fio(all_strides(disk.path(), s)));
    EXPECT_EQ(disk.state(), ublk::device_state::live);
    ASSERT_NO_THROW(disk.stop());
}

template <class QueuePolicy>
void verify_all_with_queue(const setting& s) {
    switch (s.batch) {
    case batch_kind::each:
        return verify_all<QueuePolicy, ublk::each>(s);
    case batch_kind::per_wakeup:
        return verify_all<QueuePolicy, ublk::per_wakeup>(s);
    case batch_kind::up_to_8:
        return verify_all<QueuePolicy, ublk::up_to<8>>(s);
    }
}

class Fio : public ublk_test::on_a_clean_system, public testing::WithParamInterface<setting> {};

TEST_P(Fio, FindsEveryBlockAsItWasWritten) {
    const setting& s = GetParam();
    if (s.queue == queue_kind::per_cpu) {
        verify_all_with_queue<ublk::per_cpu>(s);
    } else {
        verify_all_with_queue<ublk::shared>(s);
    }
}

INSTANTIATE_TEST_SUITE_P(EveryPair, Fio, testing::ValuesIn(settings),
                         [](const auto& tested) { return tested.param.name(); });

// ---------------------------------------------------------------- across CPUs

/// One job for each CPU, on a region of its own; `shift` moves them on by so many CPUs.
std::string region_jobs(const std::string& path, unsigned shift, bool verify_only) {
    const unsigned cpus = ublk::detail::online_cpus();
    std::string file = globals(path, "libaio", 16);
    for (unsigned region = 0; region < cpus; ++region) {
        file += section("region" + text(region),
                        {{"rw", "randwrite"},
                         {"bs", "4k"},
                         {"offset", text(region * 4 * mebibyte)},
                         {"size", text(2 * mebibyte)},
                         {"cpus_allowed", text((region + shift) % cpus)},
                         {verify_only ? "verify_only" : "do_verify", verify_only ? "1" : "0"}});
    }
    return file;
}

/// Sectors that the kernel has sent to the disk.
template <class Device>
std::uint64_t sectors_written(const Device& disk) {
    std::istringstream fields{ublk_test::read_text("/sys/block/ublkb" + text(disk.id()) + "/stat")};
    std::uint64_t field = 0;
    for (int i = 0; i < 7; ++i) {
        fields >> field;
    }
    return field;
}

template <class QueuePolicy>
void write_here_and_verify_there(std::initializer_list<unsigned> queue_counts) {
    const unsigned cpus = ublk::detail::online_cpus();
    for (const unsigned queues : queue_counts) {
        SCOPED_TRACE(testing::Message() << queues << " queues");
        ublk::options requested = ublk_test::patient();
        requested.queues = queues;
        requested.depth = 16;
        ublk::device<ublk::backends::memory, QueuePolicy> disk{ublk::backends::memory{disk_size},
                                                               requested};
        ASSERT_NO_THROW(disk.start());
        ASSERT_NO_FATAL_FAILURE(without_scheduler(disk));
        const fio_run wrote = fio(region_jobs(disk.path(), 0, false));
        ASSERT_TRUE(succeeded(wrote.program));
        const std::uint64_t before = sectors_written(disk);
        EXPECT_EQ(before, cpus * 2 * mebibyte / 512);
        const fio_run checked = fio(region_jobs(disk.path(), 1, true));
        ASSERT_TRUE(succeeded(checked.program));
        ASSERT_EQ(wrote.jobs.size(), cpus);
        ASSERT_EQ(checked.jobs.size(), cpus);
        for (unsigned region = 0; region < cpus; ++region) {
            EXPECT_EQ(wrote.jobs[region].written, 2 * mebibyte);
            EXPECT_EQ(wrote.jobs[region].read, 0u);
            EXPECT_EQ(checked.jobs[region].read, 2 * mebibyte);
        }
        // fio goes through the motions of writing and counts that, but it must not write.
        EXPECT_EQ(sectors_written(disk), before);
        ASSERT_NO_THROW(disk.stop());
    }
}

class FioAcrossCpus : public ublk_test::on_a_clean_system {};

TEST_F(FioAcrossCpus, WhatOneCpuWroteAnotherVerifiesWithAThreadForEachQueue) {
    if (ublk::detail::online_cpus() < 2) {
        GTEST_SKIP() << "there is but one CPU";
    }
    write_here_and_verify_there<ublk::per_cpu>({1, 4});
}

TEST_F(FioAcrossCpus, WhatOneCpuWroteAnotherVerifiesWithOneThread) {
    if (ublk::detail::online_cpus() < 2) {
        GTEST_SKIP() << "there is but one CPU";
    }
    write_here_and_verify_there<ublk::shared>({2});
}

// ---------------------------------------------------------------- can these tests fail?

/// What a lying disk does to the request that it is loaded for.
enum class lie { none, flipped_bit, lost_write };

struct trap {
    std::atomic<lie> armed = lie::none;
    std::atomic<unsigned> sprung = 0;
};

/// Tells one lie, about the first request that lies wholly within the last quarter of the disk.
class liar {
public:
    explicit liar(std::shared_ptr<trap> trap)
        : store_{std::make_shared<ublk::backends::memory>(disk_size)}, trap_{std::move(trap)} {}

    std::uint64_t size() const noexcept { return store_->size(); }

    ublk::result read(const ublk::request& r, std::span<std::byte> out) noexcept {
        const ublk::result answer = store_->read(r, out);
        if (springs(r, lie::flipped_bit)) {
            out[out.size() / 2] ^= std::byte{0x10};
        }
        return answer;
    }
    ublk::result write(const ublk::request& r, std::span<const std::byte> in) noexcept {
        return springs(r, lie::lost_write) ? ublk::ok : store_->write(r, in);
    }

private:
    bool springs(const ublk::request& r, lie what) noexcept {
        lie expected = what;
        if (r.offset() < disk_size / 4 * 3 ||
            !trap_->armed.compare_exchange_strong(expected, lie::none)) {
            return false;
        }
        ++trap_->sprung;
        return true;
    }

    std::shared_ptr<ublk::backends::memory> store_;
    std::shared_ptr<trap> trap_;
};

class FioAndALyingDisk : public ublk_test::on_a_clean_system {};

TEST_F(FioAndALyingDisk, OneFlippedBitIsFound) {
    const auto set = std::make_shared<trap>();
    ublk::options requested = ublk_test::patient();
    requested.depth = 16;
    ublk::device<liar> disk{liar{set}, requested};
    ASSERT_NO_THROW(disk.start());
    ASSERT_NO_FATAL_FAILURE(without_scheduler(disk));
    const std::string file =
        globals(disk.path(), "libaio", 8) + section("honest", {{"rw", "randwrite"},
                                                               {"bs", "4k"},
                                                               {"offset", text(disk_size / 4 * 3)},
                                                               {"size", text(mebibyte)}});
    const fio_run control = fio(file);
    ASSERT_TRUE(succeeded(control.program)) << "with an honest disk nothing is found";
    ASSERT_EQ(control.jobs.size(), 1u);

    set->armed = lie::flipped_bit;
    const fio_run done = fio(file);
    EXPECT_EQ(set->sprung.load(), 1u) << "the disk had no occasion to lie";
    EXPECT_TRUE(done.program.in_time);
    EXPECT_NE(done.program.exit_code, 0) << done.program;
    ASSERT_EQ(done.jobs.size(), 1u) << done.program;
    EXPECT_EQ(done.jobs[0].error, EILSEQ) << done.program;
}

TEST_F(FioAndALyingDisk, OneLostWriteIsFound) {
    // A disk that held the same data before would have nothing to lose.
    const auto set = std::make_shared<trap>();
    ublk::options requested = ublk_test::patient();
    requested.depth = 16;
    ublk::device<liar> disk{liar{set}, requested};
    ASSERT_NO_THROW(disk.start());
    ASSERT_NO_FATAL_FAILURE(without_scheduler(disk));
    set->armed = lie::lost_write;
    const fio_run done = fio(globals(disk.path(), "libaio", 8) +
                             section("robbed", {{"rw", "randrw"},
                                                {"bs", "4k"},
                                                {"offset", text(disk_size / 4 * 3)},
                                                {"size", text(mebibyte)}}));
    EXPECT_EQ(set->sprung.load(), 1u) << "the disk had no occasion to lie";
    EXPECT_NE(done.program.exit_code, 0) << done.program;
    ASSERT_EQ(done.jobs.size(), 1u) << done.program;
    EXPECT_EQ(done.jobs[0].error, EILSEQ) << done.program;
}

TEST_F(FioAndALyingDisk, ADiskThatFailsIsReported) {
    struct broken : liar {
        using liar::liar;
        ublk::result write(const ublk::request& r, std::span<const std::byte> in) noexcept {
            return r.offset() >= disk_size / 2 ? ublk::result{std::errc::no_space_on_device}
                                               : liar::write(r, in);
        }
    };
    ublk::options requested = ublk_test::patient();
    requested.depth = 16;
    ublk::device<broken> disk{broken{std::make_shared<trap>()}, requested};
    ASSERT_NO_THROW(disk.start());
    const fio_run done = fio(globals(disk.path(), "io_uring", 8) +
                             section("refused", {{"rw", "write"},
                                                 {"bs", "64k"},
                                                 {"offset", text(disk_size / 2 - mebibyte)},
                                                 {"size", text(2 * mebibyte)}}));
    EXPECT_NE(done.program.exit_code, 0) << done.program;
    ASSERT_EQ(done.jobs.size(), 1u) << done.program;
    EXPECT_EQ(done.jobs[0].error, ENOSPC) << done.program;
}

}  // namespace
}  // namespace fio_test
