// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/path_policy.hpp>

namespace ublk::inline v0::paths {

/// The kernel copies into and out of the tag's buffer.
struct copy {
    static constexpr data_path id = data_path::copy;
    using payload = std::span<std::byte>;

    [[nodiscard]] static buffer_address address(const tag_place& at) noexcept {
        return {.memory = reinterpret_cast<std::uintptr_t>(at.of.data[at.which])};
    }
    [[nodiscard]] static payload bytes(const tag_place& at, std::size_t size) noexcept {
        return {at.of.data[at.which], size};
    }
};

static_assert(path_policy<copy>);

}  // namespace ublk::inline v0::paths
