// SPDX-License-Identifier: MIT
#include <ublk/backends/copy_buffers.hpp>

#include <ublk/backend.hpp>
#include <ublk/backends/file_more_paths.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <set>
#include <thread>
#include <utility>
#include <vector>

namespace copy_buffers_test {
namespace {

using ublk::detail::copy_buffers;

static_assert(ublk::check_backend<ublk::backends::file_more_paths>());
static_assert(ublk::offers<ublk::backends::file_more_paths>(ublk::data_path::user_copy));
static_assert(ublk::offers<ublk::backends::file_more_paths>(ublk::data_path::pages));
static_assert(!ublk::offers<ublk::backends::file>(ublk::data_path::user_copy),
              "which a file with registered buffers would rather not be served by");

TEST(copy_buffers, are_apart_and_come_back) {
    copy_buffers all;
    std::set<std::byte*> places;
    {
        std::vector<copy_buffers::buffer> taken;
        for (std::size_t i = 0; i < copy_buffers::count; ++i) {
            taken.push_back(all.take());
            ASSERT_TRUE(taken.back());
            ASSERT_EQ(taken.back().bytes().size(), copy_buffers::bytes_each);
            places.insert(taken.back().bytes().data());
            taken.back().bytes().front() = taken.back().bytes().back() = std::byte{1};
        }
        EXPECT_EQ(places.size(), copy_buffers::count);
        EXPECT_FALSE(all.take()) << "all are taken";
        taken.erase(taken.begin() + 5);
        const copy_buffers::buffer again = all.take();
        EXPECT_TRUE(again);
        EXPECT_FALSE(all.take());
    }
    EXPECT_TRUE(all.take());
}

TEST(copy_buffers, are_one_threads_at_a_time) {
    copy_buffers all;
    std::atomic<bool> shared = false;
    std::array<std::atomic<bool>, copy_buffers::count> in_use{};
    std::byte* const begin = all.take().bytes().data();
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 20'000; ++i) {
                const copy_buffers::buffer mine = all.take();
                const auto offset = static_cast<std::size_t>(mine.bytes().data() - begin);
                std::atomic<bool>& used = in_use.at(offset / copy_buffers::bytes_each);
                shared = shared || used.exchange(true);
                used = false;
            }
        });
    }
    threads.clear();
    EXPECT_FALSE(shared);
}

}  // namespace
}  // namespace copy_buffers_test
