// SPDX-License-Identifier: MIT
// expect: ublk: a queue policy's `measuring` is ublk::stats, ublk::no_stats, or what measuring.hpp
//         asks for

#include "disk.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>

struct adds_up : ublk::no_stats {
    struct meter : ublk::no_stats::meter {
        using ublk::no_stats::meter::meter;
        template <class Clock>
#ifdef UBLK_REJECT
        static void answered(const Clock&, std::uint16_t, const ublk::request&, ublk::result) {
        }
#else
        static void answered(const Clock&, std::uint16_t, std::uint16_t, const ublk::request&,
                             ublk::result) noexcept {
        }
#endif
    };
};

template void serve<disk, ublk::with<ublk::per_cpu, adds_up>>();
