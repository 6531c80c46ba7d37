// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/queue.hpp>
#include <ublk/data_path.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/payload.hpp>
#include <ublk/request.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace ublk::inline v0 {

/// A tag of one queue, and its place among all tags of its thread.
struct tag_place {
    const queue& of;
    tag which;
    std::uint16_t index;
};

/// How one data path moves a request's bytes. Chosen once, at start.
///
/// | expression                  | meaning                                                       |
/// |-----------------------------|---------------------------------------------------------------|
/// | `P::id`                     | its name                                                      |
/// | `P::payload`                | what the backend gets                                         |
/// | `P::address(tag_place)`     | what goes with the tag to the driver                          |
/// | `P::bytes(tag_place, size)` | the payload of a request of that many bytes                   |
template <class P>
concept path_policy = requires(const tag_place& at, std::size_t size) {
    requires std::same_as<const data_path, decltype(P::id)>;
    { P::address(at) }
    noexcept->std::same_as<buffer_address>;
    { P::bytes(at, size) }
    noexcept->std::same_as<typename P::payload>;
};

/// Whether it is on us to put the client's pages of that request into the table of buffers.
[[nodiscard]] constexpr bool registers_itself(data_path path, const request& r) noexcept {
    return path == data_path::zero_copy ||
           (path == data_path::auto_buffer && (r.flags() & uapi::io_flag::need_reg_buf) != 0);
}

}  // namespace ublk::inline v0
