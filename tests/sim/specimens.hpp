// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backends/memory.hpp>
#include <ublk/backends/null.hpp>
#include <ublk/sim/laws.hpp>

#include <cstdint>
#include <memory>

// Our backends, as the laws are to try them.

using ublk::backends::memory;
using null_disk = ublk::backends::null;
using ublk::sim::cached_disk;

#ifdef UBLK_TEST_TWO_POLICIES
#undef UBLK_BACKEND_LAWS_AT
#define UBLK_BACKEND_LAWS_AT(number, ...)                                                          \
    UBLK_LAWS_WITH(number, #__VA_ARGS__, __VA_ARGS__)                                              \
    UBLK_LAWS_IN(number, backend,                                                                  \
                 ::testing::Types<composition<tried::type, per_cpu, each>,                         \
                                  composition<tried::type, shared, per_wakeup>>)
#endif

namespace disks {

/// A memory disk that nobody may write to.
template <std::uint64_t Bytes, std::uint32_t BlockSize>
struct write_protected : memory {
    write_protected() : memory{Bytes, {.logical_block_size = BlockSize, .read_only = true}} {}
};

/// One so large that it knows its holes.
struct large_memory : memory {
    large_memory() : memory{memory::tracked_above + (256u << 10)} {}
};

}  // namespace disks

/// Memory that a next process finds again, as shared memory is.
template <>
struct ublk::sim::specimen<memory> {
    static std::shared_ptr<memory> make() { return std::make_shared<memory>(256u << 10); }
    static std::shared_ptr<memory> revive(const std::shared_ptr<memory>& dead) { return dead; }
    static constexpr bool remembers = true;
};

template <>
struct ublk::sim::specimen<null_disk> {
    static std::shared_ptr<null_disk> make() { return std::make_shared<null_disk>(1u << 20); }
    static constexpr bool remembers = false;
};
