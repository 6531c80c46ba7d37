// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/event.hpp>

#include <cstddef>
#include <mutex>
#include <vector>

namespace ublk::inline v0::detail {

/// The last events of one device, so that they are there without a hook. Any thread may use it.
template <class Kernel>
class event_log {
public:
    static constexpr std::size_t events_max = 64;

    void add(const event& latest) {
        const std::lock_guard lock{mutex_};
        if (events_.size() == events_max) {
            events_.erase(events_.begin());
        }
        events_.push_back(latest);
    }

    /// Oldest first.
    [[nodiscard]] std::vector<event> all() const {
        const std::lock_guard lock{mutex_};
        return events_;
    }

private:
    mutable typename Kernel::mutex mutex_;
    std::vector<event> events_;
};

}  // namespace ublk::inline v0::detail
