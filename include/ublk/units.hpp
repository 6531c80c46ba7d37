// SPDX-License-Identifier: MIT
#pragma once

// Units live in types, so that a sector count never meets a byte count by accident and a tag is
// never passed where a queue number belongs. The number 512 appears here and nowhere else.

#include <compare>
#include <cstdint>

namespace ublk::inline v0 {

// The block layer counts in these, whatever the logical block size of a disk is.
inline constexpr std::uint32_t sector_size = 512;
inline constexpr std::uint32_t sector_shift = 9;
static_assert(sector_size == 1u << sector_shift);

// One request slot of a queue, below the queue's depth.
class tag {
public:
    constexpr tag() noexcept = default;
    constexpr explicit tag(std::uint16_t value) noexcept : value_{value} {}
    [[nodiscard]] constexpr std::uint16_t value() const noexcept { return value_; }
    friend constexpr auto operator<=>(tag, tag) noexcept = default;

private:
    std::uint16_t value_ = 0;
};

// One hardware queue of a device, below the granted number of queues.
class queue_id {
public:
    constexpr queue_id() noexcept = default;
    constexpr explicit queue_id(std::uint16_t value) noexcept : value_{value} {}
    [[nodiscard]] constexpr std::uint16_t value() const noexcept { return value_; }
    friend constexpr auto operator<=>(queue_id, queue_id) noexcept = default;

private:
    std::uint16_t value_ = 0;
};

// Requires: sectors below 2^55, which every sector number the kernel hands out is.
[[nodiscard]] constexpr std::uint64_t sectors_to_bytes(std::uint64_t sectors) noexcept {
    return sectors << sector_shift;
}

// A last part of a sector is dropped: a disk must not promise bytes that its backend lacks.
[[nodiscard]] constexpr std::uint64_t bytes_to_sectors(std::uint64_t bytes) noexcept {
    return bytes >> sector_shift;
}

[[nodiscard]] constexpr bool is_sector_aligned(std::uint64_t bytes) noexcept {
    return (bytes & (sector_size - 1)) == 0;
}

[[nodiscard]] constexpr bool is_power_of_two(std::uint64_t value) noexcept {
    return value != 0 && (value & (value - 1)) == 0;
}

// Requires: power is a power of two, and the result fits.
[[nodiscard]] constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t power) noexcept {
    return (value + power - 1) & ~(power - 1);
}

// Requires: power is a power of two.
[[nodiscard]] constexpr std::uint64_t round_down(std::uint64_t value,
                                                 std::uint64_t power) noexcept {
    return value & ~(power - 1);
}

// The kernel's parameters carry block sizes as shifts. Requires: power is a power of two.
[[nodiscard]] constexpr std::uint8_t shift_of(std::uint64_t power) noexcept {
    std::uint8_t shift = 0;
    while (power > 1) {
        power >>= 1;
        ++shift;
    }
    return shift;
}

}  // namespace ublk::inline v0
