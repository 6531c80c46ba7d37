// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/config.hpp>
#include <ublk/coroutine/runtime_queue.hpp>
#include <ublk/error.hpp>

#include <utility>

namespace ublk::inline v0 {

/// The way back of what was handed to another thread by `io::hand_over`: whoever has it answers,
/// once, from any thread. Dropped, it answers with EIO.
class [[nodiscard]] return_ticket {
public:
    return_ticket(io_thread& home, detail::errand& done) noexcept : home_{&home}, errand_{&done} {}
    return_ticket(return_ticket&& other) noexcept
        : home_{other.home_}, errand_{std::exchange(other.errand_, nullptr)} {}
    return_ticket& operator=(return_ticket&&) = delete;
    ~return_ticket() {
        if (errand_ != nullptr) {
            home_->came_back(*errand_);
        }
    }

    void answer(result value) && noexcept {
        UBLK_ASSERT(errand_ != nullptr, "a ticket answers exactly once");
        errand_->answer = value;
        home_->came_back(*std::exchange(errand_, nullptr));
    }

    /// The device is being stopped by force: answer soon, with whatever.
    [[nodiscard]] bool cancelled() const noexcept { return home_->cancelling(); }

private:
    io_thread* home_;
    detail::errand* errand_;
};

}  // namespace ublk::inline v0
