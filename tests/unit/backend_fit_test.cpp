// SPDX-License-Identifier: MIT
#include <ublk/device/backend_fit.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace backend_fit_test {
namespace {

using ublk::disk_attributes;
using ublk::detail::misfit;

constexpr std::uint32_t max_io = 256u << 10;

[[nodiscard]] disk_attributes usual() {
    disk_attributes disk;
    disk.size = 1u << 20;
    disk.volatile_cache = true;
    disk.fua = true;
    disk.discards = true;
    disk.max_discard_size = 1u << 20;
    disk.discard_granularity = 4096;
    disk.max_write_zeroes_size = 1u << 20;
    return disk;
}

using change = std::function<void(disk_attributes&)>;

[[nodiscard]] std::string of(const change& disk_has, const change& backend_has) {
    disk_attributes disk = usual();
    disk_attributes backend = usual();
    disk_has(disk);
    backend_has(backend);
    return misfit(to_params(disk, max_io), backend, max_io);
}

const change nothing = [](disk_attributes&) {};

TEST(backend_fit, the_same_backend_fits) {
    EXPECT_EQ(of(nothing, nothing), "");
}

TEST(backend_fit, what_clients_have_seen_stays_true) {
    const std::vector<std::pair<const char*, change>> backends{
        {"bytes", [](disk_attributes& d) { d.size = 2u << 20; }},
        {"logical_block_size",
         [](disk_attributes& d) { d.logical_block_size = d.physical_block_size = 4096; }},
        {"physical_block_size", [](disk_attributes& d) { d.physical_block_size = 4096; }},
        {"read-only", [](disk_attributes& d) { d.read_only = true; }},
        {"FUA", [](disk_attributes& d) { d.fua = false; }},
        {"discards", [](disk_attributes& d) { d.discards = false; }},
        {"discards", [](disk_attributes& d) { d.max_discard_size = 4096; }},
        {"discard_granularity", [](disk_attributes& d) { d.discard_granularity = 8192; }},
        {"WRITE_ZEROES", [](disk_attributes& d) { d.max_write_zeroes_size = 0; }},
        {"dma_alignment", [](disk_attributes& d) { d.dma_alignment = 512; }},
        {"segments", [](disk_attributes& d) { d.max_segments = 4; }},
        {"segments", [](disk_attributes& d) { d.max_segment_size = 4096; }},
        {"segments", [](disk_attributes& d) { d.segment_boundary = 4096; }},
    };
    for (const auto& [word, backend] : backends) {
        EXPECT_NE(of(nothing, backend).find(word), std::string::npos)
            << word << ": " << of(nothing, backend);
        EXPECT_EQ(of(backend, backend), "") << word;
    }
    EXPECT_NE(of([](disk_attributes& d) { d.volatile_cache = d.fua = false; }, nothing), "");
}

TEST(backend_fit, a_backend_may_do_more_than_clients_know) {
    EXPECT_EQ(of([](disk_attributes& d) { d.read_only = true; }, nothing), "");
    EXPECT_EQ(of([](disk_attributes& d) { d.discards = false; }, nothing), "");
    EXPECT_EQ(of([](disk_attributes& d) { d.max_write_zeroes_size = 0; }, nothing), "");
    EXPECT_EQ(of([](disk_attributes& d) { d.dma_alignment = 512; }, nothing), "");
    EXPECT_EQ(of([](disk_attributes& d) { d.max_segments = 4; }, nothing), "");
    EXPECT_EQ(of([](disk_attributes& d) { d.physical_block_size = 4096; }, nothing), "");
    // Without a cache every write is durable, which FLUSH and FUA ask for.
    EXPECT_EQ(of(nothing, [](disk_attributes& d) { d.volatile_cache = d.fua = false; }), "");
    // Hints.
    EXPECT_EQ(of(nothing, [](disk_attributes& d) { d.rotational = true; }), "");
    EXPECT_EQ(of(nothing, [](disk_attributes& d) { d.optimal_io_size = 1u << 16; }), "");
}

}  // namespace
}  // namespace backend_fit_test
