// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/fnv.hpp>
#include <ublk/kernel/host.hpp>
#include <ublk/uapi.hpp>

#include <cstdint>
#include <string_view>

namespace ublk::inline v0::detail {

/// The 64 bits that the driver keeps of a server beside the number of its device (`server_flags`):
/// that a device is of this library, and which one.
///
///     63 ... 48   47     46 ... 0
///     "ub"        named  hash of its name, or what no other device of this boot has
class device_identity {
public:
    /// Of nothing.
    constexpr device_identity() noexcept = default;

    constexpr explicit device_identity(std::uint64_t server_flags) noexcept : bits_{server_flags} {}

    /// Of a device that has no name.
    template <host Host>
    [[nodiscard]] static device_identity unique(const Host& running) noexcept {
        const auto now = static_cast<std::uint64_t>(running.now().time_since_epoch().count());
        const auto process = static_cast<std::uint64_t>(running.process_id());
        return device_identity{magic | ((now ^ process << 30) & number)};
    }

    [[nodiscard]] static constexpr device_identity of(std::string_view name) noexcept {
        return device_identity{magic | named | (fnv1a(name) & number)};
    }

    [[nodiscard]] constexpr std::uint64_t server_flags() const noexcept { return bits_; }

    /// Whether a server of this library has added the device.
    [[nodiscard]] constexpr bool ours() const noexcept { return (bits_ & magic_mask) == magic; }

    friend constexpr bool operator==(device_identity, device_identity) noexcept = default;

private:
    static constexpr std::uint64_t magic = std::uint64_t{0x7562} << 48;  // "ub"
    static constexpr std::uint64_t magic_mask = std::uint64_t{0xffff} << 48;
    static constexpr std::uint64_t named = std::uint64_t{1} << 47;
    static constexpr std::uint64_t number = named - 1;

    std::uint64_t bits_ = 0;
};

}  // namespace ublk::inline v0::detail
