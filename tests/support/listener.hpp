// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/event.hpp>

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace ublk_test {

/// What an event hook has been told, from any thread.
struct listener {
    static void log(const ublk::event& e) {
        const std::lock_guard lock{mutex};
        told.push_back(to_string(e));
    }
    /// All of it, which is forgotten then.
    static std::vector<std::string> take() {
        const std::lock_guard lock{mutex};
        return std::exchange(told, {});
    }

private:
    static inline std::mutex mutex;
    static inline std::vector<std::string> told;
};

/// How many of them have that part.
inline std::size_t count_of(const std::vector<std::string>& all, const std::string& part) {
    return static_cast<std::size_t>(std::ranges::count_if(
        all, [&](const std::string& each) { return each.find(part) != each.npos; }));
}

}  // namespace ublk_test
