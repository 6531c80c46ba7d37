// SPDX-License-Identifier: MIT

// What a server takes of memory that is its own: what the tag buffers need, where its data path has
// any, and a quarter of a MiB for each queue and its thread.

#include "client.hpp"

#include <ublk/backends/file.hpp>
#include <ublk/backends/memory.hpp>
#include <ublk/backends/null.hpp>
#include <ublk/ublk.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

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
        } else if (GetParam() == data_path::user_copy) {
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
    expect_little<ublk::batch_io>();
}

INSTANTIATE_TEST_SUITE_P(all, memory_use,
                         testing::Values(data_path::copy, data_path::user_copy,
                                         data_path::zero_copy, data_path::auto_buffer),
                         [](const auto& each) { return std::string{ublk::to_string(each.param)}; });

}  // namespace
}  // namespace memory_use_test
