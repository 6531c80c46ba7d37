// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <mutex>
#include <string>
#include <vector>

namespace ublk::inline v0::detail {

/// What the threads of a device do without, and why: each sentence once, however many say it.
template <class Kernel>
class fallback_list {
public:
    void note(const std::string& reason) {
        const std::lock_guard lock{mutex_};
        if (std::find(all_.begin(), all_.end(), reason) == all_.end()) {
            all_.push_back(reason);
        }
    }
    [[nodiscard]] std::vector<std::string> all() const {
        const std::lock_guard lock{mutex_};
        return all_;
    }

private:
    mutable typename Kernel::mutex mutex_;
    std::vector<std::string> all_;
};

}  // namespace ublk::inline v0::detail
