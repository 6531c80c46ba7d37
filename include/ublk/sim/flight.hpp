// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/kernel/operation.hpp>
#include <ublk/kernel/user_data.hpp>
#include <ublk/sim/buffer_table.hpp>
#include <ublk/sim/scheduler.hpp>
#include <ublk/sim/seam.hpp>

#include <sys/uio.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

namespace ublk::inline v0::sim {

struct ring;

/// An operation of a backend that the kernel has taken and not answered.
struct flight {
    submission sqe;
    user_data ud{0};
    ring* to = nullptr;                         ///< null: nobody waits for it any more
    std::vector<iovec> pieces{};                ///< of readv and writev, as they were at its begin
    std::shared_ptr<registered_pages> pages{};  ///< of a fixed read or write
    std::chrono::nanoseconds time{};            ///< of a timeout
    bool cancelled = false;
    bool on_stream = false;   ///< a send or recv that may be short
    std::uint32_t moved = 0;  ///< what MSG_WAITALL has so far
    std::uint64_t number = 0;
    wait_list nap{};
};

using flight_ptr = std::shared_ptr<flight>;

}  // namespace ublk::inline v0::sim
