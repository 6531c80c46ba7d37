// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/kernel/host.hpp>

#include <cstddef>
#include <exception>
#include <mutex>
#include <stop_token>
#include <utility>

namespace ublk::inline v0::detail {

/// How the queue threads of one device stand, as they tell and as others wait for it. All functions
/// may be called by any thread.
template <class Kernel>
class threads_status {
public:
    /// So many more are at work.
    void begun(std::size_t count) {
        const std::lock_guard lock{mutex_};
        at_work_ += count;
    }

    /// A thread has offered its tags. `ring_flags` are IORING_SETUP_* of its ring.
    void ready(unsigned ring_flags) {
        const std::lock_guard lock{mutex_};
        ++ready_;
        ring_flags_ = ring_flags;
        changed_.notify_all();
    }

    /// A thread cannot begin. The first error counts.
    void refused(std::exception_ptr error) noexcept {
        const std::lock_guard lock{mutex_};
        refused_ = refused_ ? refused_ : std::move(error);
        changed_.notify_all();
    }

    /// A thread has ended with that errno (negative). The first counts.
    void failed(int code) noexcept {
        const std::lock_guard lock{mutex_};
        failure_ = failure_ != 0 ? failure_ : code;
        changed_.notify_all();
    }

    /// START_DEV has ended, or is not going to be sent.
    void start_resolved() noexcept {
        const std::lock_guard lock{mutex_};
        start_resolved_ = true;
        changed_.notify_all();
    }
    [[nodiscard]] bool is_start_resolved() const noexcept {
        const std::lock_guard lock{mutex_};
        return start_resolved_;
    }
    void wait_until_start_resolved() noexcept {
        std::unique_lock lock{mutex_};
        changed_.wait(lock, std::stop_token{}, [this] { return start_resolved_; });
    }

    /// A thread has left. `send_home()` is called where the others are to follow it, `close()`
    /// after the last; whoever waits for `gone` sees what both have done.
    template <class SendHome, class Close>
    void left(SendHome send_home, Close close) noexcept {
        const std::lock_guard lock{mutex_};
        if (start_resolved_ && (failure_ != 0 || refused_ != nullptr)) {
            send_home();
        }
        if (--at_work_ == 0) {
            close();
        }
        changed_.notify_all();
    }

    /// Calls `close()` where no thread is at work.
    template <class Close>
    void if_gone(Close close) {
        const std::lock_guard lock{mutex_};
        if (at_work_ == 0) {
            close();
        }
    }

    /// Waits until `count` threads are ready. Rethrows what one failed with; false at the deadline.
    [[nodiscard]] bool wait_ready(std::size_t count, deadline until) {
        std::unique_lock lock{mutex_};
        const bool settled = changed_.wait_until(
            lock, until, [&] { return refused_ != nullptr || ready_ == count; });
        if (refused_ != nullptr) {
            std::rethrow_exception(refused_);
        }
        return settled;
    }

    /// Waits until no thread is left; false at the deadline.
    [[nodiscard]] bool gone(deadline until) {
        std::unique_lock lock{mutex_};
        return changed_.wait_until(lock, until, [this] { return at_work_ == 0; });
    }

    /// Waits until no thread is left, or until `token` is triggered.
    void gone(const std::stop_token& token) {
        std::unique_lock lock{mutex_};
        changed_.wait(lock, token, [this] { return at_work_ == 0; });
    }

    /// 0, or the errno (negative) with which the first thread failed while serving.
    [[nodiscard]] int failure() const {
        const std::lock_guard lock{mutex_};
        return failure_;
    }

    /// After `wait_ready`.
    [[nodiscard]] unsigned ring_flags() const {
        const std::lock_guard lock{mutex_};
        return ring_flags_;
    }

private:
    mutable typename Kernel::mutex mutex_;
    typename Kernel::condition changed_;
    std::exception_ptr refused_;
    std::size_t ready_ = 0;
    std::size_t at_work_ = 0;
    unsigned ring_flags_ = 0;
    int failure_ = 0;
    bool start_resolved_ = false;
};

}  // namespace ublk::inline v0::detail
