// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/path_policy.hpp>

namespace ublk::inline v0::paths {

/// The kernel copies straight out of and into the backend's memory: with NEED_GET_DATA the driver
/// asks for the place of each write, and the place of a read goes with its commit.
struct lend {
    static constexpr data_path id = data_path::lend;
    using payload = std::span<std::byte>;

    [[nodiscard]] static buffer_address address(const tag_place&) noexcept { return {}; }
    [[nodiscard]] static payload bytes(const tag_place&, std::size_t) noexcept { return {}; }
};

static_assert(path_policy<lend>);

}  // namespace ublk::inline v0::paths
