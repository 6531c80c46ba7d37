// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/scheduler.hpp>
#include <ublk/uapi.hpp>

#include <cstddef>
#include <cstdint>

namespace ublk::inline v0::sim {

/// What a client asks of a disk. The block layer may cut it into several requests.
struct bio {
    uapi::op op = uapi::op::read;
    std::uint64_t sector = 0;
    std::uint64_t sectors = 0;
    std::uint32_t flags = 0;    ///< uapi::io_flag bits: fua, nounmap, meta ...
    std::byte* data = nullptr;  ///< of a read or a write
    unsigned cpu = 0;           ///< where it is asked, which decides the hardware queue

    int error = 0;  ///< positive errno, once it is done
    bool done = false;
    wait_list waiting{};
    wait_list* also = nullptr;  ///< woken as well

    // The block layer's own.
    std::uint64_t parts = 0;        ///< requests under way, and one while it is being cut
    bool flush_afterwards = false;  ///< FUA on a disk that has none
};

/// A part of a bio that one request can carry.
struct fragment {
    bio* of = nullptr;
    uapi::op op = uapi::op::read;
    std::uint32_t flags = 0;
    std::uint32_t sectors = 0;
    std::uint64_t sector = 0;
    std::byte* data = nullptr;
};

/// A request in its tag.
struct request_slot {
    fragment part;
    std::uint16_t queue = 0;
    std::uint16_t tag = 0;
    bool started = false;      ///< with the driver
    std::uint64_t number = 0;  ///< in the journal
};

}  // namespace ublk::inline v0::sim
