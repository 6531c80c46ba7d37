// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/path_policy.hpp>

namespace ublk::inline v0::paths {

/// The backend copies, by pread and pwrite on /dev/ublkcN.
struct user_copy {
    static constexpr data_path id = data_path::user_copy;
    using payload = ublk::user_copy;

    [[nodiscard]] static buffer_address address(const tag_place&) noexcept { return {}; }
    [[nodiscard]] static payload bytes(const tag_place& at, std::size_t size) noexcept {
        return {at.of.file, uapi::user_copy_position(at.of.id.value(), at.which.value(), 0), size};
    }
};

static_assert(path_policy<user_copy>);

}  // namespace ublk::inline v0::paths
