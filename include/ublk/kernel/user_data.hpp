// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/kernel/operation.hpp>
#include <ublk/units.hpp>

#include <cerrno>
#include <cstdint>

namespace ublk::inline v0::detail {

/// The 64 bits that travel with an io_uring operation and come back in its completion.
///
/// A request of the driver has bit 63 clear, so that the hot loop tests one sign bit; its bits 0-15
/// are the tag, 16-31 the queue's index among those of one thread. With bits 63 and 62 the rest is
/// the address of an operation of a backend; with bit 63 alone it is the library's own.
class user_data {
public:
    constexpr explicit user_data(std::uint64_t raw) noexcept : raw_{raw} {}

    [[nodiscard]] static constexpr user_data io(std::uint16_t queue_index, ublk::tag t) noexcept {
        return user_data{std::uint64_t{queue_index} << queue_shift | t.value()};
    }

    /// Somebody outside wants the thread to look up from its queue.
    [[nodiscard]] static constexpr user_data wake() noexcept { return user_data{engine_bit}; }

    /// Nobody waits for that answer.
    [[nodiscard]] static constexpr user_data nobody() noexcept { return user_data{engine_bit | 1}; }

    /// Something of all tags of a queue.
    [[nodiscard]] static constexpr user_data of_queue(std::uint16_t queue_index) noexcept {
        return batch(batch_kind::queue, queue_index);
    }

    /// What the driver's batches are about: the tags of a queue, as they are first given to the
    /// driver, as they come with requests, and as `count` of them go back with answers; and as one
    /// goes back, the `first`.
    enum class batch_kind : std::uint8_t { none, queue, prepared, fetched, committed, single };
    [[nodiscard]] static constexpr user_data batch(batch_kind kind, std::uint16_t queue_index,
                                                   std::uint16_t first = 0,
                                                   std::uint16_t count = 0) noexcept {
        return user_data{engine_bit | std::uint64_t{static_cast<std::uint8_t>(kind)} << kind_shift |
                         std::uint64_t{count} << count_shift |
                         std::uint64_t{queue_index} << queue_shift | first};
    }
    [[nodiscard]] constexpr batch_kind kind() const noexcept {
        return raw_ >> 62 == 2 ? static_cast<batch_kind>(raw_ >> kind_shift & 7) : batch_kind::none;
    }
    [[nodiscard]] constexpr std::uint16_t first() const noexcept {
        return static_cast<std::uint16_t>(raw_);
    }
    [[nodiscard]] constexpr std::uint16_t count() const noexcept {
        return static_cast<std::uint16_t>(raw_ >> count_shift);
    }

    /// A backend's operation; addresses of programs leave the upper bits free.
    [[nodiscard]] static user_data of(const operation& requested) noexcept {
        return user_data{engine_bit | operation_bit | reinterpret_cast<std::uintptr_t>(&requested)};
    }

    [[nodiscard]] constexpr bool is_operation() const noexcept { return raw_ >> 62 == 3; }
    [[nodiscard]] operation& operation_of() const noexcept {
        return *reinterpret_cast<operation*>(raw_ & ~(engine_bit | operation_bit));
    }

    [[nodiscard]] constexpr bool is_io() const noexcept { return (raw_ & engine_bit) == 0; }
    [[nodiscard]] constexpr ublk::tag tag() const noexcept {
        return ublk::tag{static_cast<std::uint16_t>(raw_)};
    }
    [[nodiscard]] constexpr std::uint16_t queue_index() const noexcept {
        return static_cast<std::uint16_t>(raw_ >> queue_shift);
    }
    [[nodiscard]] constexpr std::uint64_t raw() const noexcept { return raw_; }

    friend constexpr bool operator==(user_data, user_data) noexcept = default;

private:
    static constexpr unsigned queue_shift = 16;
    static constexpr unsigned count_shift = 32;
    static constexpr unsigned kind_shift = 48;
    static constexpr std::uint64_t engine_bit = 1ull << 63;
    static constexpr std::uint64_t operation_bit = 1ull << 62;

    std::uint64_t raw_;
};

static_assert(sizeof(user_data) == sizeof(std::uint64_t));

/// Whether io_uring_enter, which answered with that (0 or -errno), is simply called again: after a
/// signal, a passing shortage, or events that want to be reaped first.
[[nodiscard]] constexpr bool enters_again(int code) noexcept {
    return code == 0 || code == -EINTR || code == -EAGAIN || code == -EBUSY;
}

}  // namespace ublk::inline v0::detail
