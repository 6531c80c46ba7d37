// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/features.hpp>
#include <ublk/sim/machine.hpp>
#include <ublk/uapi.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdint>

namespace ublk::inline v0::sim {

/// What GET_FEATURES of that kernel answers.
[[nodiscard]] inline std::uint64_t features_of(kernel_version version) noexcept {
    std::uint64_t flags = 0;
    for (const feature_info& each : feature_infos) {
        flags |= each.since <= version ? each.flag : 0;
    }
    return flags;
}

namespace detail {

using namespace uapi::feature;

/// What ADD_DEV refuses in the flags. Returns 0 or -errno.
[[nodiscard]] inline int check_flags(uapi::dev_info& requested, const machine& on) noexcept {
    if (on.is.root) {
        requested.flags &= ~unprivileged_dev;
    } else if ((requested.flags & unprivileged_dev) == 0) {
        return -EPERM;
    }
    const bool fail_io_known = on.since(6, 13);
    constexpr std::uint64_t recovery =
        user_recovery | user_recovery_reissue | user_recovery_fail_io;
    const std::uint64_t wanted = requested.flags & recovery;
    if (fail_io_known && wanted != 0 && wanted != user_recovery &&
        wanted != (user_recovery | user_recovery_reissue) &&
        wanted != (user_recovery | user_recovery_fail_io)) {
        return -EINVAL;
    }
    if (on.since(6, 16) && (requested.flags & quiesce) != 0 &&
        (requested.flags & user_recovery) == 0) {
        return -EINVAL;
    }
    if ((requested.flags & unprivileged_dev) != 0) {
        requested.flags &= ~(user_recovery | user_recovery_reissue);
        const std::uint64_t refused = (on.since(6, 12) ? uapi::feature::user_copy : 0) |
                                      (on.since(6, 15) ? support_zero_copy : 0) |
                                      (on.since(6, 16) ? auto_buf_reg : 0);
        if ((requested.flags & refused) != 0) {
            return -EINVAL;
        }
    }
    const bool integrity_alone =
        (requested.flags & integrity) != 0 && (requested.flags & uapi::feature::user_copy) == 0;
    return on.since(7, 0) && integrity_alone ? -EINVAL : 0;
}

/// What ADD_DEV sets, clears and refuses once the device has its number.
[[nodiscard]] inline int grant_flags(std::uint64_t& flags, const machine& on) noexcept {
    flags &= features_of(on.is.version);
    flags |= always_on_features & features_of(on.is.version);
    if ((flags & uapi::feature::batch_io) != 0) {
        flags &= ~per_io_daemon;
    }
    if ((flags & (uapi::feature::user_copy | support_zero_copy | auto_buf_reg |
                  uapi::feature::batch_io)) != 0) {
        flags &= ~need_get_data;
    }
    const std::uint64_t zoned_needs =
        uapi::feature::user_copy | (on.since(6, 15) ? support_zero_copy : 0);
    const bool no_zones = !on.is.zoned || (flags & zoned_needs) == 0;
    return (flags & zoned) != 0 && no_zones ? -EINVAL : 0;
}

}  // namespace detail

/// ADD_DEV before the device exists: returns 0 or -errno in the driver's order of checks.
/// `header_id` is the number that the command's header names.
[[nodiscard]] inline int check_add(uapi::dev_info& requested, std::uint32_t header_id,
                                   const machine& on) noexcept {
    if (requested.queue_depth == 0 || requested.queue_depth > uapi::max_queue_depth ||
        requested.nr_hw_queues == 0 || requested.nr_hw_queues > uapi::max_nr_queues) {
        return -EINVAL;
    }
    if (const int code = detail::check_flags(requested, on); code != 0) {
        return code;
    }
    if (!on.since(7, 3)) {
        // The field was padding, which the driver hands back as it came.
    } else if ((requested.flags & uapi::feature::io_desc_size) == 0) {
        requested.io_desc_size = sizeof(uapi::io_desc);
    } else if (requested.io_desc_size < sizeof(uapi::io_desc) ||
               requested.io_desc_size % alignof(uapi::io_desc) != 0 ||
               requested.io_desc_size > uapi::max_io_desc_size) {
        return -EINVAL;
    }
    requested.owner_uid = requested.owner_gid = on.is.root ? 0 : 1000;
    if (header_id != requested.dev_id) {
        return -EINVAL;
    }
    return header_id != uapi::any_dev_id && header_id >= uapi::max_devices ? -EINVAL : 0;
}

/// The rest of ADD_DEV: clamps and masks what was asked into what is granted.
[[nodiscard]] inline int grant(uapi::dev_info& info, std::uint32_t page_size,
                               const machine& on) noexcept {
    if (const int code = detail::grant_flags(info.flags, on); code != 0) {
        return code;
    }
    info.state = uapi::dev_state::dead;
    info.pid = -1;
    info.nr_hw_queues =
        static_cast<std::uint16_t>(std::min<unsigned>(info.nr_hw_queues, on.is.cpus));
    info.max_io_buf_bytes -= info.max_io_buf_bytes % page_size;
    return 0;
}

}  // namespace ublk::inline v0::sim
