// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/path_policy.hpp>

namespace ublk::inline v0::paths {

/// The client's pages are put into the ring's table of buffers by a command of ours, for as long as
/// the request lasts.
struct zero_copy {
    static constexpr data_path id = data_path::zero_copy;
    using payload = registered_buffer;

    [[nodiscard]] static buffer_address address(const tag_place&) noexcept { return {}; }
    [[nodiscard]] static payload bytes(const tag_place& at, std::size_t size) noexcept {
        return {at.index, 0, size};
    }
};

static_assert(path_policy<zero_copy>);

}  // namespace ublk::inline v0::paths
