// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/path_policy.hpp>

namespace ublk::inline v0::paths {

/// The backend registers the client's pages itself, with whichever ring and on whichever thread.
struct pages {
    static constexpr data_path id = data_path::pages;
    using payload = client_pages;

    [[nodiscard]] static buffer_address address(const tag_place&) noexcept { return {}; }
    [[nodiscard]] static payload bytes(const tag_place& at, std::size_t size) noexcept {
        return {at.of.file, at.of.id.value(), at.which.value(), 0, size};
    }
};

static_assert(path_policy<pages>);

}  // namespace ublk::inline v0::paths
