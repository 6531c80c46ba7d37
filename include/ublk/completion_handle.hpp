// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/config.hpp>
#include <ublk/coroutine/runtime_queue.hpp>
#include <ublk/error.hpp>
#include <ublk/result.hpp>

#include <utility>

namespace ublk::inline v0 {

/// Answers what `io::offload` passed to another thread: once. Where it is dropped, the answer is
/// EIO.
///
/// Thread: any.
class [[nodiscard]] completion_handle {
public:
    completion_handle(detail::runtime_queue& home, detail::offloaded& done) noexcept
        : home_{&home}, offloaded_{&done} {}
    completion_handle(completion_handle&& other) noexcept
        : home_{other.home_}, offloaded_{std::exchange(other.offloaded_, nullptr)} {}
    completion_handle& operator=(completion_handle&&) = delete;
    ~completion_handle() {
        if (offloaded_ != nullptr) {
            home_->completed(*offloaded_);
        }
    }

    void answer(result value) && noexcept {
        UBLK_ASSERT(offloaded_ != nullptr, "a completion handle answers exactly once");
        offloaded_->answer = value;
        home_->completed(*std::exchange(offloaded_, nullptr));
    }

    /// Whether the device is being stopped by force: then answer soon, with an error for instance.
    [[nodiscard]] bool cancelled() const noexcept { return home_->cancelling(); }

private:
    detail::runtime_queue* home_;
    detail::offloaded* offloaded_;
};

}  // namespace ublk::inline v0
