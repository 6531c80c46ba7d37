// SPDX-License-Identifier: MIT
#pragma once

#include <compare>
#include <string>

namespace ublk::inline v0 {

/// Major and minor number of a kernel, and the patch level within its stable series.
struct kernel_version {
    unsigned major = 0;
    unsigned minor = 0;
    unsigned patch = 0;

    [[nodiscard]] std::string text() const {
        return std::to_string(major) + "." + std::to_string(minor) +
               (patch != 0 ? "." + std::to_string(patch) : "");
    }

    friend constexpr auto operator<=>(kernel_version, kernel_version) noexcept = default;
};

/// The oldest kernel that the library serves.
inline constexpr kernel_version oldest_kernel{6, 8};

}  // namespace ublk::inline v0
