// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/fd.hpp>
#include <ublk/error.hpp>

#include <fcntl.h>

#include <cerrno>
#include <cstdint>
#include <string>

namespace ublk::inline v0::detail {

/// Whether somebody has /dev/ublkbN for itself, as mounts and device mapper have.
/// Throws: `error` where there is no such node, or it cannot be opened.
[[nodiscard]] inline bool used_exclusively(std::uint32_t id) {
    const std::string path = "/dev/ublkb" + std::to_string(id);
    const fd node{::open(path.c_str(), O_RDONLY | O_EXCL | O_NONBLOCK | O_CLOEXEC)};
    if (node || errno == EBUSY) {
        return !node;
    }
    const bool none = errno == ENOENT || errno == ENXIO;
    fail(none ? ENODEV : errno, "opening " + path, id,
         none ? "there is no such device, or it has no disk" : "this process may not open it",
         none ? "start the device first" : "run as root");
}

}  // namespace ublk::inline v0::detail
