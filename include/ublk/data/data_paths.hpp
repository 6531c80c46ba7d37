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

namespace ublk::inline v0::detail {

/// How one data path moves a request's bytes. Chosen once, at start.
///
/// | expression                  | meaning                                                       |
/// |-----------------------------|---------------------------------------------------------------|
/// | `P::id`                     | its name                                                      |
/// | `P::payload`                | what the backend gets                                         |
/// | `P::address(tag_ref)`     | what goes with the tag to the driver                          |
/// | `P::bytes(tag_ref, size)` | the payload of a request of that many bytes                   |
template <class P>
concept path_policy = requires(const tag_ref& at, std::size_t size) {
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

/// One for each `data_path`.
namespace paths {

/// The kernel copies into and out of the tag's buffer.
struct copy {
    static constexpr data_path id = data_path::copy;
    using payload = std::span<std::byte>;

    [[nodiscard]] static buffer_address address(const tag_ref& at) noexcept {
        return {.memory = reinterpret_cast<std::uintptr_t>(at.queue.data[at.tag])};
    }
    [[nodiscard]] static payload bytes(const tag_ref& at, std::size_t size) noexcept {
        return {at.queue.data[at.tag], size};
    }
};

/// The kernel copies into and out of the tag's buffer, which is registered with the ring: an
/// operation upon it need not look up and pin its pages.
struct fixed_copy {
    static constexpr data_path id = data_path::fixed_copy;
    using payload = registered_buffer;

    [[nodiscard]] static buffer_address address(const tag_ref& at) noexcept {
        return {.memory = reinterpret_cast<std::uintptr_t>(at.queue.data[at.tag])};
    }
    [[nodiscard]] static payload bytes(const tag_ref& at, std::size_t size) noexcept {
        return {at.index, reinterpret_cast<std::uintptr_t>(at.queue.data[at.tag]), size};
    }
};

/// The backend copies, by pread and pwrite on /dev/ublkcN.
struct user_copy {
    static constexpr data_path id = data_path::user_copy;
    using payload = ublk::user_copy;

    [[nodiscard]] static buffer_address address(const tag_ref&) noexcept { return {}; }
    [[nodiscard]] static payload bytes(const tag_ref& at, std::size_t size) noexcept {
        return {at.queue.file, uapi::user_copy_position(at.queue.id.value(), at.tag.value(), 0),
                size};
    }
};

/// The kernel copies straight out of and into the backend's memory: with NEED_GET_DATA the driver
/// asks for the place of each write, and the place of a read goes with its commit.
struct get_data {
    static constexpr data_path id = data_path::get_data;
    using payload = std::span<std::byte>;

    [[nodiscard]] static buffer_address address(const tag_ref&) noexcept { return {}; }
    [[nodiscard]] static payload bytes(const tag_ref&, std::size_t) noexcept { return {}; }
};

/// The client's pages are put into the ring's table of buffers by a command of ours, for as long as
/// the request lasts.
struct zero_copy {
    static constexpr data_path id = data_path::zero_copy;
    using payload = registered_buffer;

    [[nodiscard]] static buffer_address address(const tag_ref&) noexcept { return {}; }
    [[nodiscard]] static payload bytes(const tag_ref& at, std::size_t size) noexcept {
        return {at.index, 0, size};
    }
};

/// The backend registers the client's pages itself, with whichever ring and on whichever thread.
struct pages {
    static constexpr data_path id = data_path::pages;
    using payload = client_pages;

    [[nodiscard]] static buffer_address address(const tag_ref&) noexcept { return {}; }
    [[nodiscard]] static payload bytes(const tag_ref& at, std::size_t size) noexcept {
        return {at.queue.file, at.queue.id.value(), at.tag.value(), 0, size};
    }
};

/// The driver puts the client's pages into the ring's table of buffers with each request and takes
/// them out with its commit. Where it fails to, it says so (uapi::io_flag::need_reg_buf) and we do.
struct auto_buffer {
    static constexpr data_path id = data_path::auto_buffer;
    using payload = registered_buffer;

    [[nodiscard]] static buffer_address address(const tag_ref& at) noexcept {
        const uapi::auto_buf_reg place{.index = at.index, .flags = uapi::auto_buf_reg_fallback};
        return {.registration = place.sqe_addr()};
    }
    [[nodiscard]] static payload bytes(const tag_ref& at, std::size_t size) noexcept {
        return {at.index, 0, size};
    }
};

}  // namespace paths

}  // namespace ublk::inline v0::detail
