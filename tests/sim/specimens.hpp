// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backends/memory.hpp>
#include <ublk/backends/null.hpp>
#include <ublk/sim/laws.hpp>

#include <memory>

// Our backends, as the laws are to try them.

using ublk::backends::memory;
using null_disk = ublk::backends::null;
using ublk::sim::cached_disk;

#ifdef UBLK_TEST_TWO_POLICIES
#undef UBLK_BACKEND_LAWS
#define UBLK_BACKEND_LAWS(backend)                                                                 \
    UBLK_LAWS_OF(backend, ::testing::Types<composition<::backend, per_cpu, each>,                  \
                                           composition<::backend, shared, per_wakeup>>)
#endif

/// A memory disk of large blocks that nobody may write to.
struct read_only_disk : memory {
    read_only_disk() : memory{256u << 10, {.logical_block_size = 4096, .read_only = true}} {}
};

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
