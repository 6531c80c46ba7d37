// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/uapi.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

namespace ublk::inline v0 {

/// How a request's bytes get from its client to the backend and back.
enum class data_path : std::uint8_t {
    copy,         ///< the kernel copies into and out of a buffer that each tag has
    fixed_copy,   ///< the same, and io_uring knows these buffers: it need not pin their pages
    user_copy,    ///< the backend copies, by pread and pwrite on /dev/ublkcN; Linux 6.5
    get_data,     ///< the kernel copies straight out of and into the backend's own memory
    zero_copy,    ///< the client's pages are registered with the ring by commands of ours; 6.15
    pages,        ///< the backend registers them itself, with any ring; Linux 6.17
    auto_buffer,  ///< the driver registers them with each request; Linux 6.16
    thread_copy,  ///< the library copies, as user_copy, into and out of a buffer of the thread's
};

inline constexpr std::array data_path_names{
    std::pair{data_path::copy, std::string_view{"copy"}},
    std::pair{data_path::fixed_copy, std::string_view{"fixed_copy"}},
    std::pair{data_path::user_copy, std::string_view{"user_copy"}},
    std::pair{data_path::get_data, std::string_view{"get_data"}},
    std::pair{data_path::zero_copy, std::string_view{"zero_copy"}},
    std::pair{data_path::pages, std::string_view{"pages"}},
    std::pair{data_path::auto_buffer, std::string_view{"auto_buffer"}},
    std::pair{data_path::thread_copy, std::string_view{"thread_copy"}},
};

[[nodiscard]] constexpr std::string_view to_string(data_path path) noexcept {
    return data_path_names[static_cast<std::size_t>(path)].second;
}

/// The path of that name.
[[nodiscard]] constexpr std::optional<data_path> data_path_named(std::string_view name) noexcept {
    for (const auto& [path, its_name] : data_path_names) {
        if (its_name == name) {
            return path;
        }
    }
    return std::nullopt;
}

/// uapi::feature bits without which the driver does not do it. What a driver registers by itself it
/// may fail to; then we do it, for which it takes the second bit.
[[nodiscard]] constexpr std::uint64_t features_of(data_path path) noexcept {
    switch (path) {
    case data_path::copy:
    case data_path::fixed_copy:
        return 0;
    case data_path::user_copy:
    case data_path::thread_copy:
        return uapi::feature::user_copy;
    case data_path::get_data:
        return uapi::feature::need_get_data;
    case data_path::zero_copy:
        return uapi::feature::support_zero_copy;
    case data_path::pages:
        return uapi::feature::support_zero_copy | uapi::feature::buf_reg_off_daemon;
    case data_path::auto_buffer:
        return uapi::feature::auto_buf_reg | uapi::feature::support_zero_copy;
    }
    return 0;
}

/// Whether each tag has a buffer of options::max_io_bytes.
[[nodiscard]] constexpr bool has_tag_buffers(data_path path) noexcept {
    return path == data_path::copy || path == data_path::fixed_copy;
}

/// Whether the client's pages go into the ring's table of buffers.
[[nodiscard]] constexpr bool registers_requests(data_path path) noexcept {
    return path == data_path::zero_copy || path == data_path::auto_buffer;
}

/// Whether the driver's own batches have it: they leave nobody to be asked where a write belongs,
/// and have the form that goes with tag buffers or the one without, as the backend's functions say.
[[nodiscard]] constexpr bool batches_carry(data_path path) noexcept {
    return path != data_path::get_data && path != data_path::thread_copy;
}

}  // namespace ublk::inline v0
