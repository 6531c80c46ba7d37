// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/path_policy.hpp>

namespace ublk::inline v0::paths {

/// The driver puts the client's pages into the ring's table of buffers with each request and takes
/// them out with its commit. Where it fails to, it says so (uapi::io_flag::need_reg_buf) and we do.
struct auto_buffer {
    static constexpr data_path id = data_path::auto_buffer;
    using payload = registered_buffer;

    [[nodiscard]] static buffer_address address(const tag_place& at) noexcept {
        const uapi::auto_buf_reg place{.index = at.index, .flags = uapi::auto_buf_reg_fallback};
        return {.registration = place.sqe_addr()};
    }
    [[nodiscard]] static payload bytes(const tag_place& at, std::size_t size) noexcept {
        return {at.index, 0, size};
    }
};

static_assert(path_policy<auto_buffer>);

}  // namespace ublk::inline v0::paths
