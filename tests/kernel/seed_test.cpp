// SPDX-License-Identifier: MIT

// One test for each way in which go-ublk and zig-ublk, from which this library took its start,
// lose data, hang, or do not do what they offer. The comments say what went wrong there.

#include "client.hpp"
#include "shell.hpp"

#include <ublk/backends/memory.hpp>
#include <ublk/ublk.hpp>

#include <gtest/gtest.h>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace seed_test {
namespace {

using namespace std::chrono_literals;
using ublk_test::eventually;
using ublk_test::succeeded;
using ublk_test::time_of;

constexpr std::size_t kibibyte = 1024;
constexpr std::size_t mebibyte = 1024 * kibibyte;

/// What a disk did; outlives the device that served it.
struct record {
    explicit record(std::uint64_t bytes, std::uint32_t logical_block = 512)
        : store{bytes, {logical_block, false}} {}

    ublk::backends::memory store;
    std::array<std::atomic<unsigned>, 16> data_requests{};  ///< reads and writes, by queue
    std::atomic<unsigned> flushes = 0;
    std::atomic<unsigned> fua_writes = 0;
    std::atomic<unsigned> discards = 0;
    std::atomic<unsigned> zeroings = 0;
    std::atomic<std::uint64_t> last_offset = 0;  ///< of a discard or write-zeroes
    std::atomic<std::uint64_t> last_length = 0;
    std::atomic<std::uint64_t> largest = 0;  ///< read or write
    std::atomic<int> answer = 0;             ///< errno for what touches bad_offset; -1: throw
    static constexpr std::uint64_t bad_offset = 8 * mebibyte;

    void see(const ublk::request& r) {
        ++data_requests[r.queue().value() % data_requests.size()];
        std::uint64_t seen = largest;
        while (seen < r.length() && !largest.compare_exchange_weak(seen, r.length())) {
        }
    }

    [[nodiscard]] ublk::result verdict(const ublk::request& r) const {
        const int code = answer;
        if (code == 0 || r.offset() > bad_offset || r.offset() + r.length() <= bad_offset) {
            return ublk::ok;
        }
        if (code < 0) {
            throw std::runtime_error{"a backend's exception"};
        }
        return ublk::result::failure(code);
    }
};

/// Reads and writes, and nothing else.
struct bare {
    std::shared_ptr<record> seen;

    std::uint64_t size() const noexcept { return seen->store.size(); }
    std::uint32_t logical_block_size() const noexcept { return seen->store.logical_block_size(); }
    ublk::result read(const ublk::request& r, std::span<std::byte> out) {
        seen->see(r);
        const ublk::result outcome = seen->verdict(r);
        return outcome.ok() ? seen->store.read(r, out) : outcome;
    }
    ublk::result write(const ublk::request& r, std::span<const std::byte> in) {
        seen->see(r);
        seen->fua_writes += r.fua() ? 1u : 0u;
        const ublk::result outcome = seen->verdict(r);
        return outcome.ok() ? seen->store.write(r, in) : outcome;
    }
};

/// And all that a backend may offer besides.
struct full : bare {
    static constexpr bool fua = true;
    static constexpr bool rotational = true;

    ublk::result flush(const ublk::request&) {
        ++seen->flushes;
        return ublk::ok;
    }
    ublk::result discard(const ublk::request& r) {
        ++seen->discards;
        seen->last_offset = r.offset();
        seen->last_length = r.length();
        return seen->store.discard(r);
    }
    ublk::result write_zeroes(const ublk::request& r) {
        ++seen->zeroings;
        seen->last_offset = r.offset();
        seen->last_length = r.length();
        return seen->store.write_zeroes(r);
    }
};

struct read_only_full : full {
    static constexpr bool read_only = true;
};

ublk::options few_tags(unsigned queues = 1) {
    ublk::options requested = ublk_test::patient();
    requested.queues = queues;
    requested.depth = 8;
    return requested;
}

/// Memory that a direct read or write takes.
class block {
public:
    explicit block(std::size_t bytes)
        : memory_{bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                  0,     "a test block"} {}

    /// Every 8 bytes name their place on the disk and who wrote them.
    block& fill(std::uint64_t offset, std::uint64_t writer) {
        for (std::size_t i = 0; i < words(); ++i) {
            word(i) = (offset + 8 * i) * 1'000'003 + writer;
        }
        return *this;
    }
    [[nodiscard]] std::size_t wrong(std::uint64_t offset, std::uint64_t writer) const {
        std::size_t count = 0;
        for (std::size_t i = 0; i < words(); ++i) {
            count += word(i) != (offset + 8 * i) * 1'000'003 + writer ? 1u : 0u;
        }
        return count;
    }
    [[nodiscard]] bool zero() const {
        return std::all_of(memory_.data(), memory_.data() + memory_.size(),
                           [](std::byte b) { return b == std::byte{0}; });
    }
    [[nodiscard]] std::byte* data() const noexcept { return memory_.data(); }
    [[nodiscard]] std::size_t size() const noexcept { return memory_.size(); }

private:
    [[nodiscard]] std::size_t words() const noexcept { return memory_.size() / 8; }
    [[nodiscard]] std::uint64_t& word(std::size_t i) const {
        return reinterpret_cast<std::uint64_t*>(memory_.data())[i];
    }
    ublk::detail::mapping memory_;
};

/// A disk as a client has it open; 0, an errno, or `ublk_test::short_transfer`. No call lasts for
/// ever.
class client {
public:
    explicit client(const std::string& path, int flags = O_RDWR | O_DIRECT)
        : disk_{std::make_unique<ublk_test::client>(path, flags)} {}

    [[nodiscard]] bool open() const noexcept { return disk_->open_error() == 0; }
    [[nodiscard]] int file() const noexcept { return disk_->number(); }
    [[nodiscard]] int read(const block& to, std::uint64_t offset) const {
        return disk_->read(offset, {to.data(), to.size()});
    }
    [[nodiscard]] int write(const block& from, std::uint64_t offset) const {
        return disk_->write(offset, {from.data(), from.size()});
    }
    [[nodiscard]] int fsync() const { return disk_->fsync(); }
    [[nodiscard]] int discard(std::uint64_t offset, std::uint64_t length) const {
        return disk_->discard(offset, length);
    }
    [[nodiscard]] int zero_out(std::uint64_t offset, std::uint64_t length) const {
        return disk_->zero_out(offset, length);
    }

private:
    std::unique_ptr<ublk_test::client> disk_;
};

/// What the backend holds, past the block layer.
std::size_t wrong_in_store(const record& disk, std::uint64_t offset, std::uint64_t writer,
                           std::size_t bytes) {
    block copy{bytes};
    ublk::uapi::io_desc whole{};
    whole.start_sector = offset / 512;
    whole.nr_sectors = static_cast<std::uint32_t>(bytes / 512);
    const ublk::request r{whole, ublk::queue_id{}, ublk::tag{}};
    (void)const_cast<ublk::backends::memory&>(disk.store).read(r, {copy.data(), copy.size()});
    return copy.wrong(offset, writer);
}

void on_cpu(unsigned cpu, const std::function<void()>& work) {
    std::thread{[&] {
        ublk::cpu_set only;
        only.insert(cpu);
        ASSERT_TRUE(ublk::detail::pin_this_thread(only));
        work();
    }}.join();
}

class Seed : public ublk_test::on_a_clean_system {};

// Queue q's descriptors were mapped at q times the size of one queue's own, where the driver has
// them at q times the size of the deepest queue: every queue served the requests of queue 0.
TEST_F(Seed, TheSecondQueueReadsItsOwnDescriptors) {
    if (ublk::detail::online_cpus() < 2) {
        GTEST_SKIP() << "one CPU has but one queue";
    }
    const auto seen = std::make_shared<record>(16 * mebibyte);
    ublk::device<bare> disk{bare{seen}, few_tags(2)};
    ASSERT_NO_THROW(disk.start());
    ASSERT_EQ(disk.info().queues, 2u);
    const client opened{disk.path()};
    ASSERT_TRUE(opened.open());
    for (const unsigned cpu : {0u, 1u}) {
        on_cpu(cpu, [&] {
            block data{4 * kibibyte};
            for (std::uint64_t i = 0; i < 100; ++i) {
                const std::uint64_t offset = (2 * i + cpu) * data.size();
                ASSERT_EQ(opened.write(data.fill(offset, cpu), offset), 0);
            }
        });
    }
    for (const unsigned cpu : {0u, 1u}) {
        on_cpu(1 - cpu, [&] {  // each reads what the other wrote
            block data{4 * kibibyte};
            for (std::uint64_t i = 0; i < 100; ++i) {
                const std::uint64_t offset = (2 * i + cpu) * data.size();
                ASSERT_EQ(opened.read(data, offset), 0);
                ASSERT_EQ(data.wrong(offset, cpu), 0u) << "at " << offset;
                ASSERT_EQ(wrong_in_store(*seen, offset, cpu, data.size()), 0u) << "at " << offset;
            }
        });
    }
    EXPECT_GE(seen->data_requests[0].load(), 200u);
    EXPECT_GE(seen->data_requests[1].load(), 200u);
}

// Two clients at once on two queues hung, for the same reason.
TEST_F(Seed, TwoClientsOnTwoQueuesEndTogether) {
    const auto seen = std::make_shared<record>(16 * mebibyte);
    ublk::device<bare> disk{bare{seen}, few_tags(2)};
    ASSERT_NO_THROW(disk.start());
    const client opened{disk.path()};
    ASSERT_TRUE(opened.open());
    std::vector<std::thread> writers;
    for (unsigned cpu = 0; cpu < disk.info().queues; ++cpu) {
        writers.emplace_back([&opened, cpu] {
            ublk::cpu_set only;
            only.insert(cpu);
            (void)ublk::detail::pin_this_thread(only);
            block data{64 * kibibyte};
            for (std::uint64_t i = 0; i < 50; ++i) {
                const std::uint64_t offset = 4 * mebibyte * cpu + i * data.size();
                ASSERT_EQ(opened.write(data.fill(offset, cpu), offset), 0);
            }
        });
    }
    for (std::thread& each : writers) {
        each.join();
    }
    for (unsigned cpu = 0; cpu < disk.info().queues; ++cpu) {
        EXPECT_EQ(wrong_in_store(*seen, 4 * mebibyte * cpu, cpu, 50 * 64 * kibibyte), 0u);
    }
}

// "One queue for each CPU" made one kernel queue and a thread for each CPU, of which all but one
// ended at once in silence; what the driver had granted was never looked at.
TEST_F(Seed, FourQueuesAskedAreFourQueuesServedOrFewerGranted) {
    for (const unsigned requested : {0u, 4u}) {
        SCOPED_TRACE(testing::Message() << requested << " asked");
        const auto seen = std::make_shared<record>(16 * mebibyte);
        ublk::device<bare> disk{bare{seen}, few_tags(requested)};
        ASSERT_NO_THROW(disk.start());
        const unsigned cpus = ublk::detail::online_cpus();
        const unsigned granted = disk.info().queues;
        EXPECT_EQ(granted, requested == 0 ? cpus : std::min(requested, cpus));
        EXPECT_EQ(disk.info().threads, granted);
        const client opened{disk.path()};
        ASSERT_TRUE(opened.open());
        for (unsigned cpu = 0; cpu < cpus; ++cpu) {
            on_cpu(cpu, [&] {
                const block data{4 * kibibyte};
                for (int i = 0; i < 10; ++i) {
                    ASSERT_EQ(opened.read(data, 0), 0);
                }
            });
        }
        for (unsigned queue = 0; queue < granted; ++queue) {
            EXPECT_GE(seen->data_requests[queue].load(), 10u) << "queue " << queue;
        }
    }
}

// Tag buffers had 64 KiB whatever size was asked; more overran the next tag's buffer, and reads
// answered from memory that the driver never looked at.
TEST_F(Seed, RequestsAbove64KiBAreWhole) {
    for (const std::size_t bytes : {128 * kibibyte, 256 * kibibyte, mebibyte}) {
        SCOPED_TRACE(bytes);
        const auto seen = std::make_shared<record>(16 * mebibyte);
        ublk::options requested = few_tags();
        requested.max_io_bytes = mebibyte;
        ublk::device<bare> disk{bare{seen}, requested};
        ASSERT_NO_THROW(disk.start());
        const client opened{disk.path()};
        ASSERT_TRUE(opened.open());
        std::vector<std::thread> writers;  // at once, so that neighbouring tags are in use
        for (std::uint64_t i = 0; i < 6; ++i) {
            writers.emplace_back([&opened, bytes, i] {
                block data{bytes};
                ASSERT_EQ(opened.write(data.fill(i * bytes, i), i * bytes), 0);
                ASSERT_EQ(opened.read(data, i * bytes), 0);
                ASSERT_EQ(data.wrong(i * bytes, i), 0u);
            });
        }
        for (std::thread& each : writers) {
            each.join();
        }
        for (std::uint64_t i = 0; i < 6; ++i) {
            EXPECT_EQ(wrong_in_store(*seen, i * bytes, i, bytes), 0u) << "block " << i;
        }
        EXPECT_EQ(seen->largest.load(), bytes) << "the block layer has split the requests";
    }
}

// Close() waited for ever for a descriptor and a ring that the library itself still held.
TEST_F(Seed, CloseReturnsInALibraryUser) {
    const auto seen = std::make_shared<record>(16 * mebibyte);
    ublk::device<bare> disk{bare{seen}, few_tags(2)};
    ASSERT_NO_THROW(disk.start());
    EXPECT_LT(time_of([&] { ASSERT_NO_THROW(disk.stop()); }), ublk_test::patience);
    EXPECT_FALSE(std::filesystem::exists(disk.path()));
    EXPECT_FALSE(std::filesystem::exists(disk.char_path()));
    EXPECT_NO_THROW(disk.stop()) << "a second stop has nothing to do";
}

// The same with a client that keeps the disk open, for whose last close DEL_DEV waits.
TEST_F(Seed, CloseReturnsWhileAClientHasTheDiskOpen) {
    const auto seen = std::make_shared<record>(16 * mebibyte);
    ublk::options requested = few_tags(2);
    requested.id = 76;
    ublk::device<bare> disk{bare{seen}, requested};
    ASSERT_NO_THROW(disk.start());
    block data{4 * kibibyte};
    {
        const client opened{disk.path()};
        ASSERT_EQ(opened.write(data.fill(0, 1), 0), 0);
        EXPECT_LT(time_of([&] { ASSERT_NO_THROW(disk.stop()); }), ublk_test::patience);
        EXPECT_FALSE(std::filesystem::exists(disk.path()));
        EXPECT_FALSE(std::filesystem::exists(disk.char_path()));
        EXPECT_NE(opened.read(data, 0), 0) << "a client of a disk that is gone must hear of it";
        EXPECT_THROW(disk.start(), ublk::error) << "the number is taken until the last close";
    }
    // The last close is what frees the number, some moments later.
    EXPECT_TRUE(eventually([&] {
        try {
            disk.start();
        } catch (const ublk::error& refused) {
            EXPECT_EQ(refused.errno_value(), EEXIST) << refused.what();
            return false;
        }
        return true;
    }));
    const client opened{disk.path()};
    ASSERT_EQ(opened.read(data, 0), 0);
    EXPECT_EQ(data.wrong(0, 1), 0u);
}

TEST_F(Seed, ADestructorRemovesTheDevice) {
    std::string path;
    std::string char_path;
    {
        ublk::device<bare> disk{bare{std::make_shared<record>(16 * mebibyte)}, few_tags()};
        ASSERT_NO_THROW(disk.start());
        path = disk.path();
        char_path = disk.char_path();
        ASSERT_TRUE(std::filesystem::exists(path));
    }
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_FALSE(std::filesystem::exists(char_path));
}

// Read-only, rotational, cache, FUA and all of discard could be asked and were never sent.
TEST_F(Seed, EveryOptionReachesTheKernel) {
    ublk::device<read_only_full> disk{read_only_full{{{std::make_shared<record>(16 * mebibyte)}}},
                                      few_tags()};
    ASSERT_NO_THROW(disk.start());
    const std::string at = "/sys/block/ublkb" + std::to_string(disk.id()) + "/";
    EXPECT_EQ(ublk_test::read_line(at + "ro"), "1");
    EXPECT_EQ(ublk_test::read_line(at + "queue/rotational"), "1");
    EXPECT_EQ(ublk_test::read_line(at + "queue/write_cache"), "write back");
    EXPECT_EQ(ublk_test::read_line(at + "queue/fua"), "1");
    EXPECT_NE(ublk_test::read_line(at + "queue/discard_max_bytes"), "0");
    EXPECT_NE(ublk_test::read_line(at + "queue/write_zeroes_max_bytes"), "0");
    const client opened{disk.path(), O_RDONLY};
    int read_only = 0;
    ASSERT_EQ(::ioctl(opened.file(), BLKROGET, &read_only), 0);
    EXPECT_EQ(read_only, 1);
}

// Sectors were taken for logical blocks: a disk of 4096-byte blocks had an eighth of its size, and
// its data were in the wrong places.
TEST_F(Seed, LogicalBlockSize4096HasTheRightCapacityAndData) {
    const auto seen = std::make_shared<record>(64 * mebibyte, 4096);
    ublk::device<bare> disk{bare{seen}, few_tags()};
    ASSERT_NO_THROW(disk.start());
    const client opened{disk.path()};
    ASSERT_TRUE(opened.open());
    std::uint64_t bytes = 0;
    int block_size = 0;
    ASSERT_EQ(::ioctl(opened.file(), BLKGETSIZE64, &bytes), 0);
    ASSERT_EQ(::ioctl(opened.file(), BLKSSZGET, &block_size), 0);
    EXPECT_EQ(bytes, 64 * mebibyte);
    EXPECT_EQ(block_size, 4096);
    block data{16 * kibibyte};
    for (const std::uint64_t offset :
         {std::uint64_t{0}, std::uint64_t{4 * kibibyte * 3}, bytes - 16 * kibibyte}) {
        ASSERT_EQ(opened.write(data.fill(offset, 1), offset), 0);
        EXPECT_EQ(wrong_in_store(*seen, offset, 1, data.size()), 0u) << "at " << offset;
        ASSERT_EQ(opened.read(data, offset), 0);
        EXPECT_EQ(data.wrong(offset, 1), 0u) << "at " << offset;
    }
}

// The cache was never advertised, so no FLUSH was ever sent and fsync() meant nothing.
TEST_F(Seed, FlushReachesTheBackend) {
    const auto seen = std::make_shared<record>(16 * mebibyte);
    ublk::device<full> disk{full{{seen}}, few_tags()};
    ASSERT_NO_THROW(disk.start());
    const client opened{disk.path()};
    block data{4 * kibibyte};
    ASSERT_EQ(opened.write(data.fill(0, 0), 0), 0);
    const unsigned before = seen->flushes;
    ASSERT_EQ(opened.fsync(), 0);
    EXPECT_GT(seen->flushes.load(), before);
}

// Flags of a request, FUA among them, stopped at the library.
TEST_F(Seed, FuaReachesTheBackend) {
    const auto seen = std::make_shared<record>(16 * mebibyte);
    ublk::device<full> disk{full{{seen}}, few_tags()};
    ASSERT_NO_THROW(disk.start());
    const client opened{disk.path(), O_RDWR | O_DIRECT | O_DSYNC};
    block data{4 * kibibyte};
    ASSERT_EQ(opened.write(data.fill(0, 0), 0), 0);
    EXPECT_EQ(seen->fua_writes.load(), 1u);
    EXPECT_EQ(wrong_in_store(*seen, 0, 0, data.size()), 0u);
}

// Discard could be written and never came; what came without one counted as done.
TEST_F(Seed, DiscardReachesTheBackend) {
    const auto seen = std::make_shared<record>(16 * mebibyte);
    ublk::device<full> disk{full{{seen}}, few_tags()};
    ASSERT_NO_THROW(disk.start());
    const client opened{disk.path()};
    block data{64 * kibibyte};
    ASSERT_EQ(opened.write(data.fill(mebibyte, 7), mebibyte), 0);
    ASSERT_EQ(opened.discard(mebibyte, data.size()), 0);
    EXPECT_EQ(seen->discards.load(), 1u);
    EXPECT_EQ(seen->last_offset.load(), mebibyte);
    EXPECT_EQ(seen->last_length.load(), data.size());
    ASSERT_EQ(opened.read(data, mebibyte), 0);
    EXPECT_TRUE(data.zero());
}

TEST_F(Seed, DiscardWithoutADiscardFunctionIsRefused) {
    ublk::device<bare> disk{bare{std::make_shared<record>(16 * mebibyte)}, few_tags()};
    ASSERT_NO_THROW(disk.start());
    const client opened{disk.path()};
    EXPECT_EQ(opened.discard(0, mebibyte), EOPNOTSUPP);
}

// Its number was taken for an unknown operation and answered with EIO.
TEST_F(Seed, WriteZeroesReachesTheBackend) {
    const auto seen = std::make_shared<record>(16 * mebibyte);
    ublk::device<full> disk{full{{seen}}, few_tags()};
    ASSERT_NO_THROW(disk.start());
    const client opened{disk.path()};
    block data{64 * kibibyte};
    ASSERT_EQ(opened.write(data.fill(mebibyte, 7), mebibyte), 0);
    ASSERT_EQ(opened.zero_out(mebibyte, data.size()), 0);
    EXPECT_EQ(seen->zeroings.load(), 1u);
    EXPECT_EQ(seen->last_offset.load(), mebibyte);
    EXPECT_EQ(seen->last_length.load(), data.size());
    ASSERT_EQ(opened.read(data, mebibyte), 0);
    EXPECT_TRUE(data.zero());
}

TEST_F(Seed, ZeroesAreWrittenWhereTheBackendHasNoWriteZeroes) {
    const auto seen = std::make_shared<record>(16 * mebibyte);
    ublk::device<bare> disk{bare{seen}, few_tags()};
    ASSERT_NO_THROW(disk.start());
    const client opened{disk.path()};
    block data{64 * kibibyte};
    ASSERT_EQ(opened.write(data.fill(mebibyte, 7), mebibyte), 0);
    ASSERT_EQ(opened.zero_out(mebibyte, data.size()), 0);
    ASSERT_EQ(opened.read(data, mebibyte), 0);
    EXPECT_TRUE(data.zero());
}

// Threads were ended and buffers unmapped before STOP_DEV, which writes dirty pages through them.
TEST_F(Seed, StopWritesDirtyDataBack) {
    const auto seen = std::make_shared<record>(16 * mebibyte);
    ublk::device<full> disk{full{{seen}}, few_tags(2)};
    ASSERT_NO_THROW(disk.start());
    const client opened{disk.path(), O_RDWR};  // stays open: the last close writes back as well
    block data{4 * mebibyte};
    ASSERT_EQ(opened.write(data.fill(0, 42), 0), 0);
    ASSERT_NO_THROW(disk.stop());
    EXPECT_EQ(wrong_in_store(*seen, 0, 42, data.size()), 0u);
}

// A stopped device could not be started: its node was still open.
TEST_F(Seed, StartAfterStopWorks) {
    const auto seen = std::make_shared<record>(16 * mebibyte);
    ublk::options requested = few_tags(2);
    requested.id = 77;
    ublk::device<bare> disk{bare{seen}, requested};
    block data{4 * kibibyte};
    for (std::uint64_t round = 0; round < 3; ++round) {
        SCOPED_TRACE(round);
        ASSERT_NO_THROW(disk.start());
        EXPECT_EQ(disk.id(), 77u);
        {
            const client opened{disk.path()};
            ASSERT_TRUE(opened.open());
            if (round != 0) {
                ASSERT_EQ(opened.read(data, 0), 0);
                EXPECT_EQ(data.wrong(0, round - 1), 0u);
            }
            ASSERT_EQ(opened.write(data.fill(0, round), 0), 0);
        }
        ASSERT_NO_THROW(disk.stop());
    }
}

// A stopped device called itself created, a dead one running.
TEST_F(Seed, TheStateIsTheTruth) {
    ublk::device<bare> disk{bare{std::make_shared<record>(16 * mebibyte)}, few_tags()};
    EXPECT_EQ(disk.state(), ublk::device_state::idle);
    EXPECT_EQ(disk.path(), "");
    ASSERT_NO_THROW(disk.start());
    EXPECT_EQ(disk.state(), ublk::device_state::live);
    {
        auto other = ublk_test::open_control();
        ASSERT_NO_THROW(other.stop_dev(disk.id(), ublk_test::patience));
    }
    EXPECT_TRUE(eventually([&] { return disk.state() == ublk::device_state::failed; }));
    ASSERT_NO_THROW(disk.stop());
    EXPECT_EQ(disk.state(), ublk::device_state::idle);
}

// Cancelling the context ended the threads some time later and left the device, whose clients hung.
TEST_F(Seed, AStopTokenRemovesTheDevice) {
    ublk::device<bare> disk{bare{std::make_shared<record>(16 * mebibyte)}, few_tags(2)};
    ASSERT_NO_THROW(disk.start());
    const client opened{disk.path()};
    ASSERT_TRUE(opened.open());
    std::stop_source source;
    std::atomic<bool> returned = false;
    std::atomic<pid_t> thread = 0;
    std::thread waiter{[&] {
        thread = ::gettid();
        EXPECT_NO_THROW(disk.wait(source.get_token()));
        returned = true;
    }};
    EXPECT_TRUE(eventually([&] { return ublk::test::state_of_thread(thread) == 'S'; }));
    EXPECT_FALSE(returned);
    source.request_stop();
    EXPECT_TRUE(eventually([&] { return returned.load(); }));
    waiter.join();
    EXPECT_FALSE(std::filesystem::exists(disk.path()));
    EXPECT_FALSE(std::filesystem::exists(disk.char_path()));
    EXPECT_EQ(disk.state(), ublk::device_state::idle);
    const block data{4 * kibibyte};
    EXPECT_NE(opened.read(data, 0), 0) << "a client of a disk that is gone must hear of it";
}

// One refused request ended its queue's thread, and every later client hung.
TEST_F(Seed, AnErrorInOneRequestDoesNotEndTheQueue) {
    const auto seen = std::make_shared<record>(16 * mebibyte);
    ublk::device<bare> disk{bare{seen}, few_tags()};
    ASSERT_NO_THROW(disk.start());
    const client opened{disk.path()};
    seen->answer = EIO;
    block data{4 * kibibyte};
    for (std::uint64_t i = 0; i < 50; ++i) {  // more often than there are tags
        const std::uint64_t offset = i * data.size();
        ASSERT_EQ(opened.read(data, record::bad_offset), EIO);
        ASSERT_EQ(opened.write(data, record::bad_offset), EIO);
        ASSERT_EQ(opened.write(data.fill(offset, i), offset), 0);
        ASSERT_EQ(opened.read(data, offset), 0);
        ASSERT_EQ(data.wrong(offset, i), 0u);
    }
}

// Whatever a backend said went to the client as EIO.
TEST_F(Seed, BackendErrnoIsNotFlattenedToEIO) {
    const auto seen = std::make_shared<record>(16 * mebibyte);
    ublk::device<bare> disk{bare{seen}, few_tags()};
    ASSERT_NO_THROW(disk.start());
    const client opened{disk.path()};
    const block data{4 * kibibyte};
    for (const int code : {ENOSPC, ENODATA, EILSEQ, ETIMEDOUT, ENOLINK, EREMOTEIO}) {
        seen->answer = code;
        EXPECT_EQ(opened.write(data, record::bad_offset), code) << "write";
        EXPECT_EQ(opened.read(data, record::bad_offset), code) << "read";
    }
    seen->answer = ENOTTY;  // the block layer has no word for it
    EXPECT_EQ(opened.read(data, record::bad_offset), EIO);
    seen->answer = 0;
    EXPECT_EQ(opened.read(data, record::bad_offset), 0);
}

// The number of bytes that a backend said it had moved was ignored; beyond its end it moved none
// and said "no error", and the client's data were gone.
TEST_F(Seed, ShortOrOutOfRangeIsNeverSuccess) {
    static_assert(!std::is_constructible_v<ublk::result, std::size_t> &&
                      !std::is_constructible_v<ublk::result, int>,
                  "a count of bytes is no answer: all or an errno");
    const auto seen = std::make_shared<record>(16 * mebibyte);
    ublk::device<bare> disk{bare{seen}, few_tags()};
    ASSERT_NO_THROW(disk.start());
    const client opened{disk.path()};
    const block data{8 * kibibyte};
    const std::uint64_t end = seen->store.size();
    EXPECT_EQ(opened.write(data, end), ENOSPC);
    EXPECT_EQ(opened.read(data, end), ublk_test::short_transfer)
        << "the end of the disk reads as nothing";
    EXPECT_NE(opened.write(data, end - 4 * kibibyte), 0);
    EXPECT_NE(opened.read(data, end - 4 * kibibyte), 0);
    seen->answer = -1;  // throws
    EXPECT_EQ(opened.write(data, record::bad_offset), EIO);
    EXPECT_EQ(opened.read(data, record::bad_offset), EIO);
    // One bad block in a large request: no part of it counts as written.
    EXPECT_EQ(opened.write(data, record::bad_offset - 4 * kibibyte), EIO);
    seen->answer = 0;
    EXPECT_EQ(opened.write(data, record::bad_offset), 0);
}

/// The real driver, but each FETCH of queue 0 goes wrong on its way: it names a queue that is not
/// there, or is never sent. (All of a queue's: a server that leaves in the midst of a queue makes
/// the driver of 6.12 print a warning.)
template <bool Sent>
struct bad_fetches : ublk::detail::linux_kernel {
    class port : public ublk::detail::linux_kernel::port {
    public:
        using ublk::detail::linux_kernel::port::port;
        void fetch(ublk::queue_id queue, ublk::tag which, ublk::detail::buffer_address buffer,
                   ublk::detail::user_data t) noexcept {
            if (queue.value() != 0) {
                ublk::detail::linux_kernel::port::fetch(queue, which, buffer, t);
            } else if (Sent) {
                ublk::detail::linux_kernel::port::fetch(ublk::queue_id{999}, which, buffer, t);
            }
        }
    };
};

template <bool Sent>
void expect_refused_start(int code, std::chrono::milliseconds deadline) {
    ublk::options requested = few_tags(2);
    requested.id = 78;
    requested.command_deadline = deadline;
    ublk::device<bare, ublk::per_cpu, ublk::per_wakeup, bad_fetches<Sent>> disk{
        bare{std::make_shared<record>(16 * mebibyte)}, requested};
    const auto took = time_of([&] {
        try {
            disk.start();
            ADD_FAILURE() << "it started";
        } catch (const ublk::error& refused) {
            EXPECT_EQ(refused.errno_value(), code) << refused.what();
        }
    });
    EXPECT_EQ(took >= deadline, code == ETIMEDOUT);
    EXPECT_EQ(disk.state(), ublk::device_state::idle);
    EXPECT_FALSE(std::filesystem::exists("/dev/ublkb78"));
    EXPECT_FALSE(std::filesystem::exists("/dev/ublkc78"));
}

// A refused FETCH was never looked at; START_DEV then waited for that tag for ever.
TEST_F(Seed, UnservedFetchIsNoticedAtStart) {
    expect_refused_start<true>(EINVAL, 2min);
}

TEST_F(Seed, AQueueThatNobodyFetchesEndsTheStartAtItsDeadline) {
    expect_refused_start<false>(ETIMEDOUT, 5s);
}

// A start that failed left its device behind, with the id taken.
TEST_F(Seed, AfterAFailedStartTheIdIsFree) {
    expect_refused_start<true>(EINVAL, 2min);
    ublk::options requested = few_tags();
    requested.id = 78;
    ublk::device<bare> disk{bare{std::make_shared<record>(16 * mebibyte)}, requested};
    ASSERT_NO_THROW(disk.start());
    EXPECT_EQ(disk.id(), 78u);
}

// A wait that a signal interrupted ended the queue's thread, and the disk hung. Stopping and
// continuing the process interrupts all of them.
TEST_F(Seed, AnInterruptedWaitDoesNotEndTheQueue) {
    const auto seen = std::make_shared<record>(16 * mebibyte);
    ublk::device<bare> disk{bare{seen}, few_tags(2)};
    ASSERT_NO_THROW(disk.start());
    const client opened{disk.path()};
    const std::string self = std::to_string(::getpid());
    block data{4 * kibibyte};
    for (std::uint64_t i = 0; i < 3; ++i) {
        ASSERT_TRUE(
            succeeded(ublk_test::sh("kill -STOP " + self + "; usleep 100000; kill -CONT " + self)));
        for (unsigned cpu = 0; cpu < disk.info().queues; ++cpu) {
            on_cpu(cpu, [&] {
                ASSERT_EQ(opened.write(data.fill(0, i), 0), 0);
                ASSERT_EQ(opened.read(data, 0), 0);
                ASSERT_EQ(data.wrong(0, i), 0u);
            });
        }
    }
    EXPECT_EQ(disk.state(), ublk::device_state::live);
}

}  // namespace
}  // namespace seed_test
