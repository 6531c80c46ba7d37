// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/path_policy.hpp>

namespace ublk::inline v0::paths {

/// The kernel copies into and out of the tag's buffer, which is registered with the ring: an
/// operation upon it need not look up and pin its pages.
struct fixed_copy {
    static constexpr data_path id = data_path::fixed_copy;
    using payload = registered_buffer;

    [[nodiscard]] static buffer_address address(const tag_place& at) noexcept {
        return {.memory = reinterpret_cast<std::uintptr_t>(at.of.data[at.which])};
    }
    [[nodiscard]] static payload bytes(const tag_place& at, std::size_t size) noexcept {
        return {at.index, reinterpret_cast<std::uintptr_t>(at.of.data[at.which]), size};
    }
};

static_assert(path_policy<fixed_copy>);

}  // namespace ublk::inline v0::paths
