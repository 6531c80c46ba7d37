// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/features.hpp>
#include <ublk/options.hpp>
#include <ublk/uapi.hpp>

#include <cstdint>
#include <string>

namespace ublk::inline v0::detail {

/// The flags by which the driver knows what is to become of a disk without a server.
[[nodiscard]] constexpr std::uint64_t features_of(recovery_kind kind) noexcept {
    switch (kind) {
    case recovery_kind::none:
        return 0;
    case recovery_kind::fail_in_flight:
        return uapi::feature::user_recovery;
    case recovery_kind::reissue:
        return uapi::feature::user_recovery | uapi::feature::user_recovery_reissue;
    case recovery_kind::fail_io:
        return uapi::feature::user_recovery | uapi::feature::user_recovery_fail_io;
    }
    return 0;
}

[[nodiscard]] constexpr recovery_kind recovery_of(std::uint64_t flags) noexcept {
    return (flags & uapi::feature::user_recovery) == 0           ? recovery_kind::none
           : (flags & uapi::feature::user_recovery_reissue) != 0 ? recovery_kind::reissue
           : (flags & uapi::feature::user_recovery_fail_io) != 0 ? recovery_kind::fail_io
                                                                 : recovery_kind::fail_in_flight;
}

/// Whether requests wait while there is no server. Of such a disk STOP_DEV fails what it would
/// write back (as of Linux 6.12 and 7.3).
[[nodiscard]] constexpr bool waits_for_server(recovery_kind kind) noexcept {
    return kind == recovery_kind::fail_in_flight || kind == recovery_kind::reissue;
}

/// A device as the driver has it, in our words. `known` are the features of the driver.
[[nodiscard]] inline device_info granted_info(const uapi::dev_info& granted, std::uint64_t known,
                                              data_path path, const std::string& reason) {
    device_info info;
    info.id = granted.dev_id;
    info.queues = granted.nr_hw_queues;
    info.depth = granted.queue_depth;
    info.max_io_bytes = granted.max_io_buf_bytes;
    info.flags = granted.flags;
    info.driver_features = known;
    // Drivers before 7.3 leave this field as we sent it: zero.
    const bool spaced = (granted.flags & uapi::feature::io_desc_size) != 0;
    info.io_desc_size = spaced ? granted.io_desc_size : sizeof(uapi::io_desc);
    info.path = path;
    info.path_reason = reason;
    info.batch_io = (granted.flags & uapi::feature::batch_io) != 0;
    info.recovery = recovery_of(granted.flags);
    return info;
}

}  // namespace ublk::inline v0::detail
