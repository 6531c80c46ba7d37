// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/fnv.hpp>
#include <ublk/error.hpp>
#include <ublk/kernel/host.hpp>
#include <ublk/uapi.hpp>

#include <cerrno>
#include <cstdint>
#include <optional>
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

/// The device with that number, where it is still the one of that identity: somebody may have
/// deleted it, and the driver may have given its number to another, or another process may serve it
/// by now. Throws `error`.
template <class Kernel, class Commands>
[[nodiscard]] std::optional<uapi::dev_info> find_own(const Kernel& running, Commands& control,
                                                     std::uint32_t id, device_identity mine) {
    try {
        const uapi::dev_info found = control.get_dev_info(id);
        const bool served_elsewhere =
            found.state == uapi::dev_state::live && found.pid != running.process_id();
        if (device_identity{found.server_flags} == mine && !served_elsewhere) {
            return found;
        }
    } catch (const error& none) {
        if (none.errno_value() != ENODEV) {
            throw;
        }
    }
    return std::nullopt;
}

}  // namespace ublk::inline v0::detail
