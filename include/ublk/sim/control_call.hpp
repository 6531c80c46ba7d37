// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/kernel/kernel.hpp>
#include <ublk/sim/ring.hpp>
#include <ublk/sim/seam.hpp>
#include <ublk/uapi.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>

namespace ublk::inline v0::sim {

/// One control command with the kernel.
struct control_call {
    control_command command;
    process* from = nullptr;
    std::shared_ptr<task> worker{};
    bool running = false;
    bool cancelled = false;
    bool interruptible = false;  ///< waits where a signal reaches it
    std::optional<int> answer{};
    wait_list waiting{};
};

/// The command's buffer, without the path that may come first.
struct user_buffer {
    std::byte* data = nullptr;
    std::size_t len = 0;

    template <class T>
    [[nodiscard]] T get() const noexcept {
        T value{};
        std::memcpy(static_cast<void*>(&value), data, std::min(len, sizeof value));
        return value;
    }
    void put(const void* from, std::size_t bytes) const noexcept {
        std::memcpy(data, from, std::min(len, bytes));
    }
};

/// All that the driver looks at in a command's word, but for GET_FEATURES.
[[nodiscard]] constexpr std::uint32_t number(std::uint32_t op) noexcept {
    return op & 0xff;
}

/// A command that may sleep goes on in a worker.
[[nodiscard]] inline bool may_sleep(std::uint32_t op, const machine& on) noexcept {
    using namespace uapi::ctrl;
    const std::uint32_t nr = number(op);
    return !on.since(7, 0) || (nr != number(get_queue_affinity) && nr != number(get_dev_info) &&
                               nr != number(get_dev_info2) && nr != number(get_features));
}

}  // namespace ublk::inline v0::sim
