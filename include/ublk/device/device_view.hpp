// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/options.hpp>

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace ublk::inline v0 {

/// What any thread may ask of a device while another one starts or stops it.
template <class Mutex, class Crew>
class device_view {
public:
    using records = std::vector<std::shared_ptr<void>>;

    void publish(const device_info& granted, std::shared_ptr<Crew> threads) {
        const std::lock_guard lock{mutex_};
        info_ = granted;
        records_ = threads->records();
        threads_ = std::move(threads);
        started_once_ = true;
    }

    /// The threads are gone; what was granted and counted stays.
    void retire() noexcept {
        const std::lock_guard lock{mutex_};
        threads_.reset();
    }

    // In a child that was forked meanwhile nobody else changes anything, and the lock may be held
    // by a thread that is not there.

    [[nodiscard]] device_info info(bool in_child) const {
        const auto lock = look(in_child);
        return info_;
    }
    [[nodiscard]] std::shared_ptr<Crew> threads(bool in_child) const {
        const auto lock = look(in_child);
        return threads_;
    }
    [[nodiscard]] records counted(bool in_child) const {
        const auto lock = look(in_child);
        return records_;
    }
    /// "" before the first start.
    [[nodiscard]] std::string node(const char* prefix, bool in_child) const {
        const auto lock = look(in_child);
        return started_once_ ? prefix + std::to_string(info_.id) : std::string{};
    }

private:
    [[nodiscard]] std::unique_lock<Mutex> look(bool in_child) const {
        return in_child ? std::unique_lock<Mutex>{} : std::unique_lock<Mutex>{mutex_};
    }

    mutable Mutex mutex_;
    std::shared_ptr<Crew> threads_;
    records records_;
    device_info info_;
    bool started_once_ = false;
};

}  // namespace ublk::inline v0
