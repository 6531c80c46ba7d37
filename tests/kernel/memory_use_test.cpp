// SPDX-License-Identifier: MIT

// What a server takes of memory that is its own: what the tag buffers need, where its data path has
// any, and a quarter of a MiB for each queue and its thread.

#include "client.hpp"

#include <ublk/backends/file.hpp>
#include <ublk/backends/memory.hpp>
#include <ublk/backends/null.hpp>
#include <ublk/thread_set.hpp>
#include <ublk/ublk.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

namespace memory_use_test {
namespace {

using ublk::data_path;

constexpr std::uint64_t disk_size = std::uint64_t{16} << 20;  // what a RAM disk of brd's has
constexpr unsigned depth = 128;
constexpr std::uint32_t max_io_bytes = 128 << 10;

/// Pages of files, such as the program's own code, are not the server's.
[[nodiscard]] std::size_t own_kib() {
    return ublk_test::status_kib("RssAnon") + ublk_test::status_kib("RssShmem");
}

class memory_use : public ublk_test::on_a_clean_system,
                   public testing::WithParamInterface<data_path> {
protected:
    template <class BatchPolicy>
    static void expect_little() {
        if ((ublk::features_of(GetParam()) & ~ublk_test::open_control().get_features()) != 0) {
            GTEST_SKIP() << "this kernel has no " << ublk::to_string(GetParam());
        }
        if (GetParam() == data_path::copy) {
            expect_little_of<BatchPolicy>(std::make_shared<ublk::backends::null>(disk_size));
        } else if (ublk::features_of(GetParam()) == ublk::uapi::feature::user_copy) {
            expect_little_of<BatchPolicy>(std::make_shared<ublk::backends::memory>(disk_size));
        } else {
            expect_little_of<BatchPolicy>(std::make_shared<ublk::backends::file>(
                "/dev/ram1", ublk::backends::file_options{.direct = true}));
        }
    }

private:
    template <class BatchPolicy, class Backend>
    static void expect_little_of(const std::shared_ptr<Backend>& backend) {
        ublk::options requested = ublk_test::patient();
        requested.queues = 4;
        requested.depth = depth;
        requested.max_io_bytes = max_io_bytes;
        requested.path = GetParam();
        ublk::device<Backend, ublk::per_cpu, BatchPolicy> disk{backend, requested};
        const std::size_t before = own_kib();
        disk.start();
        const std::size_t after = own_kib();
        const std::size_t queues = disk.info().queues;
        EXPECT_EQ(disk.info().path, GetParam());
        EXPECT_EQ(disk.info().depth, depth);
        const std::size_t buffers =
            ublk::has_tag_buffers(GetParam()) ? queues * depth * (max_io_bytes >> 10) : 0;
        EXPECT_LE(after, before + buffers + queues * 256) << queues << " queues";
        EXPECT_GE(after, before + buffers) << "nothing was measured";
        disk.stop();
    }
};

TEST_P(memory_use, is_little_beside_the_tag_buffers) {
    expect_little<ublk::per_wakeup>();
}

TEST_P(memory_use, is_little_in_the_drivers_batches) {
    if (GetParam() != data_path::thread_copy) {  // which the driver's batches do not carry
        expect_little<ublk::batch_io>();
    }
}

INSTANTIATE_TEST_SUITE_P(all, memory_use,
                         testing::Values(data_path::copy, data_path::user_copy,
                                         data_path::thread_copy, data_path::zero_copy,
                                         data_path::auto_buffer),
                         [](const auto& each) { return std::string{ublk::to_string(each.param)}; });

/// A disk of those who only have functions that take spans.
struct small_ram {
    std::vector<std::byte> bytes = std::vector<std::byte>(64u << 10);

    [[nodiscard]] std::uint64_t size() const noexcept { return bytes.size(); }
    ublk::result read(const ublk::request& r, std::span<std::byte> out) noexcept {
        std::memcpy(out.data(), &bytes[r.offset()], out.size());
        return ublk::ok;
    }
    ublk::result write(const ublk::request& r, std::span<const std::byte> in) noexcept {
        std::memcpy(&bytes[r.offset()], in.data(), in.size());
        return ublk::ok;
    }
};

using pooled_ram = ublk::device<small_ram, ublk::pooled>;
using memory_of_many = ublk_test::on_a_clean_system;

TEST_F(memory_of_many, disks_on_two_threads_is_not_that_of_their_tags) {
    constexpr unsigned disks = 32;
    const std::size_t before = own_kib();
    ublk::thread_set threads{{.threads = 2}};
    ublk::options requested = ublk_test::patient();
    requested.depth = 64;
    requested.max_io_bytes = 64u << 10;  // 4 MiB of tag buffers a queue
    std::vector<std::unique_ptr<pooled_ram>> all;
    for (unsigned i = 0; i < disks; ++i) {
        all.push_back(std::make_unique<pooled_ram>(small_ram{}, threads, requested));
        all.back()->start();
        EXPECT_EQ(all.back()->info().path, data_path::thread_copy)
            << all.back()->info().path_reason;
        ublk_test::client file{all.back()->path()};
        const auto pattern = ublk_test::pattern(0, 4096, i);
        EXPECT_EQ(file.write(8192, pattern), 0);
        std::vector<std::byte> found(pattern.size());
        EXPECT_EQ(file.read(8192, found), 0);
        EXPECT_TRUE(std::equal(found.begin(), found.end(), pattern.begin()));
    }
    if (!ublk_test::with_asan) {  // which has shadows and quarantines of its own
        EXPECT_LE(own_kib(), before + disks * 600) << "KiB of their own";
    }
    std::vector<std::thread> stops;
    for (const auto& each : all) {
        stops.emplace_back([&each] { each->stop(); });
    }
    for (std::thread& each : stops) {
        each.join();
    }
}

}  // namespace
}  // namespace memory_use_test
